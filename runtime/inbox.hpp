// Where threads that are not workers leave fibers for a worker.
#pragma once

#include <weft/runtime/atomic.hpp>
#include <weft/runtime/fiber_block.hpp>

namespace weft {

/// Many producers, one consumer, lock-free, intrusive through fiber_block::next, so it is never full.
class inbox {
  public:
    /// Any thread. The caller holds the right to queue the fiber (R1).
    void push(fiber_block& fiber) noexcept {
        fiber_block* head = head_.load(std::memory_order_relaxed);
        do {
            fiber.next.store(head, std::memory_order_relaxed);
            // Release: pairs with the acquire in take_all; what the producer wrote to the fiber is visible
            // there. There is no ABA problem, because the consumer never pops one: it takes the whole list.
        } while (
            !head_.compare_exchange_weak(head, &fiber, std::memory_order_release, std::memory_order_relaxed));
    }

    /// A hint: whoever then takes what is there acquires. Part of the last look before a worker sleeps;
    /// ordered by the fences there.
    bool empty() const noexcept { return head_.load(std::memory_order_relaxed) == nullptr; }

    /// The consumer's: calls `take(fiber)` for each, the one that was pushed first first.
    template <class Take>
    void take_all(Take&& take) {
        if (empty()) return;
        fiber_block* newest_first = head_.exchange(nullptr, std::memory_order_acquire);
        fiber_block* oldest_first = nullptr;
        while (newest_first != nullptr) {
            fiber_block* next = newest_first->next.load(std::memory_order_relaxed);
            newest_first->next.store(oldest_first, std::memory_order_relaxed);
            oldest_first = newest_first;
            newest_first = next;
        }
        while (oldest_first != nullptr) {
            fiber_block& fiber = *oldest_first;
            oldest_first = fiber.next.load(std::memory_order_relaxed);  // `take` may link it anew
            take(fiber);
        }
    }

  private:
    alignas(64) atomic<fiber_block*> head_{nullptr};
};

}  // namespace weft
