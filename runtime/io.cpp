#include <weft/runtime/io.hpp>

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include <weft/runtime/fiber.hpp>
#include <weft/runtime/worker.hpp>

namespace weft {
namespace {

// One wait of the running fiber: arms its deadline, and tells why the wait should be given up.
class wait_scope {
  public:
    /// `waits_for` is a literal, for reports.
    wait_scope(const char* waits_for, const wait_options& options) noexcept
        : fiber_(current_fiber()), options_(options) {
        fiber_.waits_for = waits_for;
        fiber_.waits_since = home().now();
        end_send();
    }
    wait_scope(const wait_scope&) = delete;
    wait_scope& operator=(const wait_scope&) = delete;
    ~wait_scope() {
        // A mobile fiber may be on another worker by now, but then its deadline is too.
        fiber_.deadline.due = no_deadline;
    }

    /// What follows does not wait for input, and has a deadline of its own.
    void begin_send(time_point deadline) noexcept {
        ends_with_input_ = false;
        set_deadline(deadline);
    }
    void end_send() noexcept {
        ends_with_input_ = options_.ends_with_input;
        set_deadline(options_.deadline);
    }

    fiber_block& fiber() noexcept { return fiber_; }
    /// Whose engine has what the fiber has in flight: while there is something it stays. Else a mobile fiber
    /// may be on another worker after each park.
    worker& home() noexcept { return *worker::current(); }

    /// Also asked before a wait: what can be had at once would keep a fiber that was asked to stop.
    bool cancelled() const noexcept { return options_.heeds_cancel && cancel_requested(); }

    enum class reason { none, timed_out, cancelled, input_ended };
    reason to_give_up() const noexcept {
        if (cancelled()) return reason::cancelled;
        if (ends_with_input_ && fiber_.requests.pending(request_end_input)) return reason::input_ended;
        if (fiber_.timer_fired) return reason::timed_out;
        return reason::none;
    }

  private:
    void set_deadline(time_point deadline) noexcept {
        fiber_.timer_fired = false;
        if (deadline != no_deadline)
            home().wheel().arm(fiber_.deadline, deadline);
        else
            home().wheel().disarm(fiber_.deadline);
    }

