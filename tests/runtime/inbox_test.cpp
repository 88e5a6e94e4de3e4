#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <latch>
#include <memory>
#include <thread>
#include <vector>

#include <weft/runtime/inbox.hpp>

#include "support.hpp"

using weft::fiber_block;
using weft::inbox;

TEST_CASE("inbox: what was pushed first is taken first, and taking empties it") {
    std::array<fiber_block, 3> blocks;
    inbox box;
    std::vector<fiber_block*> taken;
    const auto take = [&](fiber_block& fiber) { taken.push_back(&fiber); };
    CHECK(box.empty());
    box.take_all(take);
    CHECK(taken.empty());
    for (auto& block : blocks) box.push(block);
    CHECK_FALSE(box.empty());
    box.take_all(take);
    CHECK(taken == std::vector<fiber_block*>{&blocks[0], &blocks[1], &blocks[2]});
    CHECK(box.empty());
}

TEST_CASE("inbox: a fiber may be pushed again while the others are still being taken") {
    std::array<fiber_block, 3> blocks;
    inbox box;
    for (auto& block : blocks) box.push(block);
    unsigned taken = 0;
    box.take_all([&](fiber_block& fiber) {
        ++taken;
        box.push(fiber);
    });
    CHECK(taken == 3);
    taken = 0;
    box.take_all([&](fiber_block&) { ++taken; });
    CHECK(taken == 3);
}

TEST_CASE("inbox: of many threads each one's fibers arrive in its order, and all of them") {
    constexpr unsigned producers = 4;
    constexpr unsigned blocks_each = 1024;
    const unsigned pushes_each = weft::testing::scaled(250'000, 25'000);
    const weft::testing::watchdog watch("fibers got lost in an inbox");

    struct producer {
        std::vector<fiber_block> blocks{blocks_each};
        std::array<std::atomic<bool>, blocks_each> in_flight{};
    };
    std::vector<producer> all(producers);
    for (unsigned p = 0; p < producers; ++p)
        for (unsigned n = 0; n < blocks_each; ++n) all[p].blocks[n].index = p * blocks_each + n;

    inbox box;
    std::latch start(producers);
    std::vector<std::jthread> threads;
    for (producer& self : all)
        threads.emplace_back([&] {
            start.arrive_and_wait();
            for (unsigned push = 0; push < pushes_each; ++push) {
                const unsigned n = push % blocks_each;
                while (self.in_flight[n].load(std::memory_order_acquire)) std::this_thread::yield();
                self.in_flight[n].store(true, std::memory_order_relaxed);
                box.push(self.blocks[n]);
            }
        });

    std::array<unsigned, producers> taken{};
    unsigned out_of_order = 0, total = 0;
    while (total < producers * pushes_each) {
        box.take_all([&](fiber_block& fiber) {
            const unsigned p = fiber.index / blocks_each, n = fiber.index % blocks_each;
            if (n != taken[p]++ % blocks_each) ++out_of_order;
            ++total;
            all[p].in_flight[n].store(false, std::memory_order_release);
        });
        if (box.empty()) std::this_thread::yield();
    }
    threads.clear();
    CHECK(out_of_order == 0);
    CHECK(box.empty());
    for (const unsigned count : taken) CHECK(count == pushes_each);
}
