#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include <weft/runtime/worker.hpp>

#include "support.hpp"

using namespace std::chrono_literals;
using weft::placement;
using weft::testing::make_runtime;
using weft::testing::overloaded_worker;
using weft::testing::run_in_fiber;
using weft::testing::scaled;
using weft::testing::watchdog;
namespace this_fiber = weft::this_fiber;

namespace {

constexpr weft::spawn_options mobile_on_0{
    .where = placement::fixed, .worker = 0, .affinity = weft::fiber_affinity::any};

}  // namespace

TEST_CASE("placement: a fiber that is placed by number runs there, from a thread and from a fiber") {
    const auto runtime = make_runtime(3);
    const auto index = [] { return this_fiber::worker_index(); };
    for (unsigned n = 0; n < 30; ++n)
        CHECK(run_in_fiber(*runtime, index, {.where = placement::fixed, .worker = n % 3}) == n % 3);
    run_in_fiber(*runtime, [&] {
        for (unsigned n = 0; n < 30; ++n)
            CHECK(weft::spawn(index, {.where = placement::fixed, .worker = n % 3})->join() == n % 3);
    });
}

TEST_CASE("placement: a fiber stays with the one that spawned it while that worker is not overloaded") {
    const weft::manual_clock time;  // stands still, so that no turn takes long
    const auto runtime = make_runtime({.workers = 2, .fibers_max = 1000, .time = &time});
    for (unsigned at = 0; at < 2; ++at)
        run_in_fiber(*runtime,
                     [&] {
                         for (int n = 0; n < 20; ++n)
                             CHECK(weft::spawn([] { return this_fiber::worker_index(); })->join() == at);
                     },
                     {.where = placement::fixed, .worker = at});
}

TEST_CASE("placement: fibers that are spread live on all workers, about equally many on each") {
    const weft::manual_clock time;  // stands still, so that no turn takes long
    const auto runtime = make_runtime({.workers = 2, .fibers_max = 1000, .time = &time});
    constexpr unsigned count = 200;
    run_in_fiber(*runtime, [] {
        std::array<std::atomic<unsigned>, 2> on{};
        std::vector<weft::fiber<void>> fibers;
        for (unsigned n = 0; n < count; ++n) {
            fibers.push_back(*weft::spawn(
                [&on] {
                    ++on[this_fiber::worker_index()];
                    (void)this_fiber::sleep_for(1h);
                },
                {.where = placement::spread}));
            if (n % 10 == 0) this_fiber::yield();
        }
        const watchdog watch("spread fibers did not begin");
        while (on[0] + on[1] < count) this_fiber::yield();
        CHECK(on[0] >= count / 4);
        CHECK(on[1] >= count / 4);
        for (auto& each : fibers) each.cancel();
        for (auto& each : fibers) each.join();
    });
    CHECK(runtime->counters().fibers_born_away >= count / 4);
}

TEST_CASE("placement: threads of the host hand their fibers to all workers") {
    const auto runtime = make_runtime(2);
    std::array<unsigned, 2> on{};
    for (int n = 0; n < 100; ++n) ++on[run_in_fiber(*runtime, [] { return this_fiber::worker_index(); })];
    CHECK(on[0] > 10);
    CHECK(on[1] > 10);
}

TEST_CASE("mobility: a mobile fiber that is woken on an overloaded worker moves to one that is idle") {
    const auto runtime = make_runtime(2);
    const watchdog watch("no mobile fiber moved away from an overloaded worker");
    const overloaded_worker load(*runtime, 0);
    unsigned moved = 0;
    while (moved < 10) {
        auto fiber = runtime->spawn(
            [] {
                const unsigned before = this_fiber::worker_index();
                CHECK(this_fiber::sleep_for(1ms));
                return before != this_fiber::worker_index();
            },
            mobile_on_0);
        moved += fiber->join();
    }
    CHECK(runtime->counters().deflected_out >= moved);
}

