// An engine that can wait for a time and for a wake, and nothing else: for runtimes in tests of all but I/O,
// where there is no io_uring. Each operation fails at once with ENOSYS.
#pragma once

#include <cerrno>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include <weft/runtime/engine.hpp>
#include <weft/runtime/fiber_block.hpp>

namespace weft::testing {

class sleeping_engine final : public engine {
  public:
    void start(operation& operation) noexcept override {
        operation.result = -ENOSYS;
        operation.done = true;  // the fiber that started it has not parked yet, and looks first
        --operation.waiting_fiber->operations_in_flight;
    }
    void cancel(operation&) noexcept override {}

    void arm(accept_stream& stream) noexcept override { stream.error = ENOSYS; }
    void disarm(accept_stream&) noexcept override {}
    void abandon(std::unique_ptr<accept_stream>) noexcept override {}

    bool has_taken(const operation&) const noexcept override { return true; }

    receive_stream* open_stream(int) noexcept override { return nullptr; }  // so none is ever handed in
    void arm(receive_stream&) noexcept override {}
    void disarm(receive_stream&) noexcept override {}
    std::size_t take(receive_stream&, std::span<std::byte>) noexcept override { return 0; }
    void end(receive_stream&) noexcept override {}
    void let_go(receive_stream&) noexcept override {}
    void adopt(receive_stream&) noexcept override {}

    void close(int) noexcept override {}

    void turn(time_point now, time_point until) noexcept override {
        std::unique_lock lock(mutex_);
        if (until > now) {
            counters_.enters.add();
            if (until == no_deadline)
                woken_changed_.wait(lock, [this] { return woken_; });
            else
                woken_changed_.wait_until(lock, until, [this] { return woken_; });
        }
        woken_ = false;
    }

    bool ready() const noexcept override {
        std::lock_guard lock(mutex_);
        return woken_;
    }

    void wake() noexcept override {
        std::lock_guard lock(mutex_);
        woken_ = true;
        woken_changed_.notify_one();
    }

    const engine_counters& counters() const noexcept override { return counters_; }
    std::string description() const override { return "an engine without I/O"; }

  private:
    mutable std::mutex mutex_;
    std::condition_variable woken_changed_;
    bool woken_ = false;
    engine_counters counters_;
};

inline result<std::unique_ptr<engine>> make_sleeping_engine() {
    return std::make_unique<sleeping_engine>();
}

}  // namespace weft::testing
