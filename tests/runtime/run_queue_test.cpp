#include <doctest/doctest.h>

#include <deque>
#include <memory>
#include <vector>

#include <weft/runtime/run_queue.hpp>

#include "support.hpp"

using weft::fiber_block;
using weft::run_queue;

TEST_CASE("run queue: an empty one gives nothing") {
    run_queue queue;
    CHECK(queue.empty());
    CHECK(queue.size() == 0);
    CHECK(queue.pop() == nullptr);
    CHECK(queue.peek(0) == nullptr);
}

TEST_CASE("run queue: fibers beyond the ring's room come after it in order") {
    std::vector<fiber_block> blocks(3 * weft::fiber_ring::ring_slots + 7);
    const auto queue = std::make_unique<run_queue>();
    for (auto& block : blocks) queue->push(block);
    CHECK(queue->size() == blocks.size());
    for (auto& block : blocks) REQUIRE(queue->pop() == &block);
    CHECK(queue->empty());
    CHECK(queue->pop() == nullptr);
}

TEST_CASE("run queue: it is first in, first out through overflow and back") {
    weft::testing::seeded_random random;
    CAPTURE(random.seed());
    constexpr unsigned blocks_count = 4 * weft::fiber_ring::ring_slots;
    std::vector<fiber_block> blocks(blocks_count);
    std::deque<fiber_block*> outside, model;
    for (auto& block : blocks) outside.push_back(&block);

    const auto queue = std::make_unique<run_queue>();
    bool overflown = false, drained = false;
    const unsigned phases = weft::testing::scaled(400, 100);
    for (unsigned phase = 0; phase < phases; ++phase) {
        // Each phase leans one way, so that it goes from empty to far beyond the ring and back.
        const unsigned push_percent = random.below(2) == 0 ? 20 : 80;
        for (unsigned step = random.below(5000); step > 0; --step) {
            if (random.below(100) < push_percent) {
                if (outside.empty()) continue;
                queue->push(*outside.front());
                model.push_back(outside.front());
                outside.pop_front();
            } else {
                fiber_block* expected = model.empty() ? nullptr : model.front();
                const unsigned ahead = random.below(3);
                fiber_block* peeked = queue->peek(ahead);
                if (peeked != nullptr) REQUIRE(peeked == model.at(ahead));
                if (ahead == 0) REQUIRE(peeked == expected);
                REQUIRE(queue->pop() == expected);
                if (expected == nullptr) continue;
                model.pop_front();
                outside.push_back(expected);
            }
            REQUIRE(queue->size() == model.size());
            REQUIRE(queue->empty() == model.empty());
            overflown |= model.size() > weft::fiber_ring::ring_slots;
            drained |= overflown && model.empty();
        }
    }
    CHECK(overflown);
    CHECK(drained);
}
