#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>

#include <weft/runtime/load.hpp>

#include "support.hpp"

using namespace std::chrono_literals;
using weft::load_meter;

namespace {

// Turns of that length for that long, back to back.
void run_for(load_meter& load, weft::duration time, weft::duration turn) {
    for (; time > 0ns; time -= turn) load.observe(turn, 1);
}

// Enough turns of that length for the threshold to go all the way.
void run_until_adapted(load_meter& load, weft::duration turn) {
    for (int n = 0; n < 256 * 20; ++n) load.observe(turn, 1);
}

}  // namespace

TEST_CASE("load meter: a new one is idle, and its worker takes what comes") {
    const load_meter load;
    CHECK(load.level() == 0);
    CHECK(load.own_level() == 0);
    CHECK(load.live() == 0);
    CHECK_FALSE(load.overloaded());
}

TEST_CASE("load meter: turns that are all alike settle at the level of that length") {
    struct {
        weft::duration turn;
        std::uint32_t level;
    } const cases[] = {{0ns, 0},  {2us, 0},      {25us, 9},  {250us, 50},
                       {1ms, 80}, {2'250us, 90}, {25ms, 99}, {1s, 99}};
    for (const auto& expected : cases) {
        CAPTURE(expected.turn.count());
        load_meter load;
        for (int n = 0; n < 100'000; ++n) load.observe(expected.turn, 1);
        CHECK(load.level() <= expected.level);
        CHECK(load.level() + 1 >= expected.level);  // what is smoothed comes near it from below
        CHECK(load.own_level() == load.level());
    }
}

TEST_CASE("load meter: the level rises with time, not with the number of turns") {
    load_meter few, many;
    run_for(few, 5ms, 1ms);
    run_for(many, 5ms, 100us);
    // After as long as it remembers, each has come more than half of its way, and not all of it.
    CHECK(few.level() > 60);
    CHECK(few.level() < 80);
    CHECK(many.level() > 15);
    CHECK(many.level() < 28);
}

TEST_CASE("load meter: one long turn among short ones counts for as long as it took") {
    load_meter load;
    for (int n = 0; n < 1'000; ++n) load.observe(10us, 1);
    CHECK(load.level() <= 3);
    load.observe(1ms, 1);
    const auto after_short = load.level();
    CHECK(after_short > 30);
    CHECK(after_short < 50);
    load.observe(20ms, 1);
    CHECK(load.level() > 95);
    // A thousand short turns are 10 ms: it is not forgotten at once, nor for ever.
    run_for(load, 1ms, 10us);
    CHECK(load.level() > 90);
    run_for(load, 60ms, 10us);
    CHECK(load.level() <= 5);
}

TEST_CASE("load meter: before it sleeps a worker shows no load, but does not forget it") {
    load_meter load;
    run_for(load, 100ms, 2ms);
    const auto busy = load.level();
    CHECK(busy > 85);
    CHECK(load.overloaded());
    load.rest();
    CHECK(load.level() == 0);
    CHECK_FALSE(load.overloaded());
    CHECK(load.own_level() == busy);
}

TEST_CASE("load meter: sleep makes it forget, the longer the more") {
    const auto after = [](weft::duration slept) {
        load_meter load;
        run_for(load, 100ms, 2ms);
        load.rest();
        load.rested(slept);
        CHECK(load.own_level() == load.level());
        return load.level();
    };
    const auto busy = after(0ns);
    CHECK(busy > 85);
    CHECK(after(100us) > 80);
    CHECK(after(5ms) < busy - 5);
    CHECK(after(5ms) > 60);
    CHECK(after(100ms) < after(5ms));
    CHECK(after(1h) == after(100ms));  // one sleep counts no more than so much
}

TEST_CASE("load meter: it shows how many fibers live there") {
    load_meter load;
    load.observe(1us, 7);
    CHECK(load.live() == 7);
    load.observe(1us, 3);
    CHECK(load.live() == 3);
    load.rest();
    CHECK(load.live() == 3);
}

TEST_CASE("load meter: under lasting overload the threshold falls as far as it may, and when idle it rises") {
    load_meter load;
    const auto before = load.threshold();
    run_until_adapted(load, 5ms);
    CHECK(load.threshold() == load_meter::threshold_min);
    CHECK(load.overloaded());
    // Between the two nothing changes.
    run_until_adapted(load, 250us);
    CHECK(load.threshold() == load_meter::threshold_min);
    CHECK(load.overloaded());
    run_until_adapted(load, 10us);
    CHECK(load.threshold() == load_meter::threshold_max);
    CHECK_FALSE(load.overloaded());
    CHECK(before > load_meter::threshold_min);
    CHECK(before < load_meter::threshold_max);
}

TEST_CASE("load meter: whatever happens, level and threshold stay within their bounds") {
    weft::testing::seeded_random random;
    CAPTURE(random.seed());
    load_meter load;
    for (unsigned phase = 0; phase < 200; ++phase) {
        // From nanoseconds to minutes.
        const weft::duration longest{std::int64_t{1} << random.below(37)};
        const auto any_time = [&] { return weft::duration(random() % longest.count()); };
        for (unsigned turn = 0; turn < 1'000; ++turn) {
            load.observe(any_time(), random.below(100));
            if (random.below(10) == 0) {
                load.rest();
                load.rested(any_time());
            }
            REQUIRE(load.level() <= 100);
            REQUIRE(load.own_level() <= 100);
            REQUIRE(load.threshold() >= load_meter::threshold_min);
            REQUIRE(load.threshold() <= load_meter::threshold_max);
        }
    }
}
