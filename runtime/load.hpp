// How loaded a worker is, in the form in which others may look at it, and when it should pass work on.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include <weft/runtime/clock.hpp>

namespace weft {

/// Written by its worker once per turn, read by any that looks for a place to put a fiber. Lies on a line of
/// its own. All values are hints: relaxed, and a turn old.
///
/// What is measured is how long a turn of the worker's loop takes, because that is how long a fiber waits
/// that is woken now; it counts a few fibers that compute for long as well as many that do little.
class alignas(64) load_meter {
  public:
    static constexpr std::uint32_t threshold_min = 40;
    static constexpr std::uint32_t threshold_max = 95;

    /// The worker's, once per turn: how long the turn took, and how many live here.
    void observe(duration turn, std::uint32_t live) noexcept {
        average(turn, turn);
        set(level_, level_of(smoothed_));
        set(live_, live);
        if (++turns_ % turns_per_adaptation == 0) adapt();
    }

    /// The worker's, before it sleeps: what is sent to it will run at once.
    void rest() noexcept { set(level_, 0); }
    /// The worker's, after it has slept.
    void rested(duration slept) noexcept {
        average(duration{0}, slept);
        set(level_, level_of(smoothed_));
    }

    /// 0..100: half when a turn takes 250 µs, 80 at 1 ms, near 100 at tens of milliseconds.
    std::uint32_t level() const noexcept { return level_.load(std::memory_order_relaxed); }
    /// Above this level a worker passes on what may move. Falls under sustained overload, rises when idle.
    std::uint32_t threshold() const noexcept { return threshold_.load(std::memory_order_relaxed); }
    bool overloaded() const noexcept { return level() > threshold(); }
    /// The worker's own view, which knows no rest: 0..100 as well.
    std::uint32_t own_level() const noexcept { return level_of(smoothed_); }
    /// Fibers whose home this worker is.
    std::uint32_t live() const noexcept { return live_.load(std::memory_order_relaxed); }

  private:
    static constexpr duration half_load{250'000};
    static constexpr duration memory{5'000'000};
    static constexpr std::uint32_t turns_per_adaptation = 256;

    static std::uint32_t level_of(std::int64_t turn_ns) noexcept {
        return static_cast<std::uint32_t>(100 * turn_ns / (turn_ns + half_load.count()));
    }

    // How long somebody waits who comes at any moment: the average over time, in which a long turn counts for
    // as long as it takes, and so does a sleep. What is `memory` old counts for little.
    void average(duration value, duration lasted) noexcept {
        const std::int64_t weight = std::min(lasted, 8 * memory).count();
        smoothed_ += (value.count() - smoothed_) * weight / (weight + memory.count());
    }

    // A line that others read is only written when something changed.
    static void set(std::atomic<std::uint32_t>& value, std::uint32_t now) noexcept {
        if (value.load(std::memory_order_relaxed) != now) value.store(now, std::memory_order_relaxed);
    }

    void adapt() noexcept {
        if (level() > 90)
            set(threshold_, std::max(threshold() - 5, threshold_min));
        else if (level() < 30)
            set(threshold_, std::min(threshold() + 5, threshold_max));
    }

    std::atomic<std::uint32_t> level_{0};
    std::atomic<std::uint32_t> threshold_{80};
    std::atomic<std::uint32_t> live_{0};
    std::int64_t smoothed_ = 0;  // nanoseconds
    std::uint32_t turns_ = 0;
};

}  // namespace weft
