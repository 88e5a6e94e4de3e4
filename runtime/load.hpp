// How loaded a worker is, in the form in which others may look at it, and when it should pass work on.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace weft {

/// Written by its worker once per turn, read by any that looks for a place to put a fiber. Lies on a line of
/// its own. All values are hints: relaxed, and a turn old.
class alignas(64) load_meter {
  public:
    static constexpr std::uint32_t threshold_min = 40;
    static constexpr std::uint32_t threshold_max = 95;

    /// The worker's, once per turn: how many fibers are runnable, and how many live here.
    void observe(std::uint32_t runnable, std::uint32_t live) noexcept {
        // Smoothed over about eight turns, in 1/16 of a fiber.
        smoothed_ = smoothed_ - smoothed_ / 8 + runnable * 2;
        set(level_, static_cast<std::uint32_t>(100ull * smoothed_ / (smoothed_ + 16 * half_load)));
        set(live_, live);
        if (++turns_ % turns_per_adaptation == 0) adapt();
    }

    /// 0..100: half when 16 fibers are runnable at each turn, near 100 when hundreds are.
    std::uint32_t level() const noexcept { return level_.load(std::memory_order_relaxed); }
    /// Above this level a worker passes on what may move. Falls under sustained overload, rises when idle.
    std::uint32_t threshold() const noexcept { return threshold_.load(std::memory_order_relaxed); }
    bool overloaded() const noexcept { return level() > threshold(); }
    /// Fibers whose home this worker is.
    std::uint32_t live() const noexcept { return live_.load(std::memory_order_relaxed); }

  private:
    static constexpr std::uint32_t half_load = 16;
    static constexpr std::uint32_t turns_per_adaptation = 1024;

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
    std::uint32_t smoothed_ = 0;
    std::uint32_t turns_ = 0;
};

}  // namespace weft
