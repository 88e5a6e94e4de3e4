// HTTP status codes: their phrases, and as errors that a handler can return.
#pragma once

#include <string_view>
#include <system_error>

namespace weft::http {

/// "Not Found" for 404 (RFC 9110, section 15); "Status" for a code without a phrase.
std::string_view reason_phrase(int status) noexcept;

/// An error whose value is a status of 400..599. When a handler returns it before it has answered, that is
/// the answer: `return weft::failure(weft::http::status_error(404));`
std::error_code status_error(int status) noexcept;

/// The status that an error stands for, or 0.
int status_of(const std::error_code& error) noexcept;

}  // namespace weft::http
