// How a fiber's worker and a fiber's handle agree on who sees the end, and who frees the block.
#pragma once

#include <cstdint>
#include <weft/runtime/atomic.hpp>

namespace weft {

struct waiter;

/// Holds nothing, the waiter of the one who joins, or one of two marks: the fiber has ended, and its block
/// belongs to its handle; or there is no handle (any more), and its block goes back when it ends. The worker
/// and the handle each exchange it once; the later of the two finds what the earlier one left.
class joiner_word {
  public:
    /// For a new fiber, before it is launched.
    void reset(bool with_handle) noexcept {
        word_.store(with_handle ? nullptr : detached_mark, std::memory_order_relaxed);
    }

    struct ending {
        bool nobody_wants_it;  ///< The worker discards the block.
        waiter* waits_for_it;  ///< To be woken; nullptr: nobody waits, or not yet.
    };
    /// The worker's last use of the block, unless nobody wants it. Acquire and acq_rel: pair with the
    /// exchange in detach, so that the handle's last use of the block is over when it is discarded, and in
    /// wait_with.
    ending end() noexcept {
        waiter* found = word_.load(std::memory_order_acquire);
        if (found != detached_mark) found = word_.exchange(ended_mark, std::memory_order_acq_rel);
        if (found == detached_mark) return {true, nullptr};
        return {false, found};
    }

    /// The handle's: has the fiber ended? Acquire: its result is visible then.
    bool ended() const noexcept { return word_.load(std::memory_order_acquire) == ended_mark; }

    /// The handle's, which wants to wait. False: there is nothing to wait for, the fiber has ended, and its
    /// result is visible.
    bool wait_with(waiter& self) noexcept {
        waiter* nobody = nullptr;
        return word_.compare_exchange_strong(nobody, &self, std::memory_order_release,
                                             std::memory_order_acquire);
    }

    /// The handle's, which gives the fiber up. True: it has ended, and the caller discards the block.
    bool detach() noexcept { return word_.exchange(detached_mark, std::memory_order_acq_rel) == ended_mark; }

  private:
    static inline waiter* const ended_mark = reinterpret_cast<waiter*>(std::uintptr_t{1});
    static inline waiter* const detached_mark = reinterpret_cast<waiter*>(std::uintptr_t{2});

    atomic<waiter*> word_{nullptr};
};

}  // namespace weft
