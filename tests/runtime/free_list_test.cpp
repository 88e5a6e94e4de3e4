#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <latch>
#include <thread>
#include <vector>

#include <weft/runtime/free_list.hpp>

#include "support.hpp"

using weft::free_list;
using weft::no_slot;

TEST_CASE("free list: what was pushed last is popped first, and an empty list says so") {
    std::array<std::atomic<std::uint32_t>, 4> links{};
    free_list list(links.data());
    CHECK(list.pop() == no_slot);
    for (const std::uint32_t slot : {2u, 0u, 3u}) list.push(slot);
    CHECK(list.pop() == 3);
    list.push(1);
    CHECK(list.pop() == 1);
    CHECK(list.pop() == 0);
    CHECK(list.pop() == 2);
    CHECK(list.pop() == no_slot);
    CHECK(list.pop() == no_slot);
}

TEST_CASE("free list: a slot has at most one owner while threads pop and push it, and none gets lost") {
    constexpr unsigned slots =
        3;  // so few that the same one comes back between another thread's load and exchange
    constexpr unsigned threads_count = 4;
    const unsigned rounds = weft::testing::scaled(4'000'000, 50'000);

    std::array<std::atomic<std::uint32_t>, slots> links{};
    free_list list(links.data());
    for (std::uint32_t slot = 0; slot < slots; ++slot) list.push(slot);

    std::array<std::atomic<bool>, slots> owned{};
    std::array<unsigned, slots> uses{};  // plain: two owners at once would be a data race
    std::atomic<unsigned> owned_by_two{0}, popped{0};
    std::latch start(threads_count);
    {
        std::vector<std::jthread> threads;
        for (unsigned n = 0; n < threads_count; ++n)
            threads.emplace_back([&] {
                start.arrive_and_wait();
                for (unsigned round = 0; round < rounds; ++round) {
                    const std::uint32_t slot = list.pop();
                    if (slot == no_slot) continue;
                    if (owned[slot].exchange(true, std::memory_order_relaxed)) ++owned_by_two;
                    ++uses[slot];
                    popped.fetch_add(1, std::memory_order_relaxed);
                    owned[slot].store(false, std::memory_order_relaxed);
                    list.push(slot);
                }
            });
    }
    CHECK(owned_by_two == 0);
    CHECK(uses[0] + uses[1] + uses[2] == popped);
    std::array<bool, slots> there{};
    for (unsigned n = 0; n < slots; ++n) {
        const std::uint32_t slot = list.pop();
        REQUIRE(slot < slots);
        CHECK_FALSE(there[slot]);
        there[slot] = true;
    }
    CHECK(list.pop() == no_slot);
}
