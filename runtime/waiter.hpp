// Somebody who waits for one event: a fiber, or a thread that is not a worker.
#pragma once

#include <cstdint>
#include <weft/runtime/atomic.hpp>

namespace weft {

struct fiber_block;
void park() noexcept;
void yield() noexcept;

/// Lies on the stack of the one who waits. It is woken once, by anybody, and may be gone as soon as wait()
/// has returned.
struct waiter {
    /// For whoever calls: the running fiber, or the running thread. `waits_for` is a literal for reports:
    /// what for.
    explicit waiter(const char* waits_for = "a wake-up") noexcept;
    waiter(const waiter&) = delete;
    waiter& operator=(const waiter&) = delete;

    /// Parks the fiber, or blocks the thread, until wake() has been called. Not cut short by a request to
    /// cancel.
    void wait() noexcept {
        // Inline: after a switch the CPU mispredicts each return, so there should be few.
        if (fiber_ == nullptr) return wait_as_thread();
        while (!woken()) park();
        // Only ever seen when a waker on another thread is in the middle of wake().
        while (state_.load(std::memory_order_acquire) != left_alone) yield();
    }
    bool woken() const noexcept { return state_.load(std::memory_order_acquire) != asleep; }

    /// Any thread, once. What was written before is visible to the one who waits.
    void wake() noexcept;

  private:
    void wait_as_thread() noexcept;

    // being_woken: what was waited for has happened, but the waker still needs the fiber's block, which lives
    // no longer than the fiber's runtime.
    enum state : std::uint32_t { asleep, being_woken, left_alone };

    fiber_block* fiber_;  // nullptr: a thread, which waits on state_
    std::uint32_t generation_;
    atomic<std::uint32_t> state_{
        asleep};  // the releases in wake() pair with the acquires of the one who waits
};

}  // namespace weft