    fiber_block& fiber_;
    const wait_options& options_;
    bool ends_with_input_;
};

const char* name_of(operation::kind what) noexcept {
    switch (what) {
        case operation::kind::receive:
            return "a receive";
        case operation::kind::send:
        case operation::kind::send_message:
            return "a send";
        case operation::kind::connect:
            return "a connect";
        case operation::kind::accept:
            return "a connection";
        case operation::kind::poll:
            return "a poll";
    }
    return "an operation";
}

// Parks until the operation, which was started, has left the kernel; asks for that when there is a reason to
// give up.
wait_scope::reason wait_until_done(wait_scope& scope, operation& started) noexcept {
    auto reason = wait_scope::reason::none;
    while (!started.done) {
        if (reason == wait_scope::reason::none) {
            reason = scope.to_give_up();
            if (reason != wait_scope::reason::none) scope.home().io().cancel(started);
        }
        park();
    }
    return reason;
}

void start(wait_scope& scope, operation& operation) noexcept {
    operation.done = false;
    operation.waiting_fiber = &scope.fiber();
    ++scope.fiber().operations_in_flight;
    scope.home().io().start(operation);
}

result<std::size_t> outcome(const operation& finished, wait_scope::reason reason) noexcept {
    if (finished.result >= 0) return static_cast<std::size_t>(finished.result);
    if (finished.result == -ECANCELED) {
        switch (reason) {
            case wait_scope::reason::timed_out:
                return failure(errc::timed_out);
            case wait_scope::reason::cancelled:
                return failure(errc::cancelled);
            case wait_scope::reason::input_ended:
                return std::size_t{0};
            case wait_scope::reason::none:
                break;
        }
    }
    return failure(system_error(-finished.result));
}

// A quiet send could not be taken whole, because the peer reads slowly: what is left goes the patient way.
result<void> send_rest(wait_scope& scope, const operation& quiet) noexcept {
    if (quiet.result < 0 && quiet.result != -EAGAIN) return failure(system_error(-quiet.result));
    const std::size_t taken = quiet.result > 0 ? static_cast<std::size_t>(quiet.result) : 0;
    operation rest = quiet;
    rest.quiet = false;
    rest.flags |= MSG_WAITALL;  // the kernel goes on after a short send
    rest.data = static_cast<std::byte*>(quiet.data) + taken;
    rest.length = quiet.length - taken;
    start(scope, rest);
    const auto reason = wait_until_done(scope, rest);
    const std::size_t sent = WEFT_TRY(outcome(rest, reason));
    if (sent == rest.length) return {};
    // It was given up half-way.
    return failure(reason == wait_scope::reason::cancelled ? errc::cancelled : errc::timed_out);
}

}  // namespace

result<std::size_t> perform(operation& operation, const wait_options& options) noexcept {
    wait_scope scope(name_of(operation.what), options);
    if (scope.cancelled()) return failure(errc::cancelled);
    start(scope, operation);
    const auto reason = wait_until_done(scope, operation);
    return outcome(operation, reason);
}

exchanged send_and_perform(operation& to_send, time_point send_deadline, operation& receive,
                           const wait_options& options) noexcept {
    wait_scope scope("a receive", options);
    if (scope.cancelled()) return {failure(errc::cancelled), failure(errc::cancelled)};
    to_send.quiet = true;
    start(scope, to_send);
    start(scope, receive);
    // The kernel tries the send while it takes the submission, before it looks at `receive`; so a report of a
    // send that it could not take whole comes before that of `receive`, and when `receive` is done and the
    // send has reported nothing, the send has succeeded.
    auto reason = wait_scope::reason::none;
    result<void> sent;
    bool reported = false;  // the quiet send was
    while (!receive.done || to_send.done) {
        if (to_send.done) {
            reported = true;
            to_send.done = false;
            scope.begin_send(send_deadline);
            sent = send_rest(scope, to_send);
            scope.end_send();
            if (!sent && !receive.done) scope.home().io().cancel(receive);
            continue;
        }
        if (reason == wait_scope::reason::none && sent) {
            reason = scope.to_give_up();
            if (reason != wait_scope::reason::none) scope.home().io().cancel(receive);
        }
        park();
    }
    if (!reported) --scope.fiber().operations_in_flight;
    if (!sent) return {sent, failure(sent.error())};
    return {{}, outcome(receive, reason)};
}

bool may_arm() noexcept {
    return !current_fiber().mobile();
}

receive_stream* open_stream(int descriptor) noexcept {
    return may_arm() ? worker::current()->io().open_stream(descriptor) : nullptr;
}

void end_stream(receive_stream& stream) noexcept {
    worker* here = worker::current();
    if (here != nullptr && stream.owner == &here->io()) return here->io().end(stream);
    stream.taker = nullptr;
    stream.owner->let_go(stream);
}

namespace {

// Waits until the stream has input or will have none. While it waits it is the stream's fiber.
class stream_wait {
  public:
    stream_wait(wait_scope& scope, receive_stream& stream) noexcept : scope_(scope), stream_(stream) {
        stream_.waiting_fiber = &scope.fiber();
    }
    stream_wait(const stream_wait&) = delete;
    stream_wait& operator=(const stream_wait&) = delete;
    ~stream_wait() { pause(); }

    /// Until resume() what comes is kept, like everything that comes while nobody waits: the engine's buffers
    /// go back.
    void pause() noexcept {
        stream_.waiting_fiber = nullptr;
        if (stream_.first_piece != receive_stream::no_piece) scope_.home().io().take(stream_, {});
    }
    void resume() noexcept { stream_.waiting_fiber = &scope_.fiber(); }

    bool over() noexcept {
        return stream_.has_input() || stream_.ended || stream_.error != 0 || reason_ != reason::none;
    }

