#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

#include <weft/runtime/worker.hpp>

#include "support.hpp"

using namespace std::chrono_literals;
using weft::placement;
using weft::testing::make_runtime;
using weft::testing::run_in_fiber;
using weft::testing::scaled;
using weft::testing::watchdog;
namespace this_fiber = weft::this_fiber;

namespace {

// A fiber's place in a game of two who take turns: it parks until it is its turn, and then wakes the other.
struct player {
    std::atomic<unsigned> turn{0};
    std::atomic<weft::fiber_block*> fiber{nullptr};

    void come() { fiber.store(&weft::current_fiber()); }
    void wait_for(unsigned wanted) {
        while (turn.load(std::memory_order_relaxed) < wanted) weft::park();
    }
    void give(unsigned next) {
        turn.store(next, std::memory_order_relaxed);
        weft::scheduler::wake(*fiber.load());
    }
};

unsigned play(unsigned workers, unsigned rounds, bool hardware_help = false) {
    const auto runtime = make_runtime({.workers = workers,
                                       .fibers_max = 20'000,
                                       .hardware_wait = hardware_help,
                                       .hardware_demote = hardware_help});
    player one, two;
    const auto here = [](player& self, player& other, unsigned rounds_wanted) {
        self.come();
        while (other.fiber == nullptr) this_fiber::yield();
        for (unsigned round = 1; round <= rounds_wanted; ++round) {
            self.wait_for(round);
            other.give(round);
        }
        return self.turn.load();
    };
    auto first =
        runtime->spawn([&] { return here(one, two, rounds); }, {.where = placement::fixed, .worker = 0});
    auto second = runtime->spawn(
        [&] {
            two.come();
            while (one.fiber == nullptr) this_fiber::yield();
            for (unsigned round = 1; round <= rounds; ++round) {
                one.give(round);
                two.wait_for(round);
            }
        },
        {.where = placement::fixed, .worker = workers - 1});
    second->join();
    return first->join();
}

}  // namespace

TEST_CASE(
    "worker: a million hand-overs between two workers, with the receiver going to sleep, lose no wake-up") {
    const unsigned rounds = scaled(500'000, 20'000);  // two hand-overs each
    const watchdog watch("a wake-up between two workers was lost");
    CHECK(play(2, rounds) == rounds);
}

TEST_CASE("worker: with all the help that the CPU has, hand-overs between two workers lose no wake-up") {
    const unsigned rounds = scaled(50'000, 5'000);
    const watchdog watch("a wake-up between two workers was lost");
    CHECK(play(2, rounds, true) == rounds);
}

TEST_CASE("worker: hand-overs between two fibers of one worker lose no wake-up") {
    const unsigned rounds = scaled(500'000, 50'000);
    const watchdog watch("a wake-up on one worker was lost");
    CHECK(play(1, rounds) == rounds);
}

TEST_CASE("worker: hand-overs between a thread of the host and a worker lose no wake-up") {
    const unsigned rounds = scaled(200'000, 10'000);
    const watchdog watch("a wake-up between a thread and a worker was lost");
    const auto runtime = make_runtime(1);
    player fiber_side;
    std::atomic<unsigned> answered{0};
    auto fiber = runtime->spawn([&] {
        fiber_side.come();
        for (unsigned round = 1; round <= rounds; ++round) {
            fiber_side.wait_for(round);
            answered.store(round);
            answered.notify_one();
        }
    });
    while (fiber_side.fiber == nullptr) std::this_thread::yield();
    for (unsigned round = 1; round <= rounds; ++round) {
        fiber_side.give(round);
        answered.wait(round - 1);
    }
    fiber->join();
    CHECK(answered == rounds);
}

TEST_CASE("worker: spawning from a host thread and joining, the worker asleep in between, loses nothing") {
    const unsigned rounds = scaled(100'000, 5'000);
    const watchdog watch("a fiber that a thread spawned never ran, or its end was not seen");
    const auto runtime = make_runtime(2);
    unsigned right = 0;
    for (unsigned round = 0; round < rounds; ++round)
        right += run_in_fiber(*runtime, [=] { return round; }) == round;
    CHECK(right == rounds);
}

