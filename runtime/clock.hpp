// Monotonic time, and the clocks that tell it: the system's, and one that tests drive by hand.
#pragma once

#include <atomic>
#include <chrono>

namespace weft {

using duration = std::chrono::nanoseconds;
using time_point = std::chrono::time_point<std::chrono::steady_clock, duration>;

/// The deadline of what may take for ever. It compares later than any other time.
inline constexpr time_point no_deadline = time_point::max();

/// now + time, but no_deadline where that is too far to name.
constexpr time_point deadline_after(time_point now, duration time) noexcept {
    return time < no_deadline - now ? now + time : no_deadline;
}

/// Tells a time that never goes back. Every thread may ask.
class clock {
  public:
    clock() = default;
    clock(const clock&) = delete;
    clock& operator=(const clock&) = delete;
    virtual ~clock() = default;

    virtual time_point now() const noexcept = 0;
};

/// The system's CLOCK_MONOTONIC. It lives as long as the process.
const clock& monotonic_clock() noexcept;

/// Stands still until it is advanced. Any thread may advance it.
class manual_clock final : public clock {
  public:
    explicit manual_clock(time_point start = {}) noexcept : now_ns_(start.time_since_epoch().count()) {}

    time_point now() const noexcept override {
        return time_point(duration(now_ns_.load(std::memory_order_acquire)));
    }

    /// Whoever sees the new time sees what this thread did before. A step back is a bug.
    void advance(duration step) noexcept;

  private:
    std::atomic<duration::rep> now_ns_;  // the release in advance() pairs with the acquire in now()
};

}  // namespace weft
