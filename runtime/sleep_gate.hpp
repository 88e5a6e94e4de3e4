// How a worker falls asleep without losing a wake-up (R9).
#pragma once

#include <weft/runtime/atomic.hpp>

namespace weft {

/// One sleeper, any number of senders:
///
///   the worker                              a sender
///   1. announce: sleeping                   1. publish: mailbox, inbox or the closing flag
///   2. full fence                           2. full fence
///   3. look at every input once more        3. claim: look whether it sleeps
///   4. nothing there: sleep in the engine   4. it does: clear that, and pay for a wake
///
/// Either the worker sees in 3 what was published in 1, or the sender sees in 3 what the worker announced in
/// 1: the two fences forbid that both look too early. The engine keeps a wake that comes before the sleep.
class sleep_gate {
  public:
    /// The worker's, before its last look at its inputs.
    void announce() noexcept {
        sleeping_.store(true, std::memory_order_relaxed);
        full_fence();  // orders 1 before 3; pairs with the fence in claim_wake
    }
    /// The worker's, when it is awake again.
    void withdraw() noexcept { sleeping_.store(false, std::memory_order_relaxed); }

    /// A sender's, after it has published something: true when it must wake the worker. Of several senders
    /// one pays.
    bool claim_wake() noexcept {
        full_fence();  // orders 1 before 3; pairs with the fence in announce
        return sleeping_.load(std::memory_order_relaxed) &&
               sleeping_.exchange(false, std::memory_order_relaxed);
    }

    /// A hint, for those who only look.
    bool sleeping() const noexcept { return sleeping_.load(std::memory_order_relaxed); }

  private:
    alignas(64) atomic<bool> sleeping_{false};
};

}  // namespace weft
