#include <doctest/doctest.h>

#include <thread>
#include <vector>

#include <weft/runtime/clock.hpp>

using namespace std::chrono_literals;

TEST_CASE("clock: the monotonic clock is the system's steady clock") {
    const auto before = std::chrono::steady_clock::now();
    const auto told = weft::monotonic_clock().now();
    const auto after = std::chrono::steady_clock::now();
    CHECK(before <= told);
    CHECK(told <= after);
}

TEST_CASE("clock: a manual clock stands still until it is advanced") {
    weft::manual_clock clock(weft::time_point(5s));
    CHECK(clock.now() == weft::time_point(5s));
    CHECK(clock.now() == weft::time_point(5s));
    clock.advance(1500ms);
    CHECK(clock.now() == weft::time_point(6500ms));
    clock.advance(0s);
    CHECK(clock.now() == weft::time_point(6500ms));
}

TEST_CASE("clock: steps from several threads all count") {
    weft::manual_clock clock;
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i)
        threads.emplace_back([&] {
            for (int step = 0; step < 1000; ++step) clock.advance(1us);
        });
    threads.clear();
    CHECK(clock.now() == weft::time_point(4ms));
}

TEST_CASE("clock: no deadline is later than any time") {
    CHECK(weft::no_deadline > weft::monotonic_clock().now() + 24h * 365 * 200);
}
