// How a fiber waits for the kernel. Internal: net is written with it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include <weft/runtime/buffer_source.hpp>
#include <weft/runtime/clock.hpp>
#include <weft/runtime/engine.hpp>
#include <weft/runtime/result.hpp>

namespace weft {

/// What a wait for an operation heeds besides the operation itself.
struct wait_options {
    time_point deadline = no_deadline;
    /// The wait is for input: when the fiber was asked to take the input as ended (a server drains), the
    /// result is 0.
    bool ends_with_input = false;
    /// False for what must be finished even by a fiber that was asked to stop.
    bool heeds_cancel = true;
};

/// Starts an operation in the running fiber and parks until it has left the kernel. The result as the system
/// call would give it. Errors: the system's; errc::timed_out and errc::cancelled when the kernel gave the
/// operation up for that reason. An operation that succeeds at the last moment has succeeded.
[[nodiscard]] result<std::size_t> perform(operation& operation, const wait_options& options = {}) noexcept;

struct exchanged {
    result<void> sent;
    result<std::size_t> received;  ///< When nothing could be sent, the same error.
};

/// Starts a quiet send of all of `to_send` and then `receive`, in one submission, and parks until both have
/// left the kernel. A peer that reads slowly is given until `send_deadline`; `options` is for `receive`.
[[nodiscard]] exchanged send_and_perform(operation& to_send, time_point send_deadline, operation& receive,
                                         const wait_options& options = {}) noexcept;

/// The running fiber stays on its worker, so that it may leave something armed in its engine. A mobile one
/// does not.
bool may_arm() noexcept;

/// A receive stream for `descriptor` on the running fiber's worker; nullptr when there is none to be had,
/// also for a mobile fiber. A fiber of another worker may use it afterwards: it is brought there first, with
/// what has come.
receive_stream* open_stream(int descriptor) noexcept;
/// Ends it. Does not park. Any thread.
void end_stream(receive_stream& stream) noexcept;

/// Parks until something has come, and moves it into `buffer()`: the part of it that was filled; empty at the
/// end of the stream. The errors are those of perform().
[[nodiscard]] result<std::span<std::byte>> receive_from(receive_stream& stream, buffer_source buffer,
                                                        const wait_options& options = {}) noexcept;
/// The same for much: the stream is disarmed first, and the kernel writes to `buffer` itself.
[[nodiscard]] result<std::span<std::byte>> receive_directly(receive_stream& stream,
                                                            std::span<std::byte> buffer,
                                                            const wait_options& options = {}) noexcept;

struct exchanged_bytes {
    result<void> sent;
    result<std::span<std::byte>> received;  ///< When nothing could be sent, the same error.
};
/// send_and_perform with a stream to receive from.
[[nodiscard]] exchanged_bytes send_and_receive_from(operation& to_send, time_point send_deadline,
                                                    receive_stream& stream, buffer_source buffer,
                                                    const wait_options& options = {}) noexcept;

/// Parks until a poll(2) event of `events` is there, and returns those that are.
[[nodiscard]] result<int> wait_for_events(int descriptor, int events,
                                          const wait_options& options = {}) noexcept;

/// Parks until stream.accepted has something, or the stream has ended (armed is false). Errors:
/// errc::timed_out, errc::cancelled.
[[nodiscard]] result<void> wait_for_connection(accept_stream& stream, time_point deadline) noexcept;

/// Parks until `when`, whatever the fiber is asked meanwhile.
void sleep_regardless(time_point when) noexcept;

/// Closes a descriptor on which nothing is in flight: through the engine when a fiber calls, else at once.
/// Does not park.
void close_descriptor(int descriptor) noexcept;

/// Takes the stream from the engine; returns when the kernel holds nothing of it any more.
void disarm_and_wait(accept_stream& stream) noexcept;

/// Arms the stream on the engine of the running fiber's worker, which alone may take it back.
void arm(accept_stream& stream) noexcept;

/// The engine of the worker that armed it takes the stream over, disarms it, and closes what is left in it.
/// Does not park. Only on that worker's thread.
void abandon(std::unique_ptr<accept_stream> stream) noexcept;

}  // namespace weft
