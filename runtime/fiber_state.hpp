// The life of a fiber: its states, and the one word that holds a fiber's state together with its generation.
#pragma once

#include <cstdint>
#include <weft/runtime/assert.hpp>
#include <weft/runtime/atomic.hpp>

namespace weft {

/// Who owns the stack, which list holds the fiber, and who moves it on:
enum class fiber_state : std::uint8_t {
    initial,   ///< No stack. The slot is in a free list, or held by a spawn that has not queued it yet.
    awake,     ///< Its worker runs on its stack, or it is in exactly one run queue, outbox, mailbox or inbox.
    parked,    ///< Registers saved, nobody runs on its stack. In no queue; the next waker moves it on.
    finished,  ///< Its function returned. The stack is gone; the slot waits for its handle.
    failed,    ///< Its function let an exception out, which is kept. Otherwise like finished.
};

inline constexpr int fiber_states = 5;

/// The transition table: may a fiber go from `from` to `to`?
constexpr bool may_change(fiber_state from, fiber_state to) noexcept {
    using enum fiber_state;
    switch (from) {
        // initial again: its closure could not be built, so the slot goes back unused.
        case initial:
            return to == awake || to == initial;
        // awake again: woken once more.
        case awake:
            return to == awake || to == parked || to == finished || to == failed;
        case parked:
            return to == awake;
        case finished:
        case failed:
            return to == initial;
    }
    return false;
}

/// A fiber that exists and has not ended.
constexpr bool is_live(fiber_state state) noexcept {
    return state == fiber_state::awake || state == fiber_state::parked;
}

/// A fiber's generation, state and wake-ups in one atomic word. The generation keeps a waker with a stale
/// handle from changing the state of the fiber that reused the slot (R3).
///
/// A live fiber is parked exactly when its count of wake-ups is zero. Whoever wakes it adds one; whoever
/// added the first queues it, and nobody else (R1). Before it runs, its worker notes how many the fiber has
/// *seen*; when it wants to park (it is *suspending*), the worker sets the count to zero if it is still what
/// was seen, and runs it again if it is not, because it was *notified* meanwhile (R2). So running and
/// yielding cost no locked instruction, and a park with its wake costs two.
class fiber_word {
  public:
    struct value {
        std::uint32_t generation;
        fiber_state state;
        std::uint32_t wakes;  ///< 0 unless awake.
    };

    value load(std::memory_order order = std::memory_order_acquire) const noexcept {
        return unpack(word_.load(order));
    }

    std::uint32_t generation() const noexcept { return load(std::memory_order_relaxed).generation; }

    /// initial → awake, by the spawner, which queues it then. Release: whoever finds it live finds it whole.
    void launch() noexcept {
        const value now = load(std::memory_order_relaxed);
        WEFT_DEBUG_ASSERT(may_change(now.state, fiber_state::awake) && now.state == fiber_state::initial,
                          "a fiber was launched twice");
        word_.store(pack(now.generation, stage_live, 1), std::memory_order_release);
    }

    /// By the fiber's worker before it runs, and by the fiber itself: how many wake-ups there were so far.
    /// Acquire: pairs with the release in notify, so the fiber sees what those wakers wrote.
    std::uint32_t look() noexcept {
        const value now = load(std::memory_order_acquire);
        WEFT_DEBUG_ASSERT(now.state == fiber_state::awake, "a fiber ran that was in no run queue");
        return now.wakes < wakes_soft_max ? now.wakes : begin_counting_again();
    }

    /// awake → parked, by the fiber's worker when it has left the fiber's stack. False: it was woken after it
    /// had looked, and the worker must run it again. Release: whoever queues it next sees its saved
    /// registers.
    bool try_park(std::uint32_t seen) noexcept {
        std::uint64_t expected = pack(generation(), stage_live, seen);
        return word_.compare_exchange_strong(expected, pack(generation(), stage_live, 0),
                                             std::memory_order_release, std::memory_order_relaxed);
    }

    /// A wake-up for a fiber that is known to be live, because it owns the operation that completed. True: it
    /// was parked, and the caller, and nobody else, must queue it. acq_rel: pairs with try_park, so that the
    /// one who queues it sees its saved registers, and with look, so that the fiber sees what was written
    /// before the wake-up.
    bool notify() noexcept {
        const value before = unpack(word_.fetch_add(1, std::memory_order_acq_rel));
        WEFT_DEBUG_ASSERT(may_change(before.state, fiber_state::awake), "a fiber that has ended was woken");
        // So far above what look() returns that the fiber will notice all the same.
        if (before.wakes >= wakes_hard_max) [[unlikely]]
            word_.fetch_sub(1, std::memory_order_relaxed);
        return before.state == fiber_state::parked;
    }

