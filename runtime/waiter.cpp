#include <weft/runtime/waiter.hpp>

#include <weft/runtime/scheduler.hpp>
#include <weft/runtime/worker.hpp>

namespace weft {

waiter::waiter() noexcept : fiber_(nullptr), generation_(0) {
    worker* here = worker::current();
    if (here == nullptr) return;
    fiber_ = here->running();
    generation_ = fiber_->word.generation();
}

void waiter::wait() noexcept {
    while (!woken()) {
        if (fiber_ != nullptr)
            park();
        else
            state_.wait(asleep, std::memory_order_acquire);
    }
    // Only ever seen when a waker on another thread is in the middle of wake().
    while (state_.load(std::memory_order_acquire) != left_alone) {
        if (fiber_ != nullptr) yield();
    }
}

void waiter::wake() noexcept {
    fiber_block* const fiber = fiber_;
    if (fiber == nullptr) {
        state_.store(left_alone, std::memory_order_release);
        state_
            .notify_one();  // uses the address only: the one who waited, and this object, may be gone already
        return;
    }
    const std::uint32_t generation = generation_;
    state_.store(being_woken, std::memory_order_release);
    scheduler::wake_if_live(*fiber, generation);
    state_.store(left_alone, std::memory_order_release);
}

}  // namespace weft
