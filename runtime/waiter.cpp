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
        if (fiber_ != nullptr) park();
        else woken_.wait(0, std::memory_order_acquire);
    }
}

void waiter::wait_or_cancelled() noexcept {
    while (!woken() && !cancel_requested()) park();
}

void waiter::wake() noexcept {
    // The one who waits may return, and this object end, as soon as woken_ is set: copy first.
    fiber_block* fiber = fiber_;
    const std::uint32_t generation = generation_;
    woken_.store(1, std::memory_order_release);
    if (fiber != nullptr) scheduler::wake_if_live(*fiber, generation);
    else woken_.notify_one();  // uses the address only
}

}  // namespace weft
