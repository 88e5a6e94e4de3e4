// The narrow door between fibers and the kernel: operations that park a fiber, and streams of accepted
// connections.
//
// io_uring stands behind it (ring.hpp); nothing outside of an engine knows which one it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <weft/runtime/clock.hpp>
#include <weft/runtime/counter.hpp>
#include <weft/runtime/result.hpp>

struct sockaddr;
struct msghdr;

namespace weft {

struct fiber_block;
struct waiter;

/// One thing that the kernel does for a fiber. It lies on the stack of the fiber that waits for it, which
/// leaves the function only when `done` is set (R4).
struct operation {
    enum class kind : std::uint8_t {
        receive,       ///< recv(descriptor, data, length, flags)
        send,          ///< send(descriptor, data, length, flags)
        send_message,  ///< sendmsg(descriptor, message, flags)
        connect,       ///< connect(descriptor, data as sockaddr, length)
        accept,        ///< accept4(descriptor, SOCK_CLOEXEC); the result is the new descriptor
        poll,          ///< until one of the poll(2) events in `flags` is there; the result is the events
    };

    kind what{};
    bool done = false;  ///< Set when the engine reports that the operation has left the kernel.
    /// A send that the kernel takes whole at once reports nothing: `done` stays false, and the operation has
    /// left the kernel when has_taken() says so. One that it cannot take whole fails at once with what it
    /// took, or -EAGAIN, and never waits: `done` is set before has_taken() becomes true.
    bool quiet = false;
    std::uint32_t ticket = 0;  ///< The engine's, for has_taken().
    int descriptor = -1;
    int flags = 0;
    std::int32_t result = 0;  ///< As the system call would give it, or the negative errno.
    void* data = nullptr;
    std::size_t length = 0;  ///< Of a send at most operation_bytes_max; a receive takes no more at once.
    fiber_block* waiting_fiber = nullptr;  ///< Woken when it is done.
};

/// An operation's length has 32 bits, and the kernel moves no more than about 2 GiB at once.
inline constexpr std::size_t operation_bytes_max = std::size_t{1} << 30;

/// Connections as they come from one listening socket. A long-lived object: it is disarmed before it ends.
struct accept_stream {
    int descriptor = -1;
    std::deque<int> accepted;              ///< Descriptors that nobody has taken yet, the oldest first.
    int error = 0;                         ///< The positive errno that ended the stream; armed is false then.
    bool armed = false;                    ///< The kernel may still report.
    fiber_block* waiting_fiber = nullptr;  ///< Woken when something has come; nullptr when nobody waits.
};

class engine;

/// Bytes as they come from one connected socket, into a small pool of buffers that belongs to the engine.
/// Nobody holds a buffer while nothing comes. Made and ended by the engine; used on its thread only, until
/// the engine has let go of it.
struct receive_stream {
    static constexpr std::uint16_t no_piece = UINT16_MAX;

    engine* owner = nullptr;  ///< On whose thread it is used.
    int descriptor = -1;
    int error = 0;         ///< The positive errno that ended it; armed is false then.
    bool ended = false;    ///< The peer has finished sending; armed is false then.
    bool armed = false;    ///< The kernel may still report.
    bool closing = false;  ///< Ends when it is no longer armed.
    std::uint16_t first_piece =
        no_piece;  ///< Pool buffers that came for the fiber that waits, and were not taken yet.
    std::uint16_t last_piece = no_piece;
    fiber_block* waiting_fiber = nullptr;  ///< Woken when something has come; nullptr when nobody waits.
    std::vector<std::byte>
        kept;                    ///< What came while nobody waited, so that the pool's buffers could go back.
    std::size_t kept_taken = 0;  ///< Bytes of `kept` that were taken already.
    receive_stream* next_closing = nullptr;
    receive_stream* previous_closing = nullptr;

