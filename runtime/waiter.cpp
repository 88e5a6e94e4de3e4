#include <weft/runtime/waiter.hpp>

#include <weft/runtime/scheduler.hpp>
#include <weft/runtime/worker.hpp>

namespace weft {

waiter::waiter(const char* waits_for) noexcept : fiber_(nullptr), generation_(0) {
    worker* here = worker::current();
    if (here == nullptr) return;
    fiber_ = here->running();
    generation_ = fiber_->word.generation();
    fiber_->waits_for = waits_for;
    fiber_->waits_since = here->now();
}

void waiter::wait_as_thread() noexcept {
    while (!woken()) state_.wait(asleep, std::memory_order_acquire);
    while (state_.load(std::memory_order_acquire) != left_alone) pause_in_spin();
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
