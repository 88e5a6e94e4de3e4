// A runtime: workers, their rings, and the fibers on them. Several may live in one process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string_view>
#include <vector>

#include <weft/runtime/arena.hpp>
#include <weft/runtime/clock.hpp>
#include <weft/runtime/engine.hpp>
#include <weft/runtime/fiber.hpp>
#include <weft/runtime/fiber_list.hpp>
#include <weft/runtime/result.hpp>
#include <weft/runtime/ring.hpp>

namespace weft {

/// How far a worker passes fibers on, new ones and mobile ones. Workers that are bound to no CPU count as
/// near.
enum class mesh_reach : std::uint8_t {
    l3,   ///< To workers whose CPUs share an L3 cache with its own.
    all,  ///< To all workers.
};

struct runtime_options {
    unsigned workers = 0;        ///< 0: one for each of `cpus`, or for each CPU that the process may use.
    std::vector<int> cpus = {};  ///< Worker n is bound to cpus[n % size]. Empty: not bound.
    mesh_reach mesh = mesh_reach::l3;
    std::uint32_t fibers_max = 1'000'000;  ///< Address space is reserved for so many, memory is not.
    std::size_t stack_bytes = 64 * 1024;   ///< Of a stack_class::standard, usable, without the guard page.
    std::size_t small_stack_bytes = 16 * 1024;   ///< Of a stack_class::small.
    std::size_t large_stack_bytes = 256 * 1024;  ///< Of a stack_class::large.
    guard_level guards = guard_level::per_stack;
    bool allow_guard_install = true;  ///< Use MADV_GUARD_INSTALL where the kernel has it (Linux 6.13).
    bool report_stack_overflows =
        true;  ///< A SIGSEGV handler that names the fiber, then lets the signal take its course.
    /// A fiber that neither parks nor yields for so long, and for up to as long again, is logged with its
    /// name and where it is, once. Real time, but for what its worker waited for a CPU. A thread looks, while
    /// fibers run; SIGURG, whose handler it takes over, tells it where the fiber is, unless that is blocked
    /// in a system call. 0: nobody looks.
    duration stuck_after = std::chrono::milliseconds(50);
    /// A signal at which a list of all fibers of the process is written to stderr, for example SIGUSR2. Its
    /// handler stays for as long as the process lives. 0: none.
    int list_fibers_on_signal = 0;
    /// Where the CPU has it, a worker that expects work from another waits with umwait, mwaitx, wfet or wfe
    /// instead of spinning, and writes what it sends through with cldemote. Both off: see
    /// docs/ARCHITECTURE.md.
    bool hardware_wait = false;
    bool hardware_demote = false;
    const clock* time = nullptr;  ///< nullptr: the system's. Must outlive the runtime.
    engine_factory make_engine = make_default_ring;
};

/// Sums over all workers, each a little old.
struct runtime_counters {
    std::uint64_t fibers_born = 0;
    std::uint64_t fibers_ended = 0;
    std::uint64_t fibers_failed = 0;     ///< Ended with an exception and had no handle.
    std::uint64_t fibers_born_away = 0;  ///< Spawned by one worker to live on another.
    std::uint64_t deflected_out = 0;     ///< Mobile fibers passed on when they were woken.
    std::uint64_t deflected_in = 0;      ///< Those that have arrived.
    std::uint64_t further_hops = 0;  ///< Of those passed on, the ones that had not run where they came from.
    std::uint64_t outbox_peak = 0;   ///< The most fibers that ever waited for room in one mailbox.
    std::uint64_t runs = 0;
    std::uint64_t wakes_sent = 0;  ///< System calls by which workers woke each other.
    std::uint64_t sleeps = 0;
    std::uint64_t enters = 0;      ///< System calls of the engines.
    std::uint64_t operations = 0;  ///< Handed to the kernel by the engines.
};

class runtime {
  public:
    /// Starts the workers. Errors, each with a message that says what to do: no io_uring; errc::reported for
    /// a CPU that is not there, or no address space.
    [[nodiscard]] static result<std::unique_ptr<runtime>> create(const runtime_options& options = {});
    runtime(const runtime&) = delete;
    runtime& operator=(const runtime&) = delete;
    /// Asks every fiber that is left to stop, waits until all have ended, and ends the workers. For threads
    /// that are not workers.
    ~runtime();

    /// Any thread. Like weft::spawn and weft::spawn_detached.
    template <class Function>
    [[nodiscard]] auto spawn(Function&& function, const spawn_options& options = {}) {
        return spawn_on(*scheduler_, std::forward<Function>(function), options);
    }
    template <class Function>
    [[nodiscard]] result<void> post(Function&& function, const spawn_options& options = {}) {
        if (detail::spawn(*scheduler_, std::forward<Function>(function), options, false) == nullptr)
            return failure(detail::why_no_fiber(*scheduler_, options));
        return {};
    }

    unsigned workers() const noexcept;
    runtime_counters counters() const noexcept;
    /// Of one worker.
    runtime_counters counters(unsigned worker) const noexcept;
    /// Any thread. Like weft::list_fibers.
    std::vector<fiber_info> fibers() const;
    /// How many stacks of a class were needed, and how deep they were used. Any thread; makes a system call
    /// of 0.8 µs for every stack of that class that was ever used, so it is for reports and not for each
    /// second.
    stack_use stack_use_of(stack_class which) const noexcept;

    /// Any thread, any number of times. The first request lets servers drain; the second lets them stop
    /// waiting.
    void request_stop() noexcept;
    std::stop_token stop_token() const noexcept;
    std::stop_token stop_now_token() const noexcept;

  private:
    friend scheduler& detail::scheduler_of(runtime&) noexcept;
    explicit runtime(std::unique_ptr<scheduler> scheduler) noexcept;
    std::unique_ptr<scheduler> scheduler_;
};

namespace this_fiber {
/// Of the runtime that the fiber runs in.
std::stop_token stop_token() noexcept;
std::stop_token stop_now_token() noexcept;
runtime_counters counters() noexcept;
stack_use stack_use_of(stack_class which) noexcept;
unsigned worker_count() noexcept;
unsigned worker_index() noexcept;
}  // namespace this_fiber

/// What a program's main function does: makes a runtime, runs `main` in a fiber of it, and ends the runtime
/// when it has returned. SIGINT and SIGTERM call request_stop() meanwhile, and SIGPIPE is ignored. Returns
/// the exit status: 0, or 1 after one line on stderr when the runtime could not be made or `main` returned an
/// error or let an exception out. An errc::cancelled that `main` returns is no failure: it was asked to stop.
template <class Main>
int run(const runtime_options& options, Main&& main);

namespace detail {
int run(const runtime_options& options, result<void> (*main)(void*), void* closure);
}  // namespace detail

template <class Main>
int run(const runtime_options& options, Main&& main) {
    auto invoke = [&main]() -> result<void> {
        if constexpr (std::is_void_v<std::invoke_result_t<Main&>>) {
            main();
            return {};
        } else {
            return main();
        }
    };
    return detail::run(
        options, [](void* erased) { return (*static_cast<decltype(invoke)*>(erased))(); }, &invoke);
}

}  // namespace weft
