#include <weft/runtime/runtime.hpp>

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include <weft/runtime/io.hpp>
#include <weft/runtime/log_level.hpp>
#include <weft/runtime/scheduler.hpp>
#include <weft/runtime/worker.hpp>

namespace weft {

namespace detail {

fiber_block* prepare(scheduler& owner, const spawn_options& options, bool with_handle) noexcept {
    // The standard class is always open.
    if (options.stack != stack_class::standard && !owner.fibers().open(options.stack)) [[unlikely]]
        return nullptr;
    fiber_block* made = owner.allocate();
    if (made == nullptr) return nullptr;
    WEFT_ASSERT(options.where != placement::fixed || options.worker < owner.worker_count(),
                "a fiber was to be spawned on a worker that does not exist");
    // Pairs with the acquire fence in look_at(): who reads what is written from here on, and looks at the
    // word again, finds that the generation has changed.
    std::atomic_thread_fence(std::memory_order_release);
    made->affinity = options.affinity;
    made->priority = options.priority;
    made->moving = false;
    made->keeps_fp_control_words = options.keep_fp_control_words;
    made->timer_fired = false;
    made->operations_in_flight = 0;
    made->hops = 0;
    made->exceptions = {};
    made->waits_for = nullptr;
    made->code = nullptr;
    made->requests.reset(made->word.generation());
    made->joiner.reset(with_handle);
    made->name.assign(options.name);
    made->stack = options.stack;
    made->home.store(&owner.worker_at(0), std::memory_order_relaxed);
    return made;
}

std::error_code why_no_fiber(scheduler& owner, const spawn_options& options) noexcept {
    const result<void> opened = owner.fibers().open(options.stack);
    return opened ? make_error_code(errc::too_many_fibers) : opened.error();
}

void launch(scheduler& owner, fiber_block& fiber, const spawn_options& options) noexcept {
    owner.launch(fiber, options.where, options.worker);
}

scheduler& current_scheduler() noexcept {
    worker* here = worker::current();
    WEFT_ASSERT(here != nullptr,
                "this call must be made by a fiber; elsewhere use a runtime's own functions");
    return here->owner();
}

scheduler& scheduler_of(runtime& runtime) noexcept {
    return *runtime.scheduler_;
}

void discard(fiber_block& fiber) noexcept {
    fiber.home.load(std::memory_order_relaxed)->owner().discard(fiber);
}

void detach(fiber_block& fiber) noexcept {
    if (fiber.joiner.detach()) discard(fiber);
}

void wait_for_end(fiber_block& fiber) noexcept {
    worker* here = worker::current();
    WEFT_ASSERT(here == nullptr || here->running() != &fiber, "a fiber cannot wait for its own end");
    if (fiber.joiner.ended()) return;
    waiter self("the end of a fiber");
    if (fiber.joiner.wait_with(self)) self.wait();
}

void cancel(fiber_block& fiber, std::uint32_t generation) noexcept {
    request(fiber, generation, request_cancel);
}

}  // namespace detail

result<void> cancel(fiber_id id) noexcept {
    arena& fibers = detail::current_scheduler().fibers();
    if (id.index >= fibers.blocks_used()) return failure(errc::no_such_fiber);
    fiber_block& fiber = fibers.block(id.index);
    const fiber_word::value now = fiber.word.load();
    if (now.generation != id.generation || !is_live(now.state)) return failure(errc::no_such_fiber);
    request(fiber, id.generation, request_cancel);
    return {};
}

namespace {

void add_counters_of(worker& each, runtime_counters& sum) noexcept {
    const worker_counters& counted = each.counters();
    sum.fibers_born += counted.born.read();
    sum.fibers_ended += counted.ended.read();
    sum.fibers_born_away += counted.born_away.read();
    sum.deflected_out += counted.deflected_out.read();
    sum.deflected_in += counted.deflected_in.read();
    sum.further_hops += counted.further_hops.read();
    sum.outbox_peak = std::max(sum.outbox_peak, counted.outbox_peak.read());
    sum.runs += counted.runs.read();
    sum.wakes_sent += counted.wakes_sent.read();
    sum.sleeps += counted.sleeps.read();
    sum.enters += each.io().counters().enters.read();
    sum.operations += each.io().counters().submitted.read();
}

runtime_counters counters_of(scheduler& of) noexcept {
    runtime_counters sum;
    sum.fibers_born = of.born_outside();
    sum.fibers_failed = of.failed();
    for (unsigned n = 0; n < of.worker_count(); ++n) add_counters_of(of.worker_at(n), sum);
    return sum;
}

}  // namespace

namespace this_fiber {

fiber_id id() noexcept {
    const fiber_block& fiber = current_fiber();
    return {fiber.index, fiber.word.generation()};
}
std::string_view name() noexcept {
    return current_fiber().name_view();
}
time_point now() noexcept {
    return worker::current()->now();
}
void yield() noexcept {
    weft::yield();
}
bool cancelled() noexcept {
    return cancel_requested();
}
std::stop_token stop_token() noexcept {
    return detail::current_scheduler().stop.get_token();
}
std::stop_token stop_now_token() noexcept {
    return detail::current_scheduler().stop_now.get_token();
}
runtime_counters counters() noexcept {
    return counters_of(detail::current_scheduler());
}
stack_use stack_use_of(stack_class which) noexcept {
    return detail::current_scheduler().fibers().use_of(which);
}
unsigned worker_count() noexcept {
    return detail::current_scheduler().worker_count();
}
unsigned worker_index() noexcept {
    worker* here = worker::current();
    WEFT_ASSERT(here != nullptr, "only a fiber has a worker");
    return here->index();
}

}  // namespace this_fiber

runtime::runtime(std::unique_ptr<scheduler> scheduler) noexcept : scheduler_(std::move(scheduler)) {}

runtime::~runtime() = default;

result<std::unique_ptr<runtime>> runtime::create(const runtime_options& options) {
    auto made = WEFT_TRY(scheduler::create(options));
    return std::unique_ptr<runtime>(new runtime(std::move(made)));
}

unsigned runtime::workers() const noexcept {
    return scheduler_->worker_count();
}

runtime_counters runtime::counters() const noexcept {
    return counters_of(*scheduler_);
}

runtime_counters runtime::counters(unsigned worker) const noexcept {
    WEFT_ASSERT(worker < workers(), "there is no such worker");
    runtime_counters counted;
    add_counters_of(scheduler_->worker_at(worker), counted);
    return counted;
}

std::vector<fiber_info> runtime::fibers() const {
    return detail::list_fibers(*scheduler_);
}

stack_use runtime::stack_use_of(stack_class which) const noexcept {
    return scheduler_->fibers().use_of(which);
}

void runtime::request_stop() noexcept {
    if (!scheduler_->stop.request_stop()) scheduler_->stop_now.request_stop();
}
std::stop_token runtime::stop_token() const noexcept {
    return scheduler_->stop.get_token();
}
std::stop_token runtime::stop_now_token() const noexcept {
    return scheduler_->stop_now.get_token();
}

namespace detail {
namespace {

// SIGINT and SIGTERM, taken as readable events by a fiber for as long as this lives.
class stop_signals {
  public:
    stop_signals() noexcept {
        sigemptyset(&signals_);
        sigaddset(&signals_, SIGINT);
        sigaddset(&signals_, SIGTERM);
        pthread_sigmask(SIG_BLOCK, &signals_, &mask_before_);
        signal(SIGPIPE, SIG_IGN);
        descriptor_ = signalfd(-1, &signals_, SFD_CLOEXEC | SFD_NONBLOCK);
    }
    stop_signals(const stop_signals&) = delete;
    stop_signals& operator=(const stop_signals&) = delete;
    ~stop_signals() {
        take();  // one that came too late to matter must not end the process now
        ::close(descriptor_);
        pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
    }

