// Somebody who waits for one event: a fiber, or a thread that is not a worker.
#pragma once

#include <atomic>
#include <cstdint>

namespace weft {

struct fiber_block;

/// Lies on the stack of the one who waits. It is woken once, by anybody, and may be gone as soon as wait()
/// has returned.
struct waiter {
    /// For whoever calls: the running fiber, or the running thread.
    waiter() noexcept;
    waiter(const waiter&) = delete;
    waiter& operator=(const waiter&) = delete;

    /// Parks the fiber, or blocks the thread, until wake() has been called. Not cut short by a request to
    /// cancel.
    void wait() noexcept;
    bool woken() const noexcept { return state_.load(std::memory_order_acquire) != asleep; }

    /// Any thread, once. What was written before is visible to the one who waits.
    void wake() noexcept;

  private:
    // being_woken: what was waited for has happened, but the waker still needs the fiber's block, which lives
    // no longer than the fiber's runtime.
    enum state : std::uint32_t { asleep, being_woken, left_alone };

    fiber_block* fiber_;  // nullptr: a thread, which waits on state_
    std::uint32_t generation_;
    std::atomic<std::uint32_t> state_{
        asleep};  // the releases in wake() pair with the acquires of the one who waits
};

}  // namespace weft
