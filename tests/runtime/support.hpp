// What several tests of the runtime need: runtimes and fibers in a line, sizes that suit sanitizers, a seed
// that is printed, a watchdog, and children whose death is looked at.
#pragma once

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <weft/runtime/log_level.hpp>
#include <weft/runtime/runtime.hpp>
#include <weft/runtime/sanitizer.hpp>

#include "sleeping_engine.hpp"

#if defined(WEFT_TSAN)
// Children may start threads, although their parent had some.
extern "C" [[gnu::used]] inline const char* __tsan_default_options() {
    return "die_after_fork=0";
}
#endif

namespace weft::testing {

/// The tests run under qemu's user-mode emulation.
#if defined(WEFT_EMULATED)
inline constexpr bool emulated = true;
#else
inline constexpr bool emulated = false;
#endif

/// How often to do something: less where a sanitizer or an emulator makes each step cost ten times as much.
constexpr unsigned scaled(unsigned plain, unsigned slow) {
    return sanitizer::active || emulated ? slow : plain;
}

/// Ends the process with a sentence when it still lives after `limit`: what waits for a wake-up that was lost
/// would wait for ever.
class watchdog {
  public:
    explicit watchdog(const char* sentence, std::chrono::seconds limit = std::chrono::seconds(240))
        : thread_([this, sentence, limit] {
              std::unique_lock lock(mutex_);
              if (over_changed_.wait_for(lock, limit, [this] { return over_; })) return;
              std::fprintf(stderr, "the watchdog barks: %s\n", sentence);
              std::abort();
          }) {}
    watchdog(const watchdog&) = delete;
    watchdog& operator=(const watchdog&) = delete;
    ~watchdog() {
        {
            std::lock_guard lock(mutex_);
            over_ = true;
        }
        over_changed_.notify_one();
        thread_.join();
    }

  private:
    std::mutex mutex_;
    std::condition_variable over_changed_;
    bool over_ = false;
    std::thread thread_;
};

/// A generator whose seed is printed when the test fails, and taken from WEFT_TEST_SEED when that is set.
class seeded_random : public std::mt19937 {
  public:
    seeded_random() : seeded_random(choose_seed()) {}
    unsigned seed() const { return seed_; }
    unsigned below(unsigned bound) { return static_cast<unsigned>((*this)()) % bound; }

  private:
    explicit seeded_random(unsigned seed) : std::mt19937(seed), seed_(seed) {}
    static unsigned choose_seed() {
        const char* given = std::getenv("WEFT_TEST_SEED");
        return given != nullptr ? static_cast<unsigned>(std::strtoul(given, nullptr, 10))
                                : std::random_device{}();
    }
    unsigned seed_;
};

/// Runs `function` in a child process and returns the signal that it died by, or 0 when it lived to its end.
template <class Function>
int signal_of_death(Function function) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        for (const int fatal : {SIGSEGV, SIGBUS, SIGABRT}) signal(fatal, SIG_DFL);
        const rlimit no_core{0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        std::freopen("/dev/null", "w", stderr);  // it is about to complain, as it should
        function();
        _exit(0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/// What a runtime's workers turn: the ring, or what there is in a build without it.
#if defined(WEFT_WITHOUT_IO_URING)
inline constexpr engine_factory make_engine = make_sleeping_engine;
#else
inline constexpr engine_factory make_engine = make_default_ring;
#endif

inline std::unique_ptr<runtime> make_runtime(runtime_options options) {
    if (options.make_engine == make_default_ring) options.make_engine = make_engine;
    if (emulated) options.allow_guard_install = false;  // qemu says that it did, and does nothing
    auto made = runtime::create(options);
    if (!made) FAIL("no runtime: " << made.error().message());
    return std::move(*made);
}

/// Small enough that address sanitizers need not shadow a million stacks.
inline std::unique_ptr<runtime> make_runtime(unsigned workers, std::uint32_t fibers_max = 20'000) {
    return make_runtime({.workers = workers, .fibers_max = fibers_max});
}

/// Runs `function` in a fiber of a runtime, waits for it, and returns what it returned.
template <class Function>
auto run_in_fiber(runtime& where, Function&& function, const spawn_options& options = {}) {
    auto fiber = where.spawn(std::forward<Function>(function), options);
    REQUIRE(fiber);
    return fiber->join();
}

/// Enough to do on a worker to keep it above its threshold, for as long as this lives.
class overloaded_worker {
  public:
    overloaded_worker(runtime& where, unsigned index) {
        for (int n = 0; n < 8; ++n)
            fibers_.push_back(*where.spawn(
                [this] {
                    while (!over_) {
                        const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(200);
                        while (std::chrono::steady_clock::now() < until);
                        this_fiber::yield();
                    }
                },
                {.where = placement::fixed, .worker = index}));
    }
    overloaded_worker(const overloaded_worker&) = delete;
    overloaded_worker& operator=(const overloaded_worker&) = delete;
    ~overloaded_worker() {
        over_ = true;
        for (auto& each : fibers_) each.join();
    }

  private:
    std::atomic<bool> over_{false};
    std::vector<fiber<void>> fibers_;
};

}  // namespace weft::testing
