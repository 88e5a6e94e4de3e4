#include <weft/runtime/timing_wheel.hpp>

#include <algorithm>
#include <bit>

namespace weft {
namespace {

bool is_empty(const timer_link& ring) {
    return ring.next == &ring;
}

void clear(timer_link& ring) {
    ring.next = ring.previous = &ring;
}

void append(timer_link& ring, timer_link& link) {
    link.next = &ring;
    link.previous = ring.previous;
    ring.previous->next = &link;
    ring.previous = &link;
}

void take_out(timer_link& link) {
    link.previous->next = link.next;
    link.next->previous = link.previous;
}

timer& timer_of(timer_link& link) {
    return reinterpret_cast<timer&>(link);
}

// Appends all of `from`, which is not empty, to `to` in order.
void splice(timer_link& from, timer_link& to) {
    from.next->previous = to.previous;
    to.previous->next = from.next;
    from.previous->next = &to;
    to.previous = from.previous;
    clear(from);
}

}  // namespace

timing_wheel::timing_wheel(time_point now) noexcept : current_(nanoseconds_of(now) >> tick_bits) {
    clear(expired_);
    for (timer_link& slot : slots_) clear(slot);
}

void timing_wheel::link_where_due(timer& timer) noexcept {
    if (timer.linked()) unlink(timer);
    if (timer.armed()) link(timer, tick_of(timer.due));
}

void timing_wheel::remove(timer& timer) noexcept {
    timer.due = no_deadline;
    if (timer.linked()) unlink(timer);
}

void timing_wheel::link(timer& timer, std::uint64_t tick) noexcept {
    timer.tick = std::max(tick, current_);
    const auto last_differing_bit = std::bit_width((timer.tick ^ current_) | 1) - 1;
    const auto level = static_cast<std::size_t>(last_differing_bit / slot_bits);
    const auto slot = (timer.tick >> (level * slot_bits)) % slots_per_level;
    append(slots_[level * slots_per_level + slot], timer.link);
    occupied_[level] |= std::uint64_t{1} << slot;
}

void timing_wheel::unlink(timer& timer) noexcept {
    timer.tick = timer::unlinked;
    take_out(timer.link);
    const timer_link* next = timer.link.next;
    const bool was_the_only_one = next == timer.link.previous;
    if (was_the_only_one && next != &expired_) mark_empty(static_cast<std::size_t>(next - slots_.data()));
}

void timing_wheel::mark_empty(std::size_t slot_index) noexcept {
    occupied_[slot_index / slots_per_level] &= ~(std::uint64_t{1} << slot_index % slots_per_level);
}

timing_wheel::place timing_wheel::first_occupied() const noexcept {
    for (std::size_t level = 0; level < levels; ++level) {
        if (occupied_[level] == 0) continue;
        const auto slot = static_cast<std::size_t>(std::countr_zero(occupied_[level]));
        const auto shift = level * slot_bits;
        const auto level_begin = current_ >> (shift + slot_bits) << (shift + slot_bits);
        return {level * slots_per_level + slot, level_begin | (slot << shift)};
    }
    return {};
}

// Goes from one occupied slot to the next, so that a jump over an empty year costs nothing. What is due is
// collected first and reported afterwards: callbacks find a wheel that is whole and stands at its new time.
void timing_wheel::advance(time_point now) noexcept {
    const auto target = std::max(nanoseconds_of(now) >> tick_bits, current_);
    for (auto next = first_occupied(); next.tick <= target; next = first_occupied()) {
        current_ = next.tick;
        timer_link& slot = slots_[next.slot_index];
        if (next.slot_index < slots_per_level) {
            splice(slot, expired_);
            mark_empty(next.slot_index);
        } else {
            // None of them comes back to this slot, since current_ is in it now.
            while (!is_empty(slot)) link_where_due(timer_of(*slot.next));
        }
    }
    current_ = target;
}

timer* timing_wheel::pop_expired() noexcept {
    while (!is_empty(expired_)) {
        auto& first = timer_of(*expired_.next);
        if (tick_of(first.due) <= current_) {
            remove(first);
            return &first;
        }
        link_where_due(first);  // it was disarmed or armed again meanwhile
    }
    return nullptr;
}

time_point timing_wheel::next_expiry() const noexcept {
    const auto tick = is_empty(expired_) ? first_occupied().tick : current_;
    constexpr auto last_tick = nanoseconds_of(time_point::max()) >> tick_bits;
    return tick <= last_tick ? time_point(duration(tick << tick_bits)) : no_deadline;
}

bool timing_wheel::empty() const noexcept {
    return is_empty(expired_) && first_occupied().tick == timer::unlinked;
}

}  // namespace weft
