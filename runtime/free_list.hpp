// A lock-free free list of slot numbers (a Treiber stack; Treiber, IBM RJ 5118, 1986), tagged against ABA.
#pragma once

#include <cstdint>

#include <weft/runtime/atomic.hpp>

namespace weft {

inline constexpr std::uint32_t no_slot = UINT32_MAX;

/// Slots live in arrays of their owner; `links` holds one atomic link per slot. Any thread may push and pop.
/// Last in, first out, so that what is handed out next is what the caches still hold.
class free_list {
  public:
    explicit free_list(atomic<std::uint32_t>* links) noexcept : links_(links) {}

    void push(std::uint32_t slot) noexcept {
        std::uint64_t head = head_.load(std::memory_order_relaxed);
        do {
            links_[slot].store(slot_of(head), std::memory_order_relaxed);
            // Release: pairs with the acquire in pop, which makes the link (and the freed slot's content)
            // visible.
        } while (!head_.compare_exchange_weak(head, with_next_tag(head, slot), std::memory_order_release,
                                              std::memory_order_relaxed));
    }

    /// no_slot when empty.
    std::uint32_t pop() noexcept {
        std::uint64_t head = head_.load(std::memory_order_acquire);
        for (;;) {
            const std::uint32_t slot = slot_of(head);
            if (slot == no_slot) return no_slot;
            // Another thread may pop `slot` and push it again between this load and the exchange: the link is
            // then stale, but the tag has changed and the exchange fails. The array outlives the list: the
            // load is safe.
            const std::uint32_t next = links_[slot].load(std::memory_order_relaxed);
            if (head_.compare_exchange_weak(head, with_next_tag(head, next), std::memory_order_acquire,
                                            std::memory_order_acquire))
                return slot;
        }
    }

    /// Empties the list: the first of what was in it; no_slot when it was empty. The caller owns them all.
    std::uint32_t take_all() noexcept {
        std::uint64_t head = head_.load(std::memory_order_acquire);
        while (!head_.compare_exchange_weak(head, with_next_tag(head, no_slot), std::memory_order_acquire,
                                            std::memory_order_acquire));
        return slot_of(head);
    }
    /// Of what take_all() has taken, the one after `slot`, as long as `slot` has not been pushed again.
    std::uint32_t after(std::uint32_t slot) const noexcept {
        return links_[slot].load(std::memory_order_relaxed);
    }

  private:
    static constexpr std::uint32_t slot_of(std::uint64_t head) noexcept {
        return static_cast<std::uint32_t>(head);
    }
    static constexpr std::uint64_t with_next_tag(std::uint64_t head, std::uint32_t slot) noexcept {
        return ((head >> 32) + 1) << 32 | slot;
    }

    atomic<std::uint32_t>* links_;
    alignas(64) atomic<std::uint64_t> head_{no_slot};  // tag in the upper half, slot in the lower
};

}  // namespace weft
