#include <doctest/doctest.h>
#include <sched.h>

#include <array>
#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support.hpp"

using namespace std::chrono_literals;
using weft::errc;
using weft::testing::make_runtime;
using weft::testing::run_in_fiber;
using weft::testing::scaled;
namespace this_fiber = weft::this_fiber;

TEST_CASE("runtime: host threads spawn, post and join at once") {
    const auto runtime = make_runtime(2);
    constexpr unsigned threads_count = 4;
    const unsigned rounds = scaled(5'000, 500);
    std::atomic<unsigned> wrong{0}, posted{0};
    {
        std::vector<std::jthread> threads;
        for (unsigned t = 0; t < threads_count; ++t)
            threads.emplace_back([&, t] {
                for (unsigned n = 0; n < rounds; ++n) {
                    auto fiber = runtime->spawn([=] {
                        if (n % 3 == 0) this_fiber::yield();
                        if (n % 5 == 0) throw std::runtime_error(std::to_string(n));
                        return t * rounds + n;
                    });
                    if (!runtime->post([&] { ++posted; })) ++wrong;
                    if (!fiber) {
                        ++wrong;
                        continue;
                    }
                    try {
                        if (fiber->join() != t * rounds + n || n % 5 == 0) ++wrong;
                    } catch (const std::runtime_error& error) {
                        if (n % 5 != 0 || error.what() != std::to_string(n)) ++wrong;
                    }
                }
            });
    }
    CHECK(wrong == 0);
    const weft::testing::watchdog watch("posted fibers did not run");
    while (posted < threads_count * rounds) std::this_thread::yield();
    while (runtime->counters().fibers_ended < 2 * threads_count * rounds) std::this_thread::yield();
    CHECK(runtime->counters().fibers_born == 2 * threads_count * rounds);
}

TEST_CASE("runtime: two live in one process, and a fiber of one joins a fiber of the other") {
    const auto one = make_runtime(1), other = make_runtime(2);
    const unsigned rounds = scaled(2'000, 200);
    const unsigned sum = run_in_fiber(*one, [&] {
        unsigned added = 0;
        for (unsigned n = 0; n < rounds; ++n) {
            auto there = other->spawn([n] {
                if (n % 4 == 0) this_fiber::yield();
                return this_fiber::worker_count() == 2 ? n : 0;
            });
            auto here = weft::spawn([] { return this_fiber::worker_count() == 1 ? 1u : 0u; });
            added += there->join() + here->join();
        }
        return added;
    });
    CHECK(sum == rounds * (rounds - 1) / 2 + rounds);
}

TEST_CASE("runtime: handles may be dropped and cancelled from the fibers of another runtime") {
    const auto one = make_runtime(1), other = make_runtime(1);
    CHECK(run_in_fiber(*one, [&] {
        auto there = other->spawn([] { return this_fiber::sleep_for(1h).error() == errc::cancelled; });
        auto dropped = other->spawn([] { (void)this_fiber::sleep_for(1h); });
        there->cancel();
        return there->join();
    }));
}

TEST_CASE(
    "runtime: it ends at once with fibers that sleep for an hour, and they see that they are cancelled") {
    for (unsigned workers = 1; workers <= 2; ++workers)
        for (const auto affinity : {weft::fiber_affinity::worker, weft::fiber_affinity::any}) {
            CAPTURE(workers);
            CAPTURE(static_cast<int>(affinity));
            constexpr unsigned count = 1000;
            std::atomic<unsigned> cancelled{0};
            auto runtime = make_runtime(workers);
            for (unsigned n = 0; n < count; ++n)
                REQUIRE(runtime->post(
                    [&] {
                        if (this_fiber::sleep_for(1h).error() == errc::cancelled && this_fiber::cancelled())
                            ++cancelled;
                    },
                    {.where = weft::placement::spread, .affinity = affinity}));
            std::this_thread::sleep_for(20ms);
            const auto before = std::chrono::steady_clock::now();
            runtime.reset();
            CHECK(std::chrono::steady_clock::now() - before < 30s);
            CHECK(cancelled == count);
        }
}

TEST_CASE("runtime: it may end while fibers are being born, on their way, and parked") {
    const unsigned rounds = scaled(100, 30);
    for (unsigned round = 0; round < rounds; ++round) {
        std::atomic<unsigned> begun{0}, ended{0};
        auto runtime = make_runtime(2);
        const weft::testing::watchdog watch("a runtime did not end");
        for (unsigned n = 0; n < 50; ++n)
            REQUIRE(runtime->post(
                [&, n] {
                    ++begun;
                    for (unsigned step = 0; step < n % 7; ++step) this_fiber::yield();
                    if (n % 3 == 0) (void)this_fiber::sleep_for(std::chrono::microseconds(n * 20));
                    if (n % 3 == 1) (void)this_fiber::sleep_for(1h);
                    ++ended;
                },
                {.where = weft::placement::spread,
                 .affinity = n % 2 == 0 ? weft::fiber_affinity::any : weft::fiber_affinity::worker}));
        if (round % 2 == 0) std::this_thread::sleep_for(std::chrono::microseconds(round * 10));
        runtime.reset();
        CHECK(begun == 50);
        CHECK(ended == 50);
    }
}

TEST_CASE("runtime: fibers that are spawned while it closes run to their end, cancelled from the start") {
    std::atomic<unsigned> cancelled{0};
    constexpr unsigned generations = 10;
    struct chain {
        std::atomic<unsigned>& cancelled;
        unsigned left;
        void operator()() const {
            if (this_fiber::sleep_for(1h).error() == errc::cancelled) ++cancelled;
            if (left > 1)
                REQUIRE(weft::spawn_detached(
                    chain{cancelled, left - 1},
                    {.where = weft::placement::fixed, .worker = left % this_fiber::worker_count()}));
        }
    };
    {
        const auto runtime = make_runtime(2);
        for (int n = 0; n < 20; ++n) REQUIRE(runtime->post(chain{cancelled, generations}));
    }
    CHECK(cancelled == 20 * generations);
}

TEST_CASE("runtime: a hundred are made and ended in turn") {
    for (unsigned round = 0; round < scaled(100, 20); ++round) {
        const auto runtime = make_runtime(1 + round % 2, 100);
        if (round % 3 != 0) CHECK(run_in_fiber(*runtime, [=] { return round; }) == round);
    }
}

TEST_CASE("runtime: without a number of workers there is one for each CPU that was named, bound to it") {
    cpu_set_t allowed;
    REQUIRE(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
    int cpu = 0;
    while (!CPU_ISSET(cpu, &allowed)) ++cpu;
    const auto runtime = make_runtime({.cpus = {cpu, cpu}, .fibers_max = 100});
    CHECK(runtime->workers() == 2);
    for (unsigned n = 0; n < 2; ++n)
        CHECK(run_in_fiber(*runtime, [] { return sched_getcpu(); },
                           {.where = weft::placement::fixed, .worker = n}) == cpu);
    REQUIRE(weft::set_log_level("off"));
    CHECK(
        weft::runtime::create({.cpus = {4095}, .fibers_max = 100, .make_engine = weft::testing::make_engine})
            .error() == errc::reported);
    REQUIRE(weft::set_log_level("warn"));
}

TEST_CASE("runtime: when a worker has no engine it is not made, and says why") {
    const auto made = weft::runtime::create({.workers = 2, .fibers_max = 100, .make_engine = [] {
                                                 return weft::result<std::unique_ptr<weft::engine>>(
                                                     weft::failure(weft::ring_setup_error(ENOSYS)));
                                             }});
    REQUIRE_FALSE(made);
    CHECK(made.error() == weft::ring_setup_error(ENOSYS));
}

#if defined(WEFT_WITHOUT_IO_URING)
TEST_CASE("runtime: in a build without io_uring one that was given no engine is not made, and says why") {
    const auto made = weft::runtime::create({.workers = 1, .fibers_max = 100});
    REQUIRE_FALSE(made);
    CHECK(made.error().message().find("built without io_uring") != std::string::npos);
}
#endif

TEST_CASE("runtime: when the second worker has no engine, the first one ends again") {
    static std::atomic<int> engines_wanted;
    engines_wanted = 0;
    const auto made = weft::runtime::create({.workers = 2, .fibers_max = 100, .make_engine = [] {
                                                 if (engines_wanted++ == 0)
                                                     return weft::testing::make_engine();
                                                 return weft::result<std::unique_ptr<weft::engine>>(
                                                     weft::failure(weft::ring_setup_error(ENOMEM)));
                                             }});
    REQUIRE_FALSE(made);
    CHECK(made.error() == weft::ring_setup_error(ENOMEM));
}

TEST_CASE("runtime: the first request to stop is graceful, the second is not, and fibers see both") {
    const auto runtime = make_runtime(1);
    const auto seen = [] {
        return std::array{this_fiber::stop_token().stop_requested(),
                          this_fiber::stop_now_token().stop_requested()};
    };
    CHECK(run_in_fiber(*runtime, seen) == std::array{false, false});
    runtime->request_stop();
    CHECK(run_in_fiber(*runtime, seen) == std::array{true, false});
    CHECK(runtime->stop_token().stop_requested());
    CHECK_FALSE(runtime->stop_now_token().stop_requested());
    runtime->request_stop();
    runtime->request_stop();
    CHECK(run_in_fiber(*runtime, seen) == std::array{true, true});
}

TEST_CASE("runtime: an idle one sleeps and makes no system calls") {
    const auto runtime = make_runtime(2);
    run_in_fiber(*runtime, [] {});
    std::this_thread::sleep_for(50ms);
    const auto before = runtime->counters();
    std::this_thread::sleep_for(200ms);
    const auto after = runtime->counters();
    CHECK(after.enters - before.enters <= 2);
}
