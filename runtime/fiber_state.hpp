// The life of a fiber: seven states and the one word that holds a fiber's state together with its generation.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <weft/runtime/assert.hpp>

namespace weft {

/// Who owns the stack, which list holds the fiber, and who moves it on:
enum class fiber_state : std::uint8_t {
    initial,     ///< No stack. The slot is in a free list, or held by a spawn that has not queued it yet.
    running,     ///< Its worker runs on its stack. In no list.
    suspending,  ///< Still on its stack, has decided to park. In no list; its worker moves it to yielded.
    yielded,     ///< Registers saved, nobody runs on its stack. In no run queue; the next waker moves it on.
    notified,    ///< Woken. On its stack still, or in exactly one run queue, outbox, mailbox or inbox.
    finished,    ///< Its function returned. The stack is gone; the slot waits for its last reference.
    failed,      ///< Its function let an exception out, which is kept. Otherwise like finished.
};

inline constexpr int fiber_states = 7;

/// The transition table: may a fiber go from `from` to `to`?
constexpr bool may_change(fiber_state from, fiber_state to) noexcept {
    using enum fiber_state;
    switch (from) {
        // initial again: its closure could not be built, so the slot goes back unused.
        case initial:
            return to == notified || to == initial;
        case running:
            return to == suspending || to == notified || to == finished || to == failed;
        case suspending:
            return to == yielded || to == notified;
        case yielded:
            return to == notified;
        // notified again: a second waker. finished, failed: woken while it ran, and then it ended.
        case notified:
            return to == notified || to == running || to == finished || to == failed;
        case finished:
            return to == initial;
        case failed:
            return to == initial;
    }
    return false;
}

/// A fiber that exists and has not ended: its state may be changed to notified by a waker.
constexpr bool is_live(fiber_state state) noexcept {
    using enum fiber_state;
    return state == running || state == suspending || state == yielded || state == notified;
}

/// A fiber's state and generation in one atomic word, so that a waker with a stale handle can never change
/// the state of the fiber that reused the slot (R3). Each transition goes through one of the functions below,
/// which check it.
class fiber_word {
  public:
    struct value {
        std::uint32_t generation;
        fiber_state state;
    };

    value load(std::memory_order order = std::memory_order_acquire) const noexcept {
        return unpack(word_.load(order));
    }

    std::uint32_t generation() const noexcept { return load(std::memory_order_relaxed).generation; }

    /// Changes from → to if the state is `from`; says whether it was. Release: what this thread did to the
    /// fiber is seen by whoever reads the new state with acquire. Acquire on failure: it sees what the waker
    /// wrote.
    bool try_change(fiber_state from, fiber_state to) noexcept {
        WEFT_DEBUG_ASSERT(may_change(from, to), "no such transition in the life of a fiber");
        std::uint64_t expected = pack({generation(), from});
        return word_.compare_exchange_strong(expected, pack({generation(), to}), std::memory_order_acq_rel,
                                             std::memory_order_acquire);
    }

    /// notified → running, by the worker that took the fiber from its queue, or by the fiber that need not
    /// park. An exchange and not a store: a second waker may write notified at this very moment and then rely
    /// on the fiber to look at its condition again, so the fiber must see what that waker wrote before
    /// (acquire).
    void start_running() noexcept {
        [[maybe_unused]] const value before =
            unpack(word_.exchange(pack({generation(), fiber_state::running}), std::memory_order_acq_rel));
        WEFT_DEBUG_ASSERT(may_change(before.state, fiber_state::running),
                          "a fiber ran that was in no run queue");
    }

    /// The fiber's last act: finished or failed. A waker that writes notified at the same moment has nothing
    /// to say any more. Release: the joiner sees the result.
    void end(fiber_state to) noexcept {
        const value now = load(std::memory_order_relaxed);
        WEFT_DEBUG_ASSERT(may_change(now.state, to), "a fiber ended that did not run");
        word_.store(pack({now.generation, to}), std::memory_order_release);
    }

    /// A wake-up for a fiber that is known to be live (it owns the operation that completed), or is new.
    /// True: it was parked, and the caller, and nobody else, must queue it. acq_rel: pairs with
    /// try_change(suspending → yielded), so that the one who queues it sees its saved registers, and with
    /// try_change(running → suspending), so that the fiber sees what was written before the wake-up.
    bool notify() noexcept {
        [[maybe_unused]] const value before =
            unpack(word_.exchange(pack({generation(), fiber_state::notified}), std::memory_order_acq_rel));
        WEFT_DEBUG_ASSERT(may_change(before.state, fiber_state::notified),
                          "a fiber that has ended was woken");
        return before.state == fiber_state::yielded;
    }

    enum class wake_result { queue_it, nothing_to_do, no_such_fiber };

    /// A wake-up by handle: does nothing unless the fiber of that generation is live.
    wake_result notify_if_live(std::uint32_t expected_generation) noexcept {
        std::uint64_t now = word_.load(std::memory_order_acquire);
        for (;;) {
            const value seen = unpack(now);
            if (seen.generation != expected_generation || !is_live(seen.state))
                return wake_result::no_such_fiber;
            if (word_.compare_exchange_weak(now, pack({seen.generation, fiber_state::notified}),
                                            std::memory_order_acq_rel, std::memory_order_acquire))
                return seen.state == fiber_state::yielded ? wake_result::queue_it
                                                          : wake_result::nothing_to_do;
        }
    }

    /// The slot goes back to its free list: handles to the old fiber become stale.
    void retire() noexcept {
        const value now = load(std::memory_order_relaxed);
        WEFT_DEBUG_ASSERT(may_change(now.state, fiber_state::initial), "a live fiber's slot was freed");
        word_.store(pack({now.generation + 1, fiber_state::initial}), std::memory_order_release);
    }

  private:
    static constexpr std::uint64_t pack(value v) noexcept {
        return std::uint64_t{v.generation} << 32 | static_cast<std::uint64_t>(v.state);
    }
    static constexpr value unpack(std::uint64_t word) noexcept {
        return {static_cast<std::uint32_t>(word >> 32), static_cast<fiber_state>(word & 0xff)};
    }

    std::atomic<std::uint64_t> word_{0};
};

}  // namespace weft
