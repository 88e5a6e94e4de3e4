#include <weft/runtime/scheduler.hpp>

#include <algorithm>

#include <weft/runtime/fiber_block.hpp>
#include <weft/runtime/log.hpp>
#include <weft/runtime/overflow.hpp>
#include <weft/runtime/runtime.hpp>
#include <weft/runtime/watchdog.hpp>
#include <weft/runtime/worker.hpp>

namespace weft {
namespace {

// So many neighbours are looked at for a decision, others each time.
constexpr std::size_t candidates_max = 4;

// The workers' CPUs: those that were asked for, or none in particular.
std::vector<std::optional<int>> cpus_of_workers(const runtime_options& options, const topology& machine) {
    const unsigned count = options.workers != 0    ? options.workers
                           : !options.cpus.empty() ? static_cast<unsigned>(options.cpus.size())
                                                   : static_cast<unsigned>(machine.usable_cpus());
    std::vector<std::optional<int>> chosen(count);
    if (!options.cpus.empty())
        for (unsigned n = 0; n < count; ++n) chosen[n] = options.cpus[n % options.cpus.size()];
    return chosen;
}

}  // namespace

scheduler::scheduler(const clock& time) noexcept : clock_(time) {}

result<std::unique_ptr<scheduler>> scheduler::create(const runtime_options& options) {
    const topology machine = topology::read();
    for (const int wanted : options.cpus)
        if (std::none_of(machine.cpus().begin(), machine.cpus().end(),
                         [&](const cpu& c) { return c.id == wanted; })) {
            log::error("no worker can run on CPU {}: there is none, or this process may not use it", wanted);
            return failure(errc::reported);
        }

    std::unique_ptr<scheduler> made(
        new scheduler(options.time != nullptr ? *options.time : monotonic_clock()));
    made->hardware_ = hardware_help(read_cpu_features(), options.hardware_wait, options.hardware_demote);
    const auto cpus = cpus_of_workers(options, machine);
    if (options.report_stack_overflows) report_stack_overflows();
    auto fibers = arena::create({.fibers_max = options.fibers_max,
                                 .stack_bytes = options.stack_bytes,
                                 .small_stack_bytes = options.small_stack_bytes,
                                 .large_stack_bytes = options.large_stack_bytes,
                                 .guards = options.guards,
                                 .allow_guard_install = options.allow_guard_install,
                                 .caches = static_cast<unsigned>(cpus.size())});
    if (!fibers)
        return failure(fibers.error() == std::errc::not_enough_memory ? errc::reported : fibers.error());
    made->arena_ = std::move(*fibers);
    made->watchdog_ = WEFT_TRY(watchdog::create(
        {.stuck_after = options.stuck_after, .list_fibers_on_signal = options.list_fibers_on_signal}));
    made->mailboxes_ = std::vector<mailbox>(cpus.size() * cpus.size());
    made->workers_.resize(cpus.size());
    for (unsigned n = 0; n < cpus.size(); ++n)
        made->workers_[n] = std::make_unique<worker>(*made, n, cpus[n]);
    for (unsigned n = 0; n < cpus.size(); ++n) {
        auto started =
            made->workers_[n]->start(options.make_engine, neighbours_of(n, cpus, machine, options.mesh));
        if (!started) return failure(started.error());
    }
    made->registered_.emplace(*made);
    if (made->watchdog_ != nullptr) made->watchdog_->watch(*made);
    log::info("{} workers, {}, {}", cpus.size(), made->workers_[0]->io().description(),
              made->hardware_.description());
    return made;
}

scheduler::~scheduler() {
    stop.request_stop();
    stop_now.request_stop();
    closing_.store(true, std::memory_order_release);
    for (auto& each : workers_) each->wake_if_sleeping();
    for (auto& each : workers_) each->join();
}

std::uint64_t scheduler::live() const noexcept {
    // What has ended is summed up before what was born. Births come first, so when the two sums are equal
    // there was a moment in between at which every fiber had ended; and only a live fiber, or a thread
    // outside, makes new ones.
    std::uint64_t ended = 0;
    for (auto& each : workers_) ended += each->counters().ended.read();
    std::uint64_t born = born_outside_.load(std::memory_order_acquire);
    for (auto& each : workers_) born += each->counters().born.read();
    return born - ended;
}

void scheduler::wake(fiber_block& fiber) noexcept {
    if (fiber.word.notify()) enqueue(fiber, worker::current());
}

void scheduler::complete(operation& finished) noexcept {
    finished.done = true;
    --finished.waiting_fiber->operations_in_flight;
    wake(*finished.waiting_fiber);
}

void scheduler::wake_if_live(fiber_block& fiber, std::uint32_t generation) noexcept {
    if (fiber.word.notify_if_live(generation) == fiber_word::wake_result::queue_it)
        enqueue(fiber, worker::current());
}

// The fiber is awake, and the caller has the right to queue it (R1): at its home, whoever calls.
void scheduler::enqueue(fiber_block& fiber, worker* here) noexcept {
    worker* home = fiber.home.load(std::memory_order_relaxed);
    if (here == home) {
        here->make_runnable(fiber);
    } else if (here != nullptr && &here->owner() == &home->owner()) {
        here->send(fiber);
    } else {
        home->in().push(fiber);
        home->wake_if_sleeping();
    }
}

fiber_block* scheduler::allocate() noexcept {
    worker* here = worker::current();
    return here != nullptr && &here->owner() == this ? here->cache().allocate_block()
                                                     : arena_->allocate_block();
}

void scheduler::discard(fiber_block& fiber) noexcept {
    if (fiber.code != nullptr) fiber.code->act(fiber);  // a result that nobody took
    if (fiber.exception) {
        report_uncollected(fiber);
        fiber.exception = nullptr;
    }
    fiber.word.retire();
    worker* here = worker::current();
    if (here != nullptr && &here->owner() == this)
        here->cache().free_block(fiber);
    else
        arena_->free_block(fiber);
}

void scheduler::report_uncollected(const fiber_block& fiber) noexcept {
    failed_.fetch_add(1, std::memory_order_relaxed);
    try {
        std::rethrow_exception(fiber.exception);
    } catch (const std::exception& error) {
        log::error("fiber {} '{}' ended by an exception: {}", fiber.index, fiber.name_view(), error.what());
    } catch (...) {
        log::error("fiber {} '{}' ended by an exception that is no std::exception", fiber.index,
                   fiber.name_view());
    }
}

void scheduler::launch(fiber_block& fiber, placement where, unsigned fixed_worker) noexcept {
    worker* here = worker::current();
    if (here != nullptr && &here->owner() != this) here = nullptr;
    if (here != nullptr)
        here->counters().born.add();
    else
        born_outside_.fetch_add(1, std::memory_order_relaxed);

    const auto place = [&]() -> worker& {
        if (where == placement::fixed) return *workers_[fixed_worker];
        if (here != nullptr) return choose(*here, where, here->next_candidate(), true);
        const unsigned turn = next_worker_.fetch_add(1, std::memory_order_relaxed);
        return choose(*workers_[turn % worker_count()], where, turn, false);
    };
    worker& home = place();
    if (here == &home)
        here->adopt();
    else if (here != nullptr)
        here->counters().born_away.add();
    fiber.home.store(&home, std::memory_order_relaxed);
    fiber.word.launch();
    enqueue(fiber, here);
}

// A place for a new fiber: at home, or at one of a few neighbours that has clearly less to do.
worker& scheduler::choose(worker& home, placement where, unsigned first_candidate,
                          bool on_this_worker) noexcept {
    const bool overloaded = home.load().overloaded();
    if (where == placement::near && !overloaded) return home;
    const auto neighbours = home.neighbours_within(fiber_affinity::any);
    if (overloaded) {
        worker* relief = least_loaded(neighbours, first_candidate);
        if (relief != nullptr && relief->load().level() + clearly_less < home.load().level()) return *relief;
    }
    if (where == placement::near) return home;
    // Of those sent there in this turn the receiver does not know yet.
    const auto live_at = [&](worker& at) -> std::size_t {
        if (!on_this_worker) return at.load().live();
        return &at == &home ? home.live() : at.load().live() + home.unsent_to(at.index());
    };
    worker* best = &home;
    for (std::size_t look = 0; look < std::min(neighbours.size(), candidates_max); ++look) {
        worker& candidate = *workers_[neighbours[(first_candidate + look) % neighbours.size()]];
        if (live_at(candidate) + live_at(candidate) / 8 + 2 < live_at(*best) &&
            !candidate.load().overloaded())
            best = &candidate;
    }
    return *best;
}

worker* scheduler::least_loaded(std::span<const unsigned> candidates, unsigned first) const noexcept {
    worker* best = nullptr;
    for (std::size_t look = 0; look < std::min(candidates.size(), candidates_max); ++look) {
        worker& candidate = *workers_[candidates[(first + look) % candidates.size()]];
        if (best == nullptr || candidate.load().level() < best->load().level()) best = &candidate;
    }
    return best;
}

}  // namespace weft
