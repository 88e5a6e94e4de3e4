#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <latch>
#include <string_view>
#include <thread>
#include <vector>

#include <weft/runtime/fiber_state.hpp>

#include "support.hpp"

using weft::fiber_state;
using weft::fiber_word;
using enum weft::fiber_state;
using enum weft::fiber_word::wake_result;

namespace {

constexpr std::array<fiber_state, weft::fiber_states> every_state{initial, awake, parked, finished, failed};

// The same order, down and across: what a fiber's life allows, written from the design and not from the code.
constexpr std::array<std::string_view, weft::fiber_states> allowed{
    //  to: I A P Fi Fa      from
    "xx...",  // initial: queued for its first run, or given up by a spawn that could not build the closure
    ".xxxx",  // awake
    ".x...",  // parked
    "x....",  // finished
    "x....",  // failed
};

// Takes a new word to a state by allowed steps only.
void lead_to(fiber_word& word, fiber_state wanted) {
    if (wanted == initial) return;
    word.launch();
    if (wanted == awake) return;
    if (wanted == finished || wanted == failed) return word.end(wanted);
    REQUIRE(word.try_park(word.look()));
}

bool lives(fiber_state state) {
    return state == awake || state == parked;
}

}  // namespace

TEST_CASE("fiber state: the transition table allows what the design says and nothing else") {
    for (std::size_t from = 0; from < every_state.size(); ++from)
        for (std::size_t to = 0; to < every_state.size(); ++to) {
            CAPTURE(from);
            CAPTURE(to);
            CHECK(weft::may_change(every_state[from], every_state[to]) == (allowed[from][to] == 'x'));
        }
}

TEST_CASE("fiber state: only an awake fiber parks, and only one that has seen every wake-up") {
    for (const fiber_state present : every_state) {
        if (present == awake) continue;
        fiber_word word;
        lead_to(word, present);
        CHECK_FALSE(word.try_park(1));
        CHECK(word.load().state == present);
    }
    fiber_word word;
    lead_to(word, awake);
    const std::uint32_t seen = word.look();
    CHECK_FALSE(word.notify());
    CHECK_FALSE(word.try_park(seen));
    CHECK(word.load().state == awake);
    CHECK(word.try_park(word.look()));
    CHECK(word.load().state == parked);
}

TEST_CASE("fiber state: a wake-up by handle moves what lives, and only a parked fiber must be queued") {
    for (const fiber_state present : every_state) {
        CAPTURE(static_cast<int>(present));
        fiber_word word;
        lead_to(word, present);
        const auto outcome = word.notify_if_live(0);
        CHECK(weft::is_live(present) == lives(present));
        CHECK(outcome == (!lives(present) ? no_such_fiber : present == parked ? queue_it : nothing_to_do));
        CHECK(word.load().state == (lives(present) ? awake : present));
    }
}

TEST_CASE("fiber state: a wake-up of a fiber known to be live queues it when it was parked") {
    for (const fiber_state present : {awake, parked}) {
        fiber_word word;
        lead_to(word, present);
        CHECK(word.notify() == (present == parked));
        CHECK_FALSE(word.notify());
        CHECK(word.load().state == awake);
    }
}

TEST_CASE(
    "fiber state: each life in a slot has a generation of its own, and a stale wake finds no such fiber") {
    fiber_word word;
    for (std::uint32_t life = 0; life < 5; ++life) {
        CHECK(word.generation() == life);
        lead_to(word, parked);
        CHECK(word.load().generation == life);
        CHECK(word.notify_if_live(life + 1) == no_such_fiber);
        if (life > 0) CHECK(word.notify_if_live(life - 1) == no_such_fiber);
        CHECK(word.load().state == parked);
        CHECK(word.notify_if_live(life) == queue_it);
        word.end(life % 2 == 0 ? finished : failed);
        CHECK(word.notify_if_live(life) == no_such_fiber);
        word.retire();
        CHECK(word.load().state == initial);
        CHECK(word.notify_if_live(life) == no_such_fiber);
    }
}

#ifndef NDEBUG
TEST_CASE("fiber state: a transition that the table forbids stops a debug build") {
    using weft::testing::signal_of_death;
    CHECK(signal_of_death([] {
              fiber_word word;
              lead_to(word, parked);
              word.end(finished);
          }) == SIGABRT);
    CHECK(signal_of_death([] {
              fiber_word word;
              lead_to(word, awake);
              word.retire();
          }) == SIGABRT);
    CHECK(signal_of_death([] {
              fiber_word word;
              lead_to(word, finished);
              word.notify();
          }) == SIGABRT);
}
#endif

TEST_CASE("fiber state: of any number of wakers one queues a parked fiber, and no wake-up is lost") {
    constexpr unsigned wakers = 4;
    const unsigned wakes_each = weft::testing::scaled(2'000'000, 50'000);

    fiber_word word;
    lead_to(word, parked);
    std::atomic<unsigned> wanted{0};  // the condition that the fiber looks at
    std::atomic<int> owners{0};       // who may run the fiber: never two
    std::atomic<unsigned> owned_by_two{0};
    unsigned seen = 0;                  // the fiber's own: a second owner would be a data race
    unsigned parkings = 1, queued = 0;  // likewise

    // Whoever got the right plays the worker and the fiber until it is parked again.
    const auto run_until_parked = [&] {
        ++queued;
        for (;;) {
            if (owners.fetch_add(1) != 0) ++owned_by_two;
            const std::uint32_t wakes = word.look();
            seen = wanted.load(std::memory_order_relaxed);
            ++parkings;
            owners.fetch_sub(1);
            if (word.try_park(wakes)) return;
            --parkings;  // nobody else has the right to it: it was woken on its way out
        }
    };
    std::latch start(wakers);
    {
        std::vector<std::jthread> threads;
        for (unsigned n = 0; n < wakers; ++n)
            threads.emplace_back([&, by_handle = n % 2 == 0] {
                start.arrive_and_wait();
                for (unsigned wake = 0; wake < wakes_each; ++wake) {
                    wanted.fetch_add(1, std::memory_order_relaxed);
                    if (by_handle ? word.notify_if_live(0) == queue_it : word.notify()) run_until_parked();
                }
            });
    }
    CHECK(owned_by_two == 0);
    CHECK(word.load().state == parked);
    CHECK(seen == wakers * wakes_each);
    CHECK(parkings == queued + 1);
    CHECK(queued > 0);
}

TEST_CASE(
    "fiber state: a fiber that is woken a billion times while it runs notices, and its neighbours in the "
    "word are safe") {
    fiber_word word;
    lead_to(word, awake);
    const std::uint32_t seen = word.look();
    for (std::uint32_t wake = 0; wake < weft::testing::scaled(700'000'000, 1'000); ++wake) word.notify();
    CHECK(word.load().state == awake);
    CHECK(word.generation() == 0);
    CHECK_FALSE(word.try_park(seen));
    CHECK(word.notify_if_live(0) == nothing_to_do);
    CHECK(word.try_park(word.look()));
}