TEST_CASE("mobility: a mobile fiber's locals, exceptions and FP control words come with it") {
    const auto runtime = make_runtime(2);
    const watchdog watch("no mobile fiber moved away from an overloaded worker");
    const overloaded_worker load(*runtime, 0);
    unsigned moved_while_catching = 0;
    while (moved_while_catching < 10) {
        auto options = mobile_on_0;
        options.keep_fp_control_words = true;
        auto fiber = runtime->spawn(
            [] {
                std::array<int, 100> locals;
                for (int n = 0; n < 100; ++n) locals[n] = n;
                const unsigned before = this_fiber::worker_index();
                bool moved = false;
                try {
                    throw 42;
                } catch (int) {
                    CHECK(this_fiber::sleep_for(1ms));
                    moved = before != this_fiber::worker_index();
                    try {
                        throw;
                    } catch (int again) {
                        CHECK(again == 42);
                    }
                }
                for (int n = 0; n < 100; ++n) CHECK(locals[n] == n);
                CHECK(std::current_exception() == nullptr);
                return moved;
            },
            options);
        moved_while_catching += fiber->join();
    }
}

TEST_CASE("mobility: a pinned fiber stays on its worker, however often it is woken there under overload") {
    const auto runtime = make_runtime(2);
    const watchdog watch("a pinned fiber does not get on");
    const overloaded_worker load(*runtime, 0);
    const unsigned rounds = scaled(200, 50);
    std::vector<weft::fiber<unsigned>> fibers;
    for (unsigned n = 0; n < 8; ++n)
        fibers.push_back(*runtime->spawn(
            [=] {
                unsigned elsewhere = 0;
                for (unsigned round = 0; round < rounds; ++round) {
                    if (round % 4 == 3)
                        (void)this_fiber::sleep_for(10us);
                    else
                        this_fiber::yield();
                    elsewhere += this_fiber::worker_index() != 0;
                }
                return elsewhere;
            },
            {.where = placement::fixed, .worker = 0}));
    for (auto& each : fibers) CHECK(each.join() == 0);
}

TEST_CASE("mobility: a mobile fiber keeps its deadline when it is woken for nothing and moved") {
    const auto runtime = make_runtime(2);
    const watchdog watch("a fiber that was moved lost its deadline");
    const overloaded_worker load(*runtime, 0);
    unsigned moved = 0;
    for (unsigned attempt = 0; attempt < 1000 && moved < 10; ++attempt) {
        std::atomic<weft::fiber_block*> block{nullptr};
        auto sleeper = runtime->spawn(
            [&] {
                block = &weft::current_fiber();
                const unsigned before = this_fiber::worker_index();
                const auto when = std::chrono::steady_clock::now() + 20ms;
                CHECK(this_fiber::sleep_until(when));
                CHECK(std::chrono::steady_clock::now() >= when);
                return before != this_fiber::worker_index();
            },
            mobile_on_0);
        while (block == nullptr) std::this_thread::yield();
        std::this_thread::sleep_for(2ms);
        weft::scheduler::wake_if_live(*block, sleeper->id().generation);
        moved += sleeper->join();
    }
    CHECK(moved == 10);
}

TEST_CASE("mobility: with every worker overloaded mobile fibers still run, so none hops for ever") {
    const auto runtime = make_runtime(3);
    const watchdog watch("mobile fibers hop from worker to worker and do not run");
    const unsigned rounds = scaled(200, 40);
    std::atomic<std::uint64_t> runs{0};
    std::vector<weft::fiber<void>> fibers;
    for (unsigned n = 0; n < 600; ++n)
        fibers.push_back(*runtime->spawn(
            [&, n] {
                for (unsigned round = 0; round < rounds; ++round) {
                    if ((n + round) % 8 == 0)
                        (void)this_fiber::sleep_for(1us);
                    else
                        this_fiber::yield();
                    ++runs;
                }
            },
            {.where = placement::fixed, .worker = n % 3, .affinity = weft::fiber_affinity::any}));
    for (auto& each : fibers) each.join();
    CHECK(runs == std::uint64_t{600} * rounds);
}