    enum class wake_result { queue_it, nothing_to_do, no_such_fiber };

    /// A wake-up by handle: does nothing unless the fiber of that generation is live.
    wake_result notify_if_live(std::uint32_t expected_generation) noexcept {
        std::uint64_t now = word_.load(std::memory_order_acquire);
        for (;;) {
            const value seen = unpack(now);
            if (seen.generation != expected_generation || !is_live(seen.state))
                return wake_result::no_such_fiber;
            const std::uint64_t woken = seen.wakes < wakes_hard_max ? now + 1 : now;
            if (word_.compare_exchange_weak(now, woken, std::memory_order_acq_rel, std::memory_order_acquire))
                return seen.state == fiber_state::parked ? wake_result::queue_it : wake_result::nothing_to_do;
        }
    }

    /// The fiber's last act: finished or failed. A waker at the same moment has nothing to say any more.
    void end(fiber_state to) noexcept {
        const value now = load(std::memory_order_relaxed);
        WEFT_DEBUG_ASSERT(may_change(now.state, to) && now.state == fiber_state::awake,
                          "a fiber ended that did not run");
        word_.store(pack(now.generation, to == fiber_state::finished ? stage_finished : stage_failed, 0),
                    std::memory_order_release);
    }

    /// The slot goes back to its free list: handles to the old fiber become stale.
    void retire() noexcept {
        const value now = load(std::memory_order_relaxed);
        WEFT_DEBUG_ASSERT(may_change(now.state, fiber_state::initial), "a live fiber's slot was freed");
        const std::uint32_t next = now.generation == UINT32_MAX ? 1 : now.generation + 1;
        word_.store(pack(next, stage_initial, 0), std::memory_order_release);
    }

    /// Zeroed: its slot was never used, or its memory was given back while it was free. Generation 0 is only
    /// ever a slot's first.
    bool blank() const noexcept { return word_.load(std::memory_order_relaxed) == 0; }

    /// For the owner of a blank slot that is free: which generation it is to have.
    void begin_with(std::uint32_t generation) noexcept {
        word_.store(pack(generation, stage_initial, 0), std::memory_order_release);
    }

  private:
    // generation in the upper half, then three bits of stage, then the wake-ups.
    enum stage : std::uint32_t { stage_initial, stage_live, stage_finished, stage_failed };
    static constexpr int stage_shift = 29;
    static constexpr std::uint32_t wakes_mask = (1u << stage_shift) - 1;
    static constexpr std::uint32_t wakes_soft_max = 1u << 27;
    static constexpr std::uint32_t wakes_hard_max = 1u << 28;

    static constexpr std::uint64_t pack(std::uint32_t generation, stage at, std::uint32_t wakes) noexcept {
        return std::uint64_t{generation} << 32 | (std::uint32_t{at} << stage_shift | wakes);
    }
    static constexpr value unpack(std::uint64_t word) noexcept {
        const auto low = static_cast<std::uint32_t>(word);
        const std::uint32_t wakes = low & wakes_mask;
        const auto generation = static_cast<std::uint32_t>(word >> 32);
        switch (low >> stage_shift) {
            case stage_initial:
                return {generation, fiber_state::initial, 0};
            case stage_live:
                return {generation, wakes == 0 ? fiber_state::parked : fiber_state::awake, wakes};
            case stage_finished:
                return {generation, fiber_state::finished, 0};
            default:
                return {generation, fiber_state::failed, 0};
        }
    }

    // Woken a hundred million times without a park in between: the count starts afresh before it can run
    // over.
    std::uint32_t begin_counting_again() noexcept {
        std::uint64_t now = word_.load(std::memory_order_acquire);
        const std::uint64_t fresh = pack(unpack(now).generation, stage_live, 1);
        while (
            !word_.compare_exchange_weak(now, fresh, std::memory_order_acq_rel, std::memory_order_acquire));
        return 1;
    }

    atomic<std::uint64_t> word_{0};
};

}  // namespace weft
