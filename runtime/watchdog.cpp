#include <weft/runtime/watchdog.hpp>

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <mutex>
#include <new>
#include <optional>
#include <string>

#include <weft/runtime/fiber_list.hpp>
#include <weft/runtime/log.hpp>
#include <weft/runtime/registry.hpp>
#include <weft/runtime/scheduler.hpp>
#include <weft/runtime/stack_trace.hpp>
#include <weft/runtime/worker.hpp>

namespace weft {
namespace {

// When no fiber has run for so long, the looks become rare.
constexpr duration doze_after{1'000'000'000};
constexpr int doze_ms = 1000;
// A thread that runs answers the signal within microseconds, when it has a CPU.
constexpr duration answer_takes_max{500'000'000};
constexpr int trace_signal = SIGURG;  // ignored by default: a stray one does no harm

void read_all(int eventfd) noexcept {
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t taken = ::read(eventfd, &count, sizeof count);
}

void raise(int eventfd) noexcept {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(eventfd, &one, sizeof one);
}

std::string of_thread(pid_t thread, const char* file) {
    return "/proc/self/task/" + std::to_string(thread) + "/" + file;
}

// How long a thread has been ready to run and had no CPU, so far. Zero where the kernel does not tell.
duration waited_for_cpu(pid_t thread) {
    duration::rep on_cpu_ns = 0, waiting_ns = 0;
    std::ifstream(of_thread(thread, "schedstat")) >> on_cpu_ns >> waiting_ns;
    return duration(waiting_ns);
}

// Where a thread is that is blocked in a system call; its frame pointer is not told. None when it runs.
std::optional<stack_registers> blocked_at(pid_t thread) {
    std::ifstream file(of_thread(thread, "syscall"));
    std::string word, sp, pc;  // number, six arguments, stack pointer, program counter; or `running`
    for (int n = 0; n < 7; ++n) file >> word;
    if (!(file >> sp >> pc)) return std::nullopt;
    return stack_registers{.pc = std::stoul(pc, nullptr, 16), .sp = std::stoul(sp, nullptr, 16)};
}

// --- a copy of a running fiber's stack, made by its own thread in a signal handler

// Enough for some dozens of frames.
struct stack_copy {
    stack_registers registers;
    std::array<std::uintptr_t, 4096> words;
    std::size_t count = 0;
};

// Sees bytes that nobody else may look at: the sanitizers' red zones, and what another thread writes.
[[gnu::no_sanitize_address, gnu::no_sanitize_thread]] void copy_stack(stack_copy& copy,
                                                                      stack_bounds stack) noexcept {
    copy.count = 0;
    const auto bottom = reinterpret_cast<std::uintptr_t>(stack.bottom);
    const std::uintptr_t sp = copy.registers.sp;
    if (sp < bottom || sp >= bottom + stack.bytes || sp % sizeof(std::uintptr_t) != 0) return;
    std::uintptr_t* to = copy.words.data();
    const auto* from = reinterpret_cast<const std::uintptr_t*>(sp);
    std::size_t count = (bottom + stack.bytes - sp) / sizeof(std::uintptr_t);
    if (count > sizeof copy.words / sizeof(std::uintptr_t))
        count = sizeof copy.words / sizeof(std::uintptr_t);
    for (std::size_t n = 0; n < count; ++n) to[n] = from[n];
    copy.count = count;
}

// What one watchdog asks one worker's thread. There is one in the process, as there is one signal handler.
struct trace_request {
    enum step : int { none, asked, answering, complete };

    std::mutex one_at_a_time;
    std::atomic<int> at{none};
    sem_t answered;

    // The question, and the answer: the handler's while `at` is answering, else the watchdog's.
    std::atomic<worker*> from{nullptr};  // atomic because a stray signal looks at it, too
    stall_detector::sight of;
    stack_copy copy;

    trace_request() noexcept { sem_init(&answered, 0, 0); }
};
trace_request request_in_flight;
struct sigaction trace_action_before;

// Runs on the worker's signal stack.
void answer_trace_request(int number, siginfo_t* info, void* context) {
    const int saved_errno = errno;
    trace_request& request = request_in_flight;
    worker* here = worker::current();
    int expected = trace_request::asked;
    // acquire: pairs with the watchdog's release, and shows what it asks for.
    if (here != nullptr && here == request.from.load(std::memory_order_relaxed) &&
        request.at.compare_exchange_strong(expected, trace_request::answering, std::memory_order_acquire)) {
        request.copy.count = 0;
        if (here->running() == request.of.running && here->counters().runs.read() == request.of.runs) {
            request.copy.registers = registers_of(context);
            copy_stack(request.copy, here->owner().fibers().bounds(here->running()->stack_slot));
        }
        // release: pairs with the acquire of the watchdog, which has the answer when the semaphore tells.
        request.at.store(trace_request::complete, std::memory_order_release);
        sem_post(&request.answered);
    } else if ((trace_action_before.sa_flags & SA_SIGINFO) != 0) {
        trace_action_before.sa_sigaction(number, info, context);
    } else if (trace_action_before.sa_handler != SIG_DFL && trace_action_before.sa_handler != SIG_IGN) {
        trace_action_before.sa_handler(number);
    }
    errno = saved_errno;
}

void install_trace_handler() noexcept {
    static std::once_flag once;
    std::call_once(once, [] {
        struct sigaction action{};
        action.sa_sigaction = answer_trace_request;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
        sigemptyset(&action.sa_mask);
        sigaction(trace_signal, &action, &trace_action_before);
    });
}

// Calls `use` with a copy of the stack of that run of a fiber; false when it is over, or its thread does not
// answer.
template <class Use>
bool with_stack_of(worker& stuck, const stall_detector::sight& seen, Use use) {
    trace_request& request = request_in_flight;
    const std::lock_guard lock(request.one_at_a_time);
    request.from.store(&stuck, std::memory_order_relaxed);
    request.of = seen;
    request.at.store(trace_request::asked, std::memory_order_release);
    syscall(SYS_tgkill, getpid(), stuck.thread_id(), trace_signal);
    const time_point until = monotonic_clock().now() + answer_takes_max;
    const auto until_ns = until.time_since_epoch().count();
    const timespec limit{.tv_sec = until_ns / 1'000'000'000, .tv_nsec = until_ns % 1'000'000'000};
    int waited;
    do waited = sem_clockwait(&request.answered, CLOCK_MONOTONIC, &limit);
    while (waited != 0 && errno == EINTR);
    int expected = trace_request::asked;
    if (waited != 0) {
        // Withdrawn; but a handler that has begun is let end.
        if (request.at.compare_exchange_strong(expected, trace_request::none, std::memory_order_relaxed))
            return false;
        while (sem_wait(&request.answered) != 0);
    }
    request.at.exchange(trace_request::none, std::memory_order_acquire);  // pairs with the handler's release
    if (request.copy.count == 0) return false;
    use(request.copy);
    return true;
}

// --- the signal that asks for a list

// One for the process, which is never closed: a handler may write to it at any time.
int list_requests() noexcept {
    static const int made = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return made;
}
std::atomic<int> list_requests_for_handler{-1};

void ask_for_list(int) {
    const int saved_errno = errno;
    raise(list_requests_for_handler.load(std::memory_order_relaxed));
    errno = saved_errno;
}

// To stderr and not to the log, which drops lines when there are very many.
void write_list() {
    std::string text;
    for_each_runtime([&](scheduler& each) { text += detail::listing(each); });
    std::fwrite(text.data(), 1, text.size(), stderr);
}

}  // namespace

result<std::unique_ptr<watchdog>> watchdog::create(const watchdog_options& options) {
    if (options.stuck_after <= duration::zero() && options.list_fibers_on_signal == 0) return nullptr;
    std::unique_ptr<watchdog> made(new watchdog(options));
    made->stirred_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (made->stirred_ < 0) return failure(system_error(errno));
    if (options.list_fibers_on_signal != 0) {
        made->list_requests_ = list_requests();
        if (made->list_requests_ < 0) return failure(system_error(errno));
        list_requests_for_handler.store(made->list_requests_, std::memory_order_relaxed);
        struct sigaction action{};
        action.sa_handler = ask_for_list;
        action.sa_flags = SA_RESTART | SA_ONSTACK;
        sigemptyset(&action.sa_mask);
        if (sigaction(options.list_fibers_on_signal, &action, nullptr) != 0)
            return failure(system_error(errno));
    }
    if (options.stuck_after > duration::zero()) install_trace_handler();
    return made;
}

watchdog::~watchdog() {
    stopping_.store(true, std::memory_order_release);
    stir();
    if (thread_.joinable()) thread_.join();
    if (stirred_ >= 0) ::close(stirred_);
}

void watchdog::watch(scheduler& watched) {
    watched_ = &watched;
    if (options_.stuck_after > duration::zero())
        for (unsigned n = 0; n < watched.worker_count(); ++n)
            workers_.push_back({&watched.worker_at(n), stall_detector(options_.stuck_after)});
    active_at_ = monotonic_clock().now();
    // Signals are for whoever handles them.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { run(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void watchdog::run() noexcept {
    pthread_setname_np(pthread_self(), "weft-watchdog");
    while (!stopping_.load(std::memory_order_acquire)) {
        std::array<pollfd, 2> events{pollfd{stirred_, POLLIN, 0}, pollfd{list_requests_, POLLIN, 0}};
        ::poll(events.data(), events.size(), until_next_look_ms());
        if (events[0].revents != 0) read_all(stirred_);
        try {
            // Of several runtimes' watchdogs one gets it.
            std::uint64_t asked = 0;
            if (events[1].revents != 0 && ::read(list_requests_, &asked, sizeof asked) == sizeof asked)
                write_list();
            look();
        } catch (const std::bad_alloc&) {
            // What there is no memory for is not said.
        }
    }
}

int watchdog::until_next_look_ms() noexcept {
    if (workers_.empty()) return -1;
    const auto often_ms = std::chrono::ceil<std::chrono::milliseconds>(options_.stuck_after / 2).count();
    if (!quiet()) return static_cast<int>(often_ms);
    dozing_.store(true, std::memory_order_relaxed);
    return std::max(doze_ms, static_cast<int>(often_ms));
}

// All workers sleep, and have done nothing else for a while.
bool watchdog::quiet() noexcept {
    const time_point now = monotonic_clock().now();
    std::uint64_t runs = 0;
    bool asleep = true;
    for (const watched_worker& each : workers_) {
        runs += each.is->counters().runs.read();
        asleep = asleep && each.is->sleeping();
    }
    if (!asleep || runs != runs_seen_) active_at_ = now;
    runs_seen_ = runs;
    return now - active_at_ >= doze_after;
}

void watchdog::look() {
    for (watched_worker& each : workers_) {
        worker& looked_at = *each.is;
        const stall_detector::sight seen{.runs = looked_at.counters().runs.read(),
                                         .running = looked_at.running()};
        if (each.detector.repeats(seen) &&
            each.detector.judge(monotonic_clock().now() - waited_for_cpu(looked_at.thread_id())))
            report(looked_at, seen);
    }
}

void watchdog::report(worker& stuck, const stall_detector::sight& seen) {
    arena& fibers = watched_->fibers();
    const auto fiber =
        detail::look_at(*watched_, static_cast<std::uint32_t>(seen.running - &fibers.block(0)));
    if (!fiber) return;
    std::string where;
    const auto note = [&](const stack_copy& copy) {
        where = "\n" + to_string(trace_stack(copy.registers, std::span(copy.words).first(copy.count)));
        where.pop_back();  // the log ends its lines itself
    };
    bool blocked = false;
    if (const auto registers = blocked_at(stuck.thread_id())) {
        // A signal could cut the call short. The thread writes nothing to its stack while it is blocked;
        // should it wake just now, then what is read is as good as any.
        blocked = true;
        const auto copy = std::make_unique<stack_copy>();
        copy->registers = *registers;
        if (const std::uint32_t slot = seen.running->stack_slot; slot != no_slot)
            copy_stack(*copy, fibers.bounds(slot));
        if (copy->count != 0) note(*copy);
    } else {
        with_stack_of(stuck, seen, note);
    }
    log::warn("worker {} has been kept by one fiber for more than {} ms, which {}: {}{}", stuck.index(),
              std::chrono::ceil<std::chrono::milliseconds>(options_.stuck_after).count(),
              blocked ? "is blocked in a system call" : "computes", to_string(*fiber), where);
}

void watchdog::stir() noexcept {
    raise(stirred_);
}

}  // namespace weft
