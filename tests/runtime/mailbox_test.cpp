#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

#include <weft/runtime/mailbox.hpp>

#include "support.hpp"

using weft::fiber_chunk;
using weft::mailbox;
using weft::outbox;

namespace {

constexpr std::uint32_t mailbox_fibers = mailbox::chunks_max * fiber_chunk::fibers_max;

std::vector<weft::fiber_block> numbered_blocks(std::uint32_t count) {
    std::vector<weft::fiber_block> blocks(count);
    for (std::uint32_t n = 0; n < count; ++n) blocks[n].index = n;
    return blocks;
}

std::vector<std::uint32_t> pop_all(mailbox& box) {
    std::vector<std::uint32_t> popped;
    fiber_chunk chunk;
    while (box.pop(chunk))
        popped.insert(popped.end(), chunk.fibers.begin(), chunk.fibers.begin() + chunk.count);
    return popped;
}

void check_counts_up(const std::vector<std::uint32_t>& numbers, std::uint32_t from, std::size_t count) {
    REQUIRE(numbers.size() == count);
    for (const std::uint32_t number : numbers) CHECK(number == from++);
}

}  // namespace

TEST_CASE("mailbox: it is empty until something is pushed, and chunks come out in order") {
    mailbox box;
    fiber_chunk chunk;
    CHECK(box.empty());
    CHECK_FALSE(box.pop(chunk));
    for (std::uint32_t n = 1; n <= 3; ++n) {
        chunk.count = 1;
        chunk.fibers[0] = n;
        CHECK(box.push(chunk));
    }
    CHECK_FALSE(box.empty());
    CHECK(pop_all(box) == std::vector<std::uint32_t>{1, 2, 3});
    CHECK(box.empty());
}

TEST_CASE("mailbox: a full one takes nothing until a chunk is popped") {
    mailbox box;
    fiber_chunk chunk;
    chunk.count = 1;
    for (std::uint32_t n = 0; n < mailbox::chunks_max; ++n) {
        chunk.fibers[0] = n;
        REQUIRE(box.push(chunk));
    }
    chunk.fibers[0] = 99;
    CHECK_FALSE(box.push(chunk));
    CHECK_FALSE(box.push(chunk));
    fiber_chunk popped;
    REQUIRE(box.pop(popped));
    CHECK(popped.fibers[0] == 0);
    CHECK(box.push(chunk));
    CHECK_FALSE(box.push(chunk));
}

TEST_CASE("outbox: what was collected leaves as full chunks and one that is not") {
    auto blocks = numbered_blocks(70);
    outbox out;
    mailbox box;
    CHECK(out.empty());
    CHECK_FALSE(out.flush_to(box));
    for (auto& block : blocks) out.push(block);
    CHECK(out.size() == 70);
    CHECK(out.flush_to(box));
    CHECK(out.empty());
    CHECK_FALSE(out.flush_to(box));
    std::vector<std::uint32_t> sizes;
    for (fiber_chunk chunk; box.pop(chunk);) sizes.push_back(chunk.count);
    CHECK(sizes == std::vector<std::uint32_t>{32, 32, 6});
}

TEST_CASE("outbox: what a full mailbox has no room for leaves in order later") {
    constexpr std::uint32_t more = 100;
    auto blocks = numbered_blocks(mailbox_fibers + more + 1);
    outbox out;
    mailbox box;
    for (std::uint32_t n = 0; n < mailbox_fibers + more; ++n) out.push(blocks[n]);
    CHECK(out.flush_to(box));
    CHECK(out.size() == more);
    CHECK_FALSE(out.flush_to(box));
    CHECK(out.size() == more);
    check_counts_up(pop_all(box), 0, mailbox_fibers);

    out.push(blocks[mailbox_fibers + more]);  // comes behind those that wait
    CHECK(out.flush_to(box));
    CHECK(out.empty());
    check_counts_up(pop_all(box), mailbox_fibers, more + 1);
}

TEST_CASE("mailbox: fibers that two threads hand to and fro are never lost, doubled or out of order") {
    constexpr std::uint32_t fibers = 2 * mailbox_fibers + 77;  // more than both mailboxes hold
    const unsigned handovers_each = weft::testing::scaled(1'000'000, 100'000);
    const weft::testing::watchdog watch("fibers got lost between two mailboxes");

    auto blocks = numbered_blocks(fibers);
    mailbox there, back;
    std::atomic<int> satisfied{0};
    // The fibers go round in a ring, so the next to come is always known.
    const auto pass_on = [&](mailbox& from, mailbox& to, std::uint32_t start_with, std::uint32_t& wrong) {
        outbox out;
        for (std::uint32_t n = 0; n < start_with; ++n) out.push(blocks[n]);
        std::uint32_t expected = 0;
        unsigned handed = 0;
        fiber_chunk chunk;
        while (satisfied < 2) {
            out.flush_to(to);
            if (!from.pop(chunk)) {
                std::this_thread::yield();
                continue;
            }
            for (std::uint32_t n = 0; n < chunk.count; ++n) {
                if (chunk.fibers[n] != expected) ++wrong;
                expected = (chunk.fibers[n] + 1) % fibers;
                out.push(blocks[chunk.fibers[n]]);
                if (++handed == handovers_each) ++satisfied;
            }
        }
    };
    std::uint32_t wrong_here = 0, wrong_there = 0;
    std::jthread other([&] { pass_on(there, back, 0, wrong_there); });
    pass_on(back, there, fibers, wrong_here);
    other.join();
    CHECK(wrong_here == 0);
    CHECK(wrong_there == 0);
}