TEST_CASE("worker: thousands of fibers that two workers send each other at once all arrive") {
    const unsigned senders = 64;
    const unsigned rounds = scaled(2'000, 100);
    const watchdog watch("a fiber was lost between two workers");
    const auto runtime = make_runtime(2);
    std::atomic<std::uint64_t> ran{0}, refused{0};
    std::atomic<bool> begun{false};  // before the senders use up all that there is
    std::vector<weft::fiber<void>> all;
    for (unsigned n = 0; n < senders; ++n)
        all.push_back(*runtime->spawn(
            [&] {
                while (!begun) this_fiber::yield();
                for (unsigned round = 0; round < rounds; ++round) {
                    const unsigned other = 1 - this_fiber::worker_index();
                    // Far more in one turn than the mailbox holds.
                    for (unsigned k = 0; k < 16; ++k)
                        if (!weft::spawn_detached([&ran] { ran.fetch_add(1, std::memory_order_relaxed); },
                                                  {.where = placement::fixed, .worker = other}))
                            ++refused;
                    this_fiber::yield();
                }
            },
            {.where = placement::fixed, .worker = n % 2}));
    begun = true;
    for (auto& each : all) each.join();
    while (runtime->counters().fibers_ended < runtime->counters().fibers_born) std::this_thread::yield();
    CHECK(ran + refused == std::uint64_t{senders} * rounds * 16);
    CHECK(ran > 0);
}

TEST_CASE("worker: busy workers exchange fibers without a system call to wake each other") {
    const auto runtime = make_runtime(2);
    const watchdog watch("a fiber that a busy worker sent to another did not come back");
    std::atomic<bool> over{false};
    std::atomic<unsigned> at_work{0};
    std::vector<weft::fiber<void>> busy;
    busy.reserve(2);
    for (unsigned worker = 0; worker < 2; ++worker)
        busy.push_back(*runtime->spawn(
            [&] {
                ++at_work;
                while (!over) this_fiber::yield();
            },
            {.where = placement::fixed, .worker = worker}));
    while (at_work < 2) std::this_thread::yield();

    const auto exchange = [rounds = scaled(5'000, 500)] {
        for (unsigned round = 0; round < rounds; ++round) {
            const unsigned other = 1 - this_fiber::worker_index();
            weft::spawn([] {}, {.where = placement::fixed, .worker = other})->join();
        }
    };
    const auto before = runtime->counters();
    std::vector<weft::fiber<void>> senders;
    senders.reserve(8);
    for (unsigned n = 0; n < 8; ++n)
        senders.push_back(*runtime->spawn(exchange, {.where = placement::fixed, .worker = n % 2}));
    for (auto& each : senders) each.join();
    const auto after = runtime->counters();
    over = true;
    for (auto& each : busy) each.join();

    CHECK(after.fibers_born_away - before.fibers_born_away == 8 * scaled(5'000, 500));
    CHECK(after.wakes_sent == before.wakes_sent);
    CHECK(after.sleeps == before.sleeps);
}

TEST_CASE("worker: a worker that sleeps is woken by a system call, and that is counted") {
    const auto runtime = make_runtime(2);
    const watchdog watch("no worker was ever woken by a system call");
    run_in_fiber(*runtime,
                 [&] {
                     // The other may be on its way to sleep still, or look for work a little longer.
                     while (runtime->counters().wakes_sent < 10) {
                         weft::spawn([] {}, {.where = placement::fixed, .worker = 1})->join();
                         CHECK(this_fiber::sleep_for(1ms));
                     }
                 },
                 {.where = placement::fixed, .worker = 0});
    CHECK(runtime->counters().sleeps > 0);
}

TEST_CASE("worker: a worker that is busy still hears deadlines and other threads") {
    const auto runtime = make_runtime(1);
    std::atomic<bool> over{false};
    std::vector<weft::fiber<void>> busy;
    for (int n = 0; n < 3; ++n)
        busy.push_back(*runtime->spawn([&] {
            while (!over) this_fiber::yield();
        }));
    const watchdog watch("a busy worker starves a sleeper or a thread of the host");
    run_in_fiber(*runtime, [] { CHECK(this_fiber::sleep_for(5ms)); });
    run_in_fiber(*runtime, [] {});
    over = true;
    for (auto& each : busy) each.join();
}

TEST_CASE("worker: a park may end for no reason, and a wait looks at its condition again") {
    const auto runtime = make_runtime(2);
    run_in_fiber(*runtime, [] {
        std::atomic<weft::fiber_block*> sleeper{nullptr};
        auto sleeping = weft::spawn([&] {
            sleeper = &weft::current_fiber();
            const auto before = std::chrono::steady_clock::now();
            CHECK(this_fiber::sleep_for(50ms));
            CHECK(std::chrono::steady_clock::now() - before >= 50ms);
            sleeper = nullptr;
        });
        auto pest = weft::spawn(
            [&] {
                unsigned wakes = 0;
                for (; sleeper == nullptr; this_fiber::yield());
                const auto generation = sleeper.load()->word.generation();
                for (; weft::fiber_block* at = sleeper; this_fiber::yield(), ++wakes)
                    weft::scheduler::wake_if_live(*at, generation);
                return wakes;
            },
            {.where = placement::fixed, .worker = 1});
        sleeping->join();
        CHECK(pest->join() > 10);
    });
}