    // How it leaves its engine (engine::let_go).
    waiter* taker = nullptr;  ///< Who waits to have it; nullptr: it is to end. Written by the other thread.
    receive_stream* next_leaving = nullptr;  ///< Link of the list in which the engine finds it.
    bool leaving = false;                    ///< The engine has found it there, and is disarming it.

    bool has_input() const noexcept { return first_piece != no_piece || kept_taken < kept.size(); }
};

/// What an engine has done so far; counted by its worker, read by anybody.
struct engine_counters {
    counter enters;           ///< System calls that submit, wait or look.
    counter submitted;        ///< Operations handed to the kernel.
    counter completed;        ///< Completions taken from it.
    counter overflows;        ///< Times that the completion queue was found overflown.
    counter buffers_ran_out;  ///< Times that a stream had to be armed again, because the pool was empty.
    counter wakes_received;   ///< Wake-ups by other threads.
};

/// One per worker. Every function but wake() is called by the worker's own thread.
class engine {
  public:
    engine() = default;
    engine(const engine&) = delete;
    engine& operator=(const engine&) = delete;
    virtual ~engine() = default;

    /// Hands an operation to the kernel not later than in the next turn().
    virtual void start(operation& operation) noexcept = 0;
    /// Asks the kernel to give up. The operation is done later all the same, with -ECANCELED or with its own
    /// result.
    virtual void cancel(operation& operation) noexcept = 0;

    virtual void arm(accept_stream& stream) noexcept = 0;
    /// The stream is disarmed when `armed` becomes false, a turn or so later; its fiber is woken then.
    virtual void disarm(accept_stream& stream) noexcept = 0;
    /// Takes the stream over: disarms it, and closes its connections and its descriptor when it has left the
    /// kernel.
    virtual void abandon(std::unique_ptr<accept_stream> stream) noexcept = 0;

    /// Of a quiet operation: it has left the kernel.
    virtual bool has_taken(const operation& quiet) const noexcept = 0;

    /// A stream for a connected socket, not armed; nullptr when the kernel has no such thing, or there is no
    /// memory.
    virtual receive_stream* open_stream(int descriptor) noexcept = 0;
    virtual void arm(receive_stream& stream) noexcept = 0;
    /// As for accept_stream.
    virtual void disarm(receive_stream& stream) noexcept = 0;
    /// Moves what has come into `buffer`, and says how many bytes that were. What finds no room is kept.
    virtual std::size_t take(receive_stream& stream, std::span<std::byte> buffer) noexcept = 0;
    /// Drops what has come, disarms, and ends the stream. The descriptor may be closed next.
    virtual void end(receive_stream& stream) noexcept = 0;
    /// Any other thread that has the use of the stream: makes this engine, which owns it, disarm it and keep
    /// in it what has come; then it wakes `taker`, whose the stream is from then on. Without a taker the
    /// stream ends.
    virtual void let_go(receive_stream& stream) noexcept = 0;
    /// Takes over a stream that its engine has let go of.
    virtual void adopt(receive_stream& stream) noexcept = 0;

    /// Closes a descriptor on which nothing is in flight, not later than in the next turn(). Nobody is told.
    virtual void close(int descriptor) noexcept = 0;

    /// Submits what was started, and reports what has completed. Waits for something to report until `until`,
    /// which is in the past when it shall only look.
    virtual void turn(time_point now, time_point until) noexcept = 0;

    /// A turn() that only looks would find something. Cheap: no system call.
    virtual bool ready() const noexcept = 0;

    /// Any thread: makes a turn() that waits, or the next one that would, return.
    virtual void wake() noexcept = 0;

    virtual const engine_counters& counters() const noexcept = 0;
    /// For the log: what was found, for example `io_uring (single issuer, deferred task work)`.
    virtual std::string description() const = 0;
};

/// Makes an engine on the thread that will use it. The clock is the one whose times turn() is given.
using engine_factory = result<std::unique_ptr<engine>> (*)();

}  // namespace weft
