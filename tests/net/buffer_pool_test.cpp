// Borrowed memory: which block comes next, what happens when there is none, and that a buffer is a queue of
// bytes.
#include "peer.hpp"
#include "support.hpp"

#include <sys/mman.h>

#include <cstring>
#include <set>
#include <vector>

#include <weft/net/buffer_pool.hpp>

using namespace weft;
using namespace weft::testing;

namespace {

buffer_pool make_pool(std::size_t blocks_max) {
    auto made = buffer_pool::create(blocks_max);
    REQUIRE(made);
    return std::move(*made);
}

// Whether the page of that byte has memory behind it.
bool is_resident(const std::byte* at) {
    const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    unsigned char resident = 0;
    REQUIRE(mincore(reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(at) / page * page), page,
                    &resident) == 0);
    return (resident & 1) != 0;
}

}  // namespace

TEST_CASE("buffer pool: the block that was given back last is handed out next") {
    buffer_pool pool = make_pool(100);
    const auto a = pool.acquire(), b = pool.acquire(), c = pool.acquire();
    CHECK(a.size() == buffer_pool::usable_bytes);
    pool.release(a);
    pool.release(c);
    pool.release(b);
    CHECK(pool.acquire().data() == b.data());
    CHECK(pool.acquire().data() == c.data());
    CHECK(pool.acquire().data() == a.data());
}

TEST_CASE(
    "buffer pool: blocks do not overlap, keep what is written, and begin on different cache lines of a "
    "page") {
    buffer_pool pool = make_pool(64);
    std::vector<std::span<std::byte>> blocks;
    std::set<std::uintptr_t> lines;
    for (int n = 0; n < 64; ++n) {
        blocks.push_back(pool.acquire());
        std::memset(blocks.back().data(), n, blocks.back().size());
        const auto at = reinterpret_cast<std::uintptr_t>(blocks.back().data());
        CHECK(at % 64 == 0);
        lines.insert(at % 4096);
    }
    CHECK(lines.size() == 16);
    for (int n = 0; n < 64; ++n) {
        const auto& block = blocks[static_cast<std::size_t>(n)];
        CHECK(std::ranges::all_of(block, [n](std::byte byte) { return byte == static_cast<std::byte>(n); }));
    }
}

TEST_CASE("buffer pool: when all blocks are in use there is none, until one comes back") {
    buffer_pool pool = make_pool(3);
    const auto a = pool.acquire(), b = pool.acquire(), c = pool.acquire();
    CHECK(!b.empty());
    CHECK(!c.empty());
    CHECK(pool.acquire().empty());
    CHECK(pool.acquire().empty());
    pool.release(a);
    CHECK(pool.acquire().data() == a.data());
    CHECK(pool.acquire().empty());
}

TEST_CASE("buffer pool: after a peak a few blocks stay warm, and the others give their pages back") {
    constexpr std::size_t peak = 1000;
    buffer_pool pool = make_pool(peak);
    std::vector<std::span<std::byte>> blocks;
    for (std::size_t n = 0; n < peak; ++n) {
        blocks.push_back(pool.acquire());
        std::memset(blocks.back().data(), 1, blocks.back().size());
    }
    for (const auto& each : blocks) CHECK(is_resident(each.data()));
    for (const auto& each : blocks) pool.release(each);
    std::size_t resident = 0;
    for (const auto& each : blocks) resident += is_resident(each.data() + each.size() / 2);
    CHECK(resident <= 256);
    // All of them can still be had, each once.
    std::set<const std::byte*> again;
    for (std::size_t n = 0; n < peak; ++n) {
        const auto block = pool.acquire();
        REQUIRE(!block.empty());
        block.front() = block.back() = std::byte{2};
        again.insert(block.data());
    }
    CHECK(again.size() == peak);
    CHECK(pool.acquire().empty());
}

