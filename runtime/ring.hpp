// The engine on io_uring (Linux 6.1 and later). No type of liburing leaves ring.cpp.
#pragma once

#include <weft/runtime/engine.hpp>

namespace weft {

/// What a ring is set up with. A ladder of set-ups is tried, the best first; `first_rung` skips the upper
/// ones.
struct ring_options {
    unsigned submission_entries =
        512;  ///< Operations that one turn may start before it must enter the kernel.
    unsigned completion_entries =
        8192;  ///< Sized for multishot streams; an overflow loses nothing, but costs.
    unsigned first_rung = 0;
};

/// Makes a ring for the calling thread, which alone may use it. Errors tell the cause and the remedy in their
/// message: the kernel has no io_uring, the sysctl kernel.io_uring_disabled, a seccomp filter, the limit of
/// locked memory, a build without io_uring.
[[nodiscard]] result<std::unique_ptr<engine>> make_ring(const ring_options& options);

/// make_ring with default options, as an engine_factory.
[[nodiscard]] result<std::unique_ptr<engine>> make_default_ring();

/// The error that a failed io_uring_setup with this (positive) errno stands for; EOPNOTSUPP, which that call
/// does not give, for a build without io_uring.
std::error_code ring_setup_error(int errno_value);

}  // namespace weft
