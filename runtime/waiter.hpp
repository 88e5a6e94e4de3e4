// Somebody who waits for one event: a fiber, or a thread that is not a worker.
#pragma once

#include <atomic>
#include <cstdint>

namespace weft {

struct fiber_block;

/// Lies on the stack of the one who waits. It is woken once, by anybody, and may be gone as soon as wait() has returned.
struct waiter {
    /// For whoever calls: the running fiber, or the running thread.
    waiter() noexcept;
    waiter(const waiter&) = delete;
    waiter& operator=(const waiter&) = delete;

    /// Parks the fiber, or blocks the thread, until wake() has been called. Not cut short by a request to cancel.
    void wait() noexcept;
    /// Parks the fiber until wake() has been called or the fiber was asked to stop.
    void wait_or_cancelled() noexcept;
    bool woken() const noexcept { return woken_.load(std::memory_order_acquire) != 0; }

    /// Any thread, once. What was written before is visible to the one who waits.
    void wake() noexcept;

  private:
    fiber_block* fiber_;          // nullptr: a thread, which waits on woken_
    std::uint32_t generation_;
    std::atomic<std::uint32_t> woken_{0};  // the release in wake() pairs with the acquire in woken()
};

}  // namespace weft
