// A worker's deadlines: a hierarchical timing wheel (Varghese and Lauck, 1987) that makes arming and
// disarming cheap.
//
// A fiber sets a deadline at each read and lifts it a moment later, so a timer stays linked where it is when
// it is disarmed, or armed again for later: only its due time is stored. The wheel finds out when it comes to
// the slot, and then drops the timer or links it where it is due by now.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include <weft/runtime/clock.hpp>

namespace weft {

struct timer_link {
    timer_link* next = nullptr;
    timer_link* previous = nullptr;
};

/// A deadline's place in a wheel, embedded in its owner. Only the wheel writes to it. The owner removes it
/// from the wheel before it ends, moves to another worker, or lets its memory be used for something else.
struct timer {
    static constexpr std::uint64_t unlinked = UINT64_MAX;

    timer() = default;
    timer(const timer&) = delete;
    timer& operator=(const timer&) = delete;

    bool armed() const noexcept { return due != no_deadline; }
    bool linked() const noexcept { return tick != unlinked; }

    timer_link link;                ///< Meaningful exactly when linked.
    std::uint64_t tick = unlinked;  ///< Where it is linked. Not later than the tick in which it is due.
    time_point due = no_deadline;
};
// The wheel goes from a link to its timer, and an owner may go from its timer to itself, by address.
static_assert(std::is_standard_layout_v<timer> && offsetof(timer, link) == 0);

/// Belongs to one thread. Allocates nothing. No timer fires early; it fires in the first expire() whose time
/// is at least its due time rounded up to a whole tick.
class timing_wheel {
  public:
    /// 65.5 µs: finer than any time-out, and coarse enough that one visit serves many timers.
    static constexpr duration tick_length{1 << 16};

    explicit timing_wheel(time_point now) noexcept;
    timing_wheel(const timing_wheel&) = delete;
    timing_wheel& operator=(const timing_wheel&) = delete;

    /// Sets the timer to `due`, whatever it was set to before. A time that has passed fires in the next
    /// expire().
    void arm(timer& timer, time_point due) noexcept {
        timer.due = due;
        if (timer.tick > tick_of(due)) [[unlikely]]
            link_where_due(timer);
    }

    /// The timer will not fire. It stays linked, so it must be removed all the same before it ends.
    void disarm(timer& timer) noexcept { timer.due = no_deadline; }

    /// Disarms the timer, and the wheel forgets it. Safe for a timer that is not linked.
    void remove(timer& timer) noexcept;

    /// Calls `on_expired(timer&)` for each timer that is due, in the order of their ticks. That timer is
    /// disarmed and unlinked by then. The callback may arm and remove any timer, also those that are due and
    /// not yet reported; what it arms afresh for a time that has passed fires in the next expire().
    template <class OnExpired>
    void expire(time_point now, OnExpired&& on_expired) {
        advance(now);
        while (timer* expired = pop_expired()) on_expired(*expired);
    }

    /// When to call expire() next; no_deadline when no timer is linked. Never later than the earliest due
    /// time rounded up to a whole tick. It may be earlier, because of a timer that was disarmed, or armed
    /// again for later, or that moves to a finer level first.
    time_point next_expiry() const noexcept;

    /// No timer is linked, not even a disarmed one.
    bool empty() const noexcept;

  private:
    // Level 0 has a slot for each tick of the present 64, level 1 one for each 64 ticks of the present 4,096,
    // and so on. A timer is linked at the highest level at which its tick and current_ differ. Hence all of a
    // level is due before all of the next, and its occupied slots lie after the one that current_ is in
    // (level 0: or in it). Eight levels hold every time that 64 bits of nanoseconds can name: no timer lies
    // beyond the wheel.
    static constexpr int tick_bits = 16;
    static constexpr int slot_bits = 6;
    static constexpr std::size_t levels = 8;
    static constexpr std::size_t slots_per_level = std::size_t{1} << slot_bits;
    static_assert(tick_length.count() == 1 << tick_bits && tick_bits + slot_bits * levels >= 64);

    static constexpr std::uint64_t nanoseconds_of(time_point at) noexcept {
        return at < time_point{} ? 0 : static_cast<std::uint64_t>(at.time_since_epoch().count());
    }
    // The first tick that begins at `due` or later.
    static constexpr std::uint64_t tick_of(time_point due) noexcept {
        return (nanoseconds_of(due) + (std::uint64_t{1} << tick_bits) - 1) >> tick_bits;
    }

    struct place {
        std::size_t slot_index = 0;
        std::uint64_t tick = timer::unlinked;  // the first of the slot's ticks
    };

    void link_where_due(timer& timer) noexcept;
    void link(timer& timer, std::uint64_t tick) noexcept;
    void unlink(timer& timer) noexcept;
    void mark_empty(std::size_t slot_index) noexcept;
    void advance(time_point now) noexcept;
    timer* pop_expired() noexcept;
    place first_occupied() const noexcept;

    std::array<std::uint64_t, levels> occupied_{};  // a bit is set exactly when its slot has timers
    std::uint64_t current_;                         // the tick of the latest expire()
    timer_link expired_;                            // due at current_ when collected, not yet reported
    // Rings: the link here comes before the first timer and after the last.
    std::array<timer_link, levels * slots_per_level> slots_;
};

}  // namespace weft
