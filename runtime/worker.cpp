#include <weft/runtime/worker.hpp>

#include <cxxabi.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <future>

#include <switchers/switch.hpp>
#include <weft/runtime/log.hpp>
#include <weft/runtime/overflow.hpp>
#include <weft/runtime/thread_mutex.hpp>
#include <weft/runtime/watchdog.hpp>

namespace weft {
namespace {

thread_local worker* this_thread_worker = nullptr;

// How many fibers run before the worker looks at its engine, its deadlines and its mailboxes again; and how
// many where fibers of high priority were woken not more than so many turns ago, because they are only
// noticed then.
constexpr int fibers_per_turn = 256;
constexpr int fibers_per_short_turn = 16;
constexpr int short_turns_after_high = 4096;
// A fiber is deflected at most so often between two runs.
constexpr std::uint8_t hops_max = 2;
// What a full mailbox left in the outbox is tried again after this long, should there be nothing else to do.
constexpr duration outbox_retry{1'000'000};
// Stacks that fibers have left are trimmed so often at most, by a worker that has nothing else to do.
constexpr duration trim_interval{1'000'000'000};
// While the runtime closes, idle workers look so often whether the last fiber has ended.
constexpr duration closing_check{2'000'000};
constexpr duration spin_pays{30'000};
constexpr unsigned spin_credit_max = 16;

switchers::switch_function switcher_of(const fiber_block& fiber) noexcept {
    if (fiber.mobile())
        return fiber.keeps_fp_control_words ? weft_switch_cross_thread_fp : weft_switch_cross_thread;
    return fiber.keeps_fp_control_words ? weft_switch_same_thread_fp : weft_switch_same_thread;
}

exception_globals* exception_globals_of_this_thread() noexcept {
    // The ABI fixes what __cxa_eh_globals begins with.
    return reinterpret_cast<exception_globals*>(abi::__cxa_get_globals());
}

}  // namespace

worker* worker::current() noexcept {
    asm volatile("");
    return this_thread_worker;
}

worker::worker(scheduler& owner, unsigned index, std::optional<int> cpu)
    : owner_(owner),
      index_(index),
      cpu_(cpu),
      now_(owner.time().now()),
      outboxes_(owner.worker_count()),
      wheel_(now_),
      cache_(owner.fibers()) {}

worker::~worker() = default;

result<void> worker::start(engine_factory make_engine, neighbourhood neighbours) {
    neighbours_ = std::move(neighbours.nearest_first);
    neighbours_in_l3_ = neighbours.in_l3;
    neighbours_in_node_ = neighbours.in_node;
    neighbours_in_mesh_ = neighbours.in_mesh;
    // More threads than CPUs: whoever spins takes the time of the one whom it waits for. Asked here, because
    // a thread that is bound to its CPU sees but that one.
    spins_ = owner_.worker_count() > 1 &&
             static_cast<int>(owner_.worker_count()) <= topology::read().usable_cpus();
    std::promise<result<void>> ready;
    auto readiness = ready.get_future();
    thread_ = std::thread([this, make_engine, &ready] {
        const std::string name = "weft-" + std::to_string(index_);
        pthread_setname_np(pthread_self(), name.c_str());
        thread_id_ = gettid();
        const signal_stack for_handlers;
        if (cpu_) {
            cpu_set_t only;
            CPU_ZERO(&only);
            CPU_SET(*cpu_, &only);
            if (const int error = pthread_setaffinity_np(pthread_self(), sizeof only, &only); error != 0) {
                ready.set_value(failure(system_error(error)));
                return;
            }
        }
        auto made = make_engine();
        if (!made) {
            ready.set_value(failure(made.error()));
            return;
        }
        engine_ = std::move(*made);
        this_thread_worker = this;
        ready.set_value({});
        run();
        // The engine belongs to this thread: it submits what is left (sockets to close) and ends here.
        engine_->turn(now_, now_);
        this_thread_worker = nullptr;
    });
    return readiness.get();
}

void worker::join() {
    if (thread_.joinable()) thread_.join();
}

void worker::run() noexcept {
    thread_exceptions_ = exception_globals_of_this_thread();
    loop_context_ = sanitizer::current_context();
    while (!(owner_.closing() && owner_.all_ended())) {
        const time_point begin = now_;
        run_fibers();
        // Before anything else: what runs there next need not wait for what happens here.
        if (outboxes_used_) send_outboxes();
        receive();
        now_ = owner_.time().now();
        expire_deadlines();
        if (outboxes_used_)
            send_outboxes();  // what receiving and expiring passed on: who sleeps sends nothing
        load_.observe(now_ - begin, live_);
        if (owner_.closing() && !cancelled_fibers_) [[unlikely]]
            cancel_fibers_at_home();
        if (!queue_.empty())
            engine_->turn(now_, now_);
        else
            wait_for_work();
    }
}

// The fiber has left its stack, and has said what for.
[[gnu::always_inline]] inline void worker::settle(fiber_block& fiber) noexcept {
    switch (fiber.wants) {
        case leaving::to_park:
            // Once this has succeeded, the fiber belongs to whoever wakes it and may be running elsewhere
            // (R1).
            if (!fiber.word.try_park(fiber.wakes_seen)) queue_.push(fiber);
            return;
        case leaving::to_run_again:
            queue_.push(fiber);
            return;
        case leaving::for_good:
            end(fiber);
            return;
    }
}

// Inlined into the loop together with settle(): the switches leave the CPU's return predictor with the wrong
// addresses, so each return on this way would be mispredicted.
[[gnu::always_inline]] inline void worker::run_one(fiber_block& fiber) noexcept {
    if (fiber.stack_slot == no_slot && !bind_stack(fiber)) [[unlikely]] {
        end_without_stack(fiber);
        return;
    }
    fiber.wakes_seen = fiber.word.look();
    if (fiber.hops != 0) fiber.hops = 0;
    running_ = &fiber;
    *thread_exceptions_ = fiber.exceptions;
    counters_.runs.add();

    const stack_bounds stack = sanitizer::active ? owner_.fibers().bounds(fiber.stack_slot) : stack_bounds{};
    sanitizer::before_switch(loop_left_, fiber.sanitizer_context, stack.bottom, stack.bytes);
    switcher_of(fiber)(&loop_stack_pointer_, fiber.stack_pointer);
    sanitizer::after_switch(loop_left_);

    fiber.exceptions = *thread_exceptions_;
    *thread_exceptions_ = {};
    running_ = nullptr;
    settle(fiber);
}

void worker::run_fibers() noexcept {
    if (queue_.took_high()) [[unlikely]]
        short_turns_left_ = short_turns_after_high;
    const bool is_short = short_turns_left_ > 0;
    short_turns_left_ -= is_short;
    for (int budget = is_short ? fibers_per_short_turn : fibers_per_turn; budget > 0; --budget) {
        fiber_block* next = queue_.pop();
        if (next == nullptr) return;
        // The block of the one after the next, then the stack of the next: each is a miss that need not be
        // waited for.
        if (const fiber_block* after_next = queue_.peek(1)) __builtin_prefetch(after_next);
        if (const fiber_block* after = queue_.peek(0)) __builtin_prefetch(after->stack_pointer);
        run_one(*next);
    }
}

bool worker::bind_stack(fiber_block& fiber) noexcept {
    const std::uint32_t slot = cache_.allocate_stack(fiber.stack);
    if (slot == no_slot) return false;
    fiber.stack_slot = slot;
    fiber.sanitizer_context = sanitizer::create_context();
    fiber.stack_pointer = switchers::make_context(owner_.fibers().top(slot), fiber_main, &fiber);
    return true;
}

void worker::end(fiber_block& fiber) noexcept {
    sanitizer::destroy_context(fiber.sanitizer_context);
    if (sanitizer::active) {
        const stack_bounds stack = owner_.fibers().bounds(fiber.stack_slot);
        sanitizer::forget_frames(stack.bottom, stack.bytes);
    }
    cache_.free_stack(fiber.stack_slot);
    fiber.stack_slot = no_slot;
    tell_of_end(fiber);
}

// It could not even begin. To wait for a stack might be to wait for ever: what lives may go on living, and
// the host program's mappings are its own affair. So the fiber fails, and its joiner or the log has the
// reason.
[[gnu::cold]] void worker::end_without_stack(fiber_block& fiber) noexcept {
    fiber.code->drop(fiber);
    fiber.code = nullptr;
    fiber.exception =
        std::make_exception_ptr(std::system_error(std::make_error_code(std::errc::not_enough_memory),
                                                  "a fiber's stack could not be given a guard page"));
    tell_of_end(fiber);
}

[[gnu::always_inline]] inline void worker::tell_of_end(fiber_block& fiber) noexcept {
    wheel_.remove(fiber.deadline);
    --live_;
    fiber.word.end(fiber.exception ? fiber_state::failed : fiber_state::finished);
    const auto [nobody_wants_it, waits_for_it] = fiber.joiner.end();
    if (nobody_wants_it)
        owner_.discard(fiber);
    else if (waits_for_it != nullptr)
        waits_for_it->wake();
    counters_.ended.add();
}

void worker::leave(fiber_block& fiber, leaving wants) noexcept {
    fiber.wants = wants;
    sanitizer::left_context left;
    sanitizer::before_switch(left, loop_context_, loop_stack_bottom_, loop_stack_bytes_);
    switcher_of(fiber)(&fiber.stack_pointer, loop_stack_pointer_);
    // `this` is the worker that the fiber left: a mobile one may be on another by now, which may never have
    // run a fiber from its beginning and so not know its loop's stack.
    if constexpr (sanitizer::active) {
        worker& here = *current();
        sanitizer::after_switch(left, &here.loop_stack_bottom_, &here.loop_stack_bytes_);
    }
}

void worker::leave_for_good(fiber_block& fiber) noexcept {
    fiber.wants = leaving::for_good;
    sanitizer::left_context left;
    sanitizer::before_switch(left, loop_context_, loop_stack_bottom_, loop_stack_bytes_, true);
    switcher_of(fiber)(&fiber.stack_pointer, loop_stack_pointer_);
    WEFT_ASSERT(false, "a fiber that has ended was run again");
    std::abort();
}

void worker::arrived() noexcept {
    sanitizer::left_context fresh;
    sanitizer::after_switch(fresh, &loop_stack_bottom_, &loop_stack_bytes_);
}

void worker::make_runnable(fiber_block& fiber) noexcept {
    // One that never ran has just been placed: it begins where it was sent.
    if (fiber.mobile() && fiber.stack_slot != no_slot && deflect(fiber)) return;
    queue_.push(fiber);
}

// Passes a fiber on to a neighbour that has clearly less to do. False: it stays.
bool worker::deflect(fiber_block& fiber) noexcept {
    const std::uint32_t level = load_.own_level();
    if (level <= load_.threshold() || fiber.operations_in_flight != 0 || fiber.hops >= hops_max) return false;
    worker* best = owner_.least_loaded(neighbours_within(fiber.affinity), next_candidate());
    if (best == nullptr || best->load().overloaded() || best->load().level() + clearly_less > level)
        return false;
    // The neighbour's load is a turn old: of those that are woken now, it gets as many as stay.
    if (unsent_to(best->index()) > queue_.size()) return false;
    // Its deadline is armed again by the new home, which finds the time in `due`.
    const time_point due = fiber.deadline.due;
    wheel_.remove(fiber.deadline);
    fiber.deadline.due = due;
    --live_;
    if (fiber.hops++ > 0) counters_.further_hops.add();
    fiber.moving = true;
    fiber.home.store(best, std::memory_order_relaxed);
    counters_.deflected_out.add();
    send(fiber);
    return true;
}

std::span<const unsigned> worker::neighbours_within(fiber_affinity affinity) const noexcept {
    const std::span<const unsigned> all(neighbours_);
    switch (affinity) {
        case fiber_affinity::worker:
            return {};
        case fiber_affinity::l3:
            return all.first(std::min(neighbours_in_l3_, neighbours_in_mesh_));
        case fiber_affinity::node:
            return all.first(std::min(neighbours_in_node_, neighbours_in_mesh_));
        case fiber_affinity::any:
            return all.first(neighbours_in_mesh_);
    }
    return {};
}

void worker::send(fiber_block& fiber) noexcept {
    outbox& out = outboxes_[fiber.home.load(std::memory_order_relaxed)->index()];
    out.push(fiber);
    outboxes_used_ = true;
    if (out.size() > counters_.outbox_peak.read()) counters_.outbox_peak.add();
}

void worker::send_outboxes() noexcept {
    outboxes_used_ = false;
    for (const unsigned to : neighbours_) {
        outbox& out = outboxes_[to];
        if (out.empty()) continue;
        // One wake at most for all that leaves in this turn (R8).
        mailbox& box = owner_.mailbox_between(index_, to);
        if (out.flush_to(box)) {
            owner_.hardware().demote(box.line_of_pushes());
            if (owner_.worker_at(to).wake_if_sleeping()) counters_.wakes_sent.add();
        }
        if (!out.empty()) outboxes_used_ = true;
    }
}

void worker::receive() noexcept {
    fiber_chunk chunk;
    for (const unsigned from : neighbours_) {
        mailbox& box = owner_.mailbox_between(from, index_);
        while (!box.empty() && box.pop(chunk)) {
            watched_line_ = box.line_of_pushes();
            for (std::uint32_t n = 0; n < chunk.count; ++n) arrive(owner_.fibers().block(chunk.fibers[n]));
        }
    }
    inbox_.take_all([this](fiber_block& fiber) { arrive(fiber); });
}

void worker::arrive(fiber_block& fiber) noexcept {
    if (fiber.moving || fiber.stack_slot == no_slot)
        ++live_;  // it comes to live here; else it was only woken
    if (fiber.moving) {
        fiber.moving = false;
        counters_.deflected_in.add();
        if (fiber.deadline.armed()) wheel_.arm(fiber.deadline, fiber.deadline.due);
    }
    make_runnable(fiber);
}

bool worker::inputs_empty() const noexcept {
    if (!inbox_.empty()) return false;
    for (const unsigned from : neighbours_)
        if (!owner_.mailbox_between(from, index_).empty()) return false;
    return true;
}

void worker::expire_deadlines() noexcept {
    if (wheel_.next_expiry() > now_) return;
    wheel_.expire(now_, [](timer& expired) {
        auto& fiber = *reinterpret_cast<fiber_block*>(reinterpret_cast<std::byte*>(&expired) -
                                                      offsetof(fiber_block, deadline));
        fiber.timer_fired = true;
        scheduler::wake(fiber);
    });
}

void worker::wait_for_work() noexcept {
    if (spin_for_work()) return;
    gate_.announce();
    const bool closing = owner_.closing();
    time_point until = now_;
    if (inputs_empty() && closing == cancelled_fibers_) {
        until = wheel_.next_expiry();
        if (outboxes_used_) until = std::min(until, now_ + outbox_retry);
        if (closing) until = std::min(until, now_ + closing_check);
        if (wants_trim() && now_ >= next_trim_) trim();
        if (wants_trim()) until = std::min(until, next_trim_);
        counters_.sleeps.add();
        load_.rest();
    }
    engine_->turn(now_, until);
    gate_.withdraw();
    const time_point asleep_since = std::exchange(now_, owner_.time().now());
    load_.rested(now_ - asleep_since);
    if (watchdog* looks = owner_.watcher()) looks->worker_woke();
    // Work from a neighbour that soon after it went to sleep: the next may be worth a spin.
    if (spins_ && spin_credit_ < spin_credit_max && !inputs_empty() && now_ - asleep_since < spin_pays)
        spin_credit_ += 2;
}

bool worker::wants_trim() const noexcept {
    return cache_.wants_trim() || owner_.fibers().blocks_in_excess() != 0;
}

void worker::trim() noexcept {
    next_trim_ = now_ + trim_interval;
    cache_.trim();
    // Blocks are given back when the load for which they were made has gone: when most belong to no fiber.
    if (owner_.fibers().blocks_in_excess() > 2 * owner_.live()) owner_.fibers().give_back_blocks();
}

// Waking a sleeping worker costs its sender as much as two requests. So one that is being given work by its
// neighbours looks a little longer before it sleeps; it gives that up when it looked in vain, and never does
// it without need.
bool worker::spin_for_work() noexcept {
    if (spin_credit_ == 0) return false;
    engine_->turn(now_, now_);  // nothing that was started may wait for the end of the spin
    const hardware_help& hardware = owner_.hardware();
    const unsigned looks_max = hardware.looks_max();
    for (unsigned n = 0; n < looks_max && queue_.empty() && !engine_->ready(); ++n) {
        hardware.watch(watched_line_);
        if (!inputs_empty()) {
            spin_credit_ = spin_credit_max;
            receive();  // here and now: what came runs next, before the clock and the engine are looked at
            return true;
        }
        hardware.wait();
    }
    --spin_credit_;
    return !queue_.empty();
}

bool worker::wake_if_sleeping() noexcept {
    if (!gate_.claim_wake()) return false;
    engine_->wake();
    return true;
}

void worker::cancel_fibers_at_home() noexcept {
    cancelled_fibers_ = true;
    arena& fibers = owner_.fibers();
    for (std::uint32_t index = 0; index < fibers.blocks_used(); ++index) {
        fiber_block& fiber = fibers.block(index);
        const fiber_word::value now = fiber.word.load();
        if (is_live(now.state) && fiber.home.load(std::memory_order_relaxed) == this)
            request(fiber, now.generation, request_cancel);
    }
}

void request(fiber_block& fiber, std::uint32_t generation, std::uint8_t bits) noexcept {
    if (fiber.requests.add(generation, bits)) scheduler::wake_if_live(fiber, generation);
}

namespace {

struct place {
    worker& here;
    fiber_block& fiber;
};

// Of the running fiber.
place current_place() noexcept {
    worker* here = worker::current();
    fiber_block* fiber = here != nullptr ? here->running() : nullptr;
    WEFT_ASSERT(fiber != nullptr, "this call waits, so it must be made by a fiber");
    return {*here, *fiber};
}

// Others that the thread runs meanwhile could want what the fiber has locked, and block the thread for ever.
void expect_no_locks() noexcept {
    WEFT_DEBUG_ASSERT(detail::thread_locks_held() == 0,
                      "a fiber parks, yields or ends while it holds a weft::thread_mutex: unlock it before");
}

}  // namespace

fiber_block& current_fiber() noexcept {
    return current_place().fiber;
}

void park() noexcept {
    expect_no_locks();
    const auto [here, fiber] = current_place();
    const std::uint32_t wakes = fiber.word.look();
    if (wakes != fiber.wakes_seen) {
        fiber.wakes_seen = wakes;  // it was woken before it slept
        return;
    }
    here.leave(fiber, leaving::to_park);
}

bool cancel_requested() noexcept {
    return current_fiber().requests.pending(request_cancel) || worker::current()->owner().closing();
}

void yield() noexcept {
    expect_no_locks();
    const auto [here, fiber] = current_place();
    here.leave(fiber, leaving::to_run_again);
}

void fiber_main(void* block) {
    auto& fiber = *static_cast<fiber_block*>(block);
    if constexpr (sanitizer::active) worker::current()->arrived();
    fiber.code->act(fiber);
    expect_no_locks();
    worker::current()->leave_for_good(fiber);
}

}  // namespace weft
