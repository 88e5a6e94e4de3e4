// What a call that can fail returns: a value, or the std::error_code that says why not.
#pragma once

#include <system_error>
#include <tl/expected.hpp>
#include <utility>

namespace weft {

/// A value or an error. Functions that return one are marked nodiscard. A result<void> that is well is `{}`.
template <class T>
using result = tl::expected<T, std::error_code>;

/// The error arm of any result: `return weft::failure(errc::timed_out);`
using failure = tl::unexpected<std::error_code>;

/// Errors that are weft's own; everything else travels as the system's error in std::system_category().
enum class errc {
    timed_out = 1,    ///< The deadline passed first. The operation has left the kernel.
    cancelled,        ///< The fiber was asked to stop. The operation has left the kernel.
    closed,           ///< The object was closed, by this side, before or while the call waited.
    end_of_stream,    ///< The peer finished sending before all the bytes that were asked for had come.
    address_invalid,  ///< A text is not an address of the form that was asked for.
    no_such_fiber,    ///< The handle is stale: that fiber has ended and its slot may have been reused.
    too_many_fibers,  ///< fibers_max fibers exist already.
    reported,         ///< The cause was logged where it was known, with what this code could not say.
};

const std::error_category& error_category() noexcept;

inline std::error_code make_error_code(errc code) noexcept {
    return {static_cast<int>(code), error_category()};
}

/// A (positive) errno as an error code.
inline std::error_code system_error(int errno_value) noexcept {
    return {errno_value, std::system_category()};
}

}  // namespace weft

template <>
struct std::is_error_code_enum<weft::errc> : std::true_type {};

/// The value of a result, or a return of its error from the enclosing function.
#define WEFT_TRY(...)                                                   \
    __extension__({                                                     \
        auto weft_try_result = (__VA_ARGS__);                           \
        if (!weft_try_result) [[unlikely]]                              \
            return ::weft::failure(std::move(weft_try_result).error()); \
        ::weft::detail::take(std::move(weft_try_result));               \
    })

namespace weft::detail {

template <class T>
T take(result<T>&& from) {
    return std::move(*from);
}
inline void take(result<void>&&) {}

}  // namespace weft::detail
