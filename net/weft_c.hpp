// What the C functions of weft.h do with errors. Internal.
#pragma once

#include <exception>
#include <system_error>

namespace weft::detail {

/// The negative errno that says it. What no errno says is logged, and is -ENOTRECOVERABLE.
int negative_errno(const std::error_code& error) noexcept;
int negative_errno(const std::exception_ptr& thrown) noexcept;

/// The way back, for what a C function returned: it must be less than 0.
std::error_code error_of_errno(int negative_errno) noexcept;

}  // namespace weft::detail