    /// In a fiber, until it is cancelled.
    void watch(runtime& runtime) noexcept {
        while (wait_for_events(descriptor_, POLLIN)) {
            for (int signals = take(); signals > 0; --signals) runtime.request_stop();
        }
    }

  private:
    int take() noexcept {
        int taken = 0;
        signalfd_siginfo signal;
        while (::read(descriptor_, &signal, sizeof signal) == sizeof signal) ++taken;
        return taken;
    }

    sigset_t signals_, mask_before_;
    int descriptor_;
};

int complain(const std::error_code& error) {
    flush_log();
    if (error != errc::reported) std::fprintf(stderr, "weft: %s\n", error.message().c_str());
    return 1;
}

}  // namespace

int run(const runtime_options& options, result<void> (*main)(void*), void* closure) {
    stop_signals signals;
    auto made = runtime::create(options);
    if (!made) return complain(made.error());
    runtime& running = **made;
    int status = 0;
    try {
        auto watching = running.post([&] { signals.watch(running); }, {.name = "signals"});
        auto main_fiber = running.spawn([=] { return main(closure); }, {.name = "main"});
        if (!watching || !main_fiber) return complain(errc::too_many_fibers);
        const result<void> returned = main_fiber->join();
        if (!returned && returned.error() != errc::cancelled) status = complain(returned.error());
    } catch (const std::exception& error) {
        flush_log();
        std::fprintf(stderr, "weft: %s\n", error.what());
        status = 1;
    }
    made->reset();
    flush_log();
    return status;
}

}  // namespace detail

}  // namespace weft
