#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <deque>
#include <memory>
#include <vector>

#include <weft/runtime/run_queue.hpp>

#include "support.hpp"

using weft::fiber_block;
using weft::fiber_priority;
using weft::run_queue;

namespace {

constexpr std::array priorities{fiber_priority::normal, fiber_priority::high, fiber_priority::low};

// A low one is looked for only when it is not the turn of a high one.
constexpr std::uint32_t others_before_low_max = run_queue::others_in_a_row_max + run_queue::high_in_a_row_max;

std::vector<fiber_block> blocks_of(fiber_priority priority, std::size_t count) {
    std::vector<fiber_block> blocks(count);
    for (auto& block : blocks) block.priority = priority;
    return blocks;
}

// The priorities of what a queue gives in a row, each fiber going back into it at once.
std::vector<fiber_priority> order_of(run_queue& queue, std::size_t count) {
    std::vector<fiber_priority> order;
    while (order.size() < count) {
        fiber_block* next = queue.pop();
        REQUIRE(next != nullptr);
        order.push_back(next->priority);
        queue.push(*next);
    }
    return order;
}

// The longest stretch of an order in which that one does not come (wanted), or in which only that one comes.
std::size_t longest_without(const std::vector<fiber_priority>& order, fiber_priority wanted) {
    std::size_t longest = 0, now = 0;
    for (const auto each : order) longest = std::max(longest, now = each == wanted ? 0 : now + 1);
    return longest;
}
std::size_t longest_of(const std::vector<fiber_priority>& order, fiber_priority wanted) {
    std::size_t longest = 0, now = 0;
    for (const auto each : order) longest = std::max(longest, now = each == wanted ? now + 1 : 0);
    return longest;
}

}  // namespace

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

TEST_CASE("run queue: high priority goes first, low goes last, and equals in the order in which they came") {
    const auto queue = std::make_unique<run_queue>();
    std::array<std::vector<fiber_block>, priorities.size()> blocks;
    for (const auto priority : priorities)
        blocks[static_cast<std::size_t>(priority)] = blocks_of(priority, 10);
    for (std::size_t n = 0; n < 10; ++n)
        for (auto& of_one_priority : blocks) queue->push(of_one_priority[n]);
    CHECK(queue->size() == 30);
    for (const auto priority : {fiber_priority::high, fiber_priority::normal, fiber_priority::low})
        for (auto& block : blocks[static_cast<std::size_t>(priority)]) CHECK(queue->pop() == &block);
    CHECK(queue->empty());
    CHECK(queue->pop() == nullptr);
}

TEST_CASE("run queue: fibers of one priority alone come in order, through overflow") {
    for (const auto priority : priorities) {
        CAPTURE(static_cast<int>(priority));
        const auto queue = std::make_unique<run_queue>();
        auto blocks = blocks_of(priority, 2 * weft::fiber_ring::ring_slots + 7);
        for (auto& block : blocks) queue->push(block);
        CHECK(queue->size() == blocks.size());
        for (auto& block : blocks) REQUIRE(queue->pop() == &block);
        CHECK(queue->empty());
    }
}

TEST_CASE("run queue: while others wait, only so many of high priority go first in a row") {
    for (const auto other : {fiber_priority::normal, fiber_priority::low}) {
        CAPTURE(static_cast<int>(other));
        const auto queue = std::make_unique<run_queue>();
        auto high = blocks_of(fiber_priority::high, 40), others = blocks_of(other, 40);
        for (auto& block : high) queue->push(block);
        for (auto& block : others) queue->push(block);
        const auto order = order_of(*queue, 10'000);
        CHECK(longest_of(order, fiber_priority::high) == run_queue::high_in_a_row_max);
        CHECK(longest_of(order, other) == 1);
    }
}

TEST_CASE("run queue: low priority is served although normal and high never stop") {
    for (const bool with_high : {false, true}) {
        CAPTURE(with_high);
        const auto queue = std::make_unique<run_queue>();
        auto normal = blocks_of(fiber_priority::normal, 2'000), low = blocks_of(fiber_priority::low, 3);
        auto high = blocks_of(fiber_priority::high, with_high ? 3 : 0);
        for (auto* blocks : {&normal, &low, &high})
            for (auto& block : *blocks) queue->push(block);
        const auto order = order_of(*queue, 10'000);
        CHECK(longest_without(order, fiber_priority::low) >= run_queue::others_in_a_row_max);
        CHECK(longest_without(order, fiber_priority::low) <= others_before_low_max);
        CHECK(longest_of(order, fiber_priority::low) == 1);
        CHECK(longest_of(order, fiber_priority::high) == (with_high ? run_queue::high_in_a_row_max : 0));
    }
}

TEST_CASE("run queue: it says once that a fiber of high priority was queued") {
    run_queue queue;
    fiber_block normal, high, low;
    high.priority = fiber_priority::high;
    low.priority = fiber_priority::low;
    queue.push(normal);
    queue.push(low);
    CHECK_FALSE(queue.took_high());
    queue.push(high);
    CHECK(queue.took_high());
    CHECK_FALSE(queue.took_high());
    CHECK(queue.pop() == &high);
    CHECK_FALSE(queue.took_high());
}

TEST_CASE("run queue: whatever comes and goes, each priority keeps its order and none waits for ever") {
    weft::testing::seeded_random random;
    CAPTURE(random.seed());
    std::array<std::deque<fiber_block*>, priorities.size()> outside, waiting;
    std::array<std::vector<fiber_block>, priorities.size()> blocks;
    for (std::size_t which = 0; which < priorities.size(); ++which) {
        blocks[which] = blocks_of(priorities[which], 1'500);
        for (auto& block : blocks[which]) outside[which].push_back(&block);
    }
    auto& [normal, high, low] = waiting;

    const auto queue = std::make_unique<run_queue>();
    std::uint32_t high_in_a_row = 0, since_low = 0;  // while others wait, and while low ones do
    const unsigned phases = weft::testing::scaled(400, 100);
    for (unsigned phase = 0; phase < phases; ++phase) {
        const unsigned push_percent = random.below(2) == 0 ? 20 : 80;
        const unsigned common_one = random.below(priorities.size());
        for (unsigned step = random.below(5000); step > 0; --step) {
            if (random.below(100) < push_percent) {
                const unsigned which = random.below(2) == 0 ? common_one : random.below(priorities.size());
                if (outside[which].empty()) continue;
                queue->push(*outside[which].front());
                waiting[which].push_back(outside[which].front());
                outside[which].pop_front();
            } else {
                const bool others_wait = !normal.empty() || !low.empty(), low_waits = !low.empty();
                fiber_block* next = queue->pop();
                REQUIRE((next == nullptr) == (high.empty() && !others_wait));
                if (next == nullptr) continue;
                const auto which = static_cast<std::size_t>(next->priority);
                REQUIRE(!waiting[which].empty());
                REQUIRE(next == waiting[which].front());
                waiting[which].pop_front();
                outside[which].push_back(next);

                high_in_a_row = next->priority == fiber_priority::high && others_wait ? high_in_a_row + 1 : 0;
                since_low = next->priority != fiber_priority::low && low_waits ? since_low + 1 : 0;
                REQUIRE(high_in_a_row <= run_queue::high_in_a_row_max);
                REQUIRE(since_low <= others_before_low_max);
            }
            REQUIRE(queue->size() == normal.size() + high.size() + low.size());
            REQUIRE(queue->empty() == (queue->size() == 0));
        }
    }
}