TEST_CASE(
    "byte buffer: it has no memory until something is put in, and gives it back when it is released or "
    "ends") {
    buffer_pool pool = make_pool(1);
    {
        byte_buffer empty(pool);
        empty.append("");
        CHECK(empty.empty());
        CHECK(empty.bytes().empty());
        const auto only = pool.acquire();
        CHECK(!only.empty());
        pool.release(only);
        empty.append("x");
        CHECK(pool.acquire().empty());
        empty.release();
        CHECK(empty.empty());
        const auto again = pool.acquire();
        CHECK(!again.empty());
        pool.release(again);
        empty.append("x");
    }
    CHECK(!pool.acquire().empty());
}

TEST_CASE("byte buffer: what outgrows a block goes to the heap, and the block back to the pool") {
    buffer_pool pool = make_pool(1);
    byte_buffer buffer(pool);
    buffer.append(pattern(0, 5000));
    CHECK(pool.acquire().empty());
    buffer.append(pattern(5000, 5000));
    const auto block = pool.acquire();
    CHECK(!block.empty());
    CHECK((text_of(buffer.bytes()) == pattern(0, 10'000)));
    pool.release(block);
    buffer.release();
    buffer.append("small again");
    CHECK(pool.acquire().empty());  // it has the block again
    CHECK(text_of(buffer.bytes()) == "small again");
}

TEST_CASE("byte buffer: with an empty pool it lives on the heap") {
    buffer_pool pool = make_pool(1);
    const auto only = pool.acquire();
    CHECK(!only.empty());
    byte_buffer buffer(pool);
    for (int n = 0; n < 1000; ++n) buffer.append(pattern(static_cast<std::size_t>(n) * 7, 7));
    CHECK((text_of(buffer.bytes()) == pattern(0, 7000)));
}

TEST_CASE("byte buffer: room at its beginning is used before it grows") {
    buffer_pool pool = make_pool(1);
    byte_buffer buffer(pool);
    for (std::size_t at = 0; at < 200'000; at += 1000) {
        buffer.append(pattern(at, 1000));
        if (at >= 3000) buffer.consume(1000);
    }
    CHECK(pool.acquire().empty());  // it still lies in the block
    CHECK(buffer.size() == 3000);
    CHECK((text_of(buffer.bytes()) == pattern(197'000, 3000)));
}

TEST_CASE("byte buffer: any sequence of operations leaves the bytes that a string would have") {
    seeded_random random;
    CAPTURE(random.seed());
    buffer_pool pool = make_pool(3);
    std::array<byte_buffer, 4> buffers{byte_buffer(pool), byte_buffer(pool), byte_buffer(pool),
                                       byte_buffer(pool)};
    std::array<std::string, 4> models;
    std::size_t written = 0;
    for (unsigned step = 0; step < scaled(100'000, 20'000); ++step) {
        const std::size_t which = random.below(4);
        byte_buffer& buffer = buffers[which];
        std::string& model = models[which];
        const std::size_t bytes = random.below(random.below(10) == 0 ? 20'000 : 2000);
        switch (random.below(8)) {
            case 0:
            case 1: {
                const std::string text = pattern(written, bytes);
                buffer.append(text);
                model += text;
                written += bytes;
                break;
            }
            case 2: {  // reserved, and filled in part
                const auto space = buffer.reserve(bytes);
                REQUIRE(space.size() >= bytes);
                const std::string text = pattern(written, random.below(static_cast<unsigned>(bytes) + 1));
                std::ranges::copy(std::as_bytes(std::span(text)), space.begin());
                buffer.commit(text.size());
                model += text;
                written += text.size();
                break;
            }
            case 3:
                if (random.below(10) != 0) break;
                buffer.release();
                model.clear();
                break;
            default: {
                const std::size_t consumed = std::min(bytes, model.size());
                buffer.consume(consumed);
                model.erase(0, consumed);
                break;
            }
        }
        REQUIRE(buffer.size() == model.size());
        REQUIRE(buffer.empty() == model.empty());
        REQUIRE((text_of(buffer.bytes()) == model));
        REQUIRE((std::string_view(buffer.chars().data(), buffer.chars().size()) == model));
    }
}