    /// Parks once, unless there is a reason to give up. Giving up costs nothing: the stream stays armed.
    void step() noexcept {
        reason_ = scope_.to_give_up();
        if (reason_ != reason::none) return;
        if (!stream_.armed) scope_.home().io().arm(stream_);
        park();
    }

    result<std::span<std::byte>> outcome(buffer_source buffer) noexcept {
        if (stream_.has_input()) {
            const std::span<std::byte> space = buffer();
            return space.first(scope_.home().io().take(stream_, space));
        }
        if (stream_.error != 0) return failure(system_error(stream_.error));
        if (reason_ == reason::timed_out) return failure(errc::timed_out);
        if (reason_ == reason::cancelled) return failure(errc::cancelled);
        return std::span<std::byte>{};
    }

  private:
    using reason = wait_scope::reason;
    wait_scope& scope_;
    receive_stream& stream_;
    reason reason_ = reason::none;
};

}  // namespace

namespace {

// The stream may have been armed by the engine of another worker, from which it, or its fiber, has come.
void bring_here(receive_stream& stream) noexcept {
    engine& here = worker::current()->io();
    if (stream.owner == &here) [[likely]]
        return;
    waiter self("its connection's input, from another worker");
    stream.taker = &self;
    stream.owner->let_go(stream);
    self.wait();
    worker::current()->io().adopt(stream);
}

// A stream that is not armed, and has nothing, is nothing but its descriptor.
result<std::span<std::byte>> receive_unarmed(receive_stream& stream, std::span<std::byte> buffer,
                                             const wait_options& options) noexcept {
    operation receive{.what = operation::kind::receive,
                      .descriptor = stream.descriptor,
                      .data = buffer.data(),
                      .length = buffer.size()};
    return buffer.first(WEFT_TRY(perform(receive, options)));
}

bool has_something(const receive_stream& stream) noexcept {
    return stream.has_input() || stream.ended || stream.error != 0;
}

}  // namespace

result<std::span<std::byte>> receive_from(receive_stream& stream, buffer_source buffer,
                                          const wait_options& options) noexcept {
    bring_here(stream);
    if (!may_arm() && !has_something(stream)) return receive_unarmed(stream, buffer(), options);
    wait_scope scope("a receive", options);
    if (scope.cancelled()) return failure(errc::cancelled);
    stream_wait wait(scope, stream);
    while (!wait.over()) wait.step();
    return wait.outcome(buffer);
}

result<std::span<std::byte>> receive_directly(receive_stream& stream, std::span<std::byte> buffer,
                                              const wait_options& options) noexcept {
    bring_here(stream);
    if (stream.armed && !stream.has_input()) {
        // What arrives until the stream is disarmed comes through it.
        stream.waiting_fiber = &current_fiber();
        worker::current()->io().disarm(stream);
        while (stream.armed) park();
        stream.waiting_fiber = nullptr;
    }
    if (stream.armed || has_something(stream)) {
        const auto get = [buffer] { return buffer; };
        return receive_from(stream, get, options);
    }
    return receive_unarmed(stream, buffer, options);
}

exchanged_bytes send_and_receive_from(operation& to_send, time_point send_deadline, receive_stream& stream,
                                      buffer_source buffer, const wait_options& options) noexcept {
    bring_here(stream);
    if (!may_arm() && !has_something(stream)) {
        const std::span<std::byte> space = buffer();
        operation receive{.what = operation::kind::receive,
                          .descriptor = stream.descriptor,
                          .data = space.data(),
                          .length = space.size()};
        exchanged done = send_and_perform(to_send, send_deadline, receive, options);
        return {std::move(done.sent),
                done.received.map([space](std::size_t bytes) { return space.first(bytes); })};
    }
    {
        wait_scope scope("a receive", options);
        stream_wait wait(scope, stream);
        if (!wait.over() && scope.to_give_up() == wait_scope::reason::none) {
            to_send.quiet = true;
            start(scope, to_send);
            result<void> sent;
            bool reported = false;  // the quiet send was
            // Whatever wakes the fiber, it stays until the kernel has taken the send; the report of a send
            // that could not be taken whole comes before that.
            while (sent && (to_send.done || !scope.home().io().has_taken(to_send) || !wait.over())) {
                if (to_send.done) {
                    reported = true;
                    to_send.done = false;
                    // A peer that sends and does not read must not have the engine's buffers for as long as
                    // it likes.
                    wait.pause();
                    scope.begin_send(send_deadline);
                    sent = send_rest(scope, to_send);
                    scope.end_send();
                    wait.resume();
                } else if (wait.over()) {
                    yield();
                } else {
                    wait.step();
                }
            }
            if (!reported) --scope.fiber().operations_in_flight;
            if (!sent) return {sent, failure(sent.error())};
            return {{}, wait.outcome(buffer)};
        }
    }
    // There is something to receive, or a reason not to: the send must be waited for on its own.
    operation patient = to_send;
    while (patient.length != 0) {
        const auto sent = perform(patient, {.deadline = send_deadline});
        if (!sent) return {failure(sent.error()), failure(sent.error())};
        patient.data = static_cast<std::byte*>(patient.data) + *sent;
        patient.length -= *sent;
    }
    return {{}, receive_from(stream, buffer, options)};
}

result<int> wait_for_events(int descriptor, int events, const wait_options& options) noexcept {
    operation poll{.what = operation::kind::poll, .descriptor = descriptor, .flags = events};
    auto seen = perform(poll, options);
    if (!seen) return failure(seen.error());
    return static_cast<int>(*seen);
}

result<void> wait_for_connection(accept_stream& stream, time_point deadline) noexcept {
    const wait_options options{.deadline = deadline};
    wait_scope scope("a connection", options);
    stream.waiting_fiber = &scope.fiber();
    auto reason = wait_scope::reason::none;
    while (stream.accepted.empty() && stream.armed && reason == wait_scope::reason::none) {
        reason = scope.to_give_up();
        if (reason == wait_scope::reason::none) park();
    }
    stream.waiting_fiber = nullptr;
    if (reason == wait_scope::reason::cancelled) return failure(errc::cancelled);
    if (reason == wait_scope::reason::timed_out) return failure(errc::timed_out);
    return {};
}

void arm(accept_stream& stream) noexcept {
    worker::current()->io().arm(stream);
}

void disarm_and_wait(accept_stream& stream) noexcept {
    stream.waiting_fiber = &current_fiber();
    if (stream.armed) worker::current()->io().disarm(stream);
    while (stream.armed) park();
    stream.waiting_fiber = nullptr;
}

void abandon(std::unique_ptr<accept_stream> stream) noexcept {
    worker* here = worker::current();
    WEFT_ASSERT(here != nullptr, "a listener that has accepted must be closed by a fiber of the same worker");
    here->io().abandon(std::move(stream));
}

void close_descriptor(int descriptor) noexcept {
    worker* here = worker::current();
    if (here != nullptr)
        here->io().close(descriptor);
    else
        ::close(descriptor);
}

void sleep_regardless(time_point when) noexcept {
    const wait_options options{.deadline = when, .heeds_cancel = false};
    wait_scope scope("a time", options);
    while (scope.to_give_up() == wait_scope::reason::none) park();
}

namespace this_fiber {

result<void> sleep_until(time_point when) noexcept {
    const wait_options options{.deadline = when};
    wait_scope scope("a time", options);
    for (;;) {
        switch (scope.to_give_up()) {
            case wait_scope::reason::timed_out:
                return {};
            case wait_scope::reason::cancelled:
                return failure(errc::cancelled);
            default:
                park();
        }
    }
}

result<void> sleep_for(duration time) noexcept {
    return sleep_until(deadline_after(worker::current()->owner().time().now(), time));
}

}  // namespace this_fiber

}  // namespace weft
