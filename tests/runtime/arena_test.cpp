#include <doctest/doctest.h>
#include <sys/mman.h>

#include <array>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <weft/runtime/arena.hpp>

#include "support.hpp"

using namespace std::chrono_literals;
using weft::arena;
using weft::arena_options;
using weft::guard_level;
using weft::no_slot;
using weft::testing::make_runtime;
using weft::testing::run_in_fiber;
using weft::testing::signal_of_death;

namespace {

std::unique_ptr<arena> make_arena(arena_options options) {
    if (weft::testing::emulated)
        options.allow_guard_install = false;  // qemu says that it did, and does nothing
    auto made = arena::create(options);
    REQUIRE(made);
    return std::move(*made);
}

bool kernel_has_guard_install() {
    if (weft::testing::emulated) return false;
    void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const bool has = madvise(page, 4096, 102 /* MADV_GUARD_INSTALL */) == 0;
    munmap(page, 4096);
    return has;
}

// Writes one byte and so dies, if there is a guard.
void touch(std::byte* at) {
    *reinterpret_cast<volatile std::byte*>(at) = std::byte{1};
}

[[gnu::noinline]] int recurse(int depth) {
    volatile char frame[512];
    frame[0] = static_cast<char>(depth);
    return depth == 0 ? frame[0] : recurse(depth - 1) + frame[0];
}

void overflow_a_fiber(const weft::runtime_options& options) {
    const auto runtime = make_runtime(options);
    run_in_fiber(*runtime, [] { return recurse(1'000'000); });
}

std::size_t resident_bytes() {
    std::ifstream statm("/proc/self/statm");
    std::size_t total = 0, resident = 0;
    statm >> total >> resident;
    return resident * 4096;
}

// What a parked fiber does in these tests. False: it was cancelled.
bool this_fiber_slept() {
    return weft::this_fiber::sleep_for(1h).has_value();
}

// Retires a block that was never queued, as a spawn that could not build its closure does.
void give_back(arena& from, weft::fiber_block& block) {
    block.word.retire();
    from.free_block(block);
}

}  // namespace

TEST_CASE(
    "arena: it hands out as many blocks as were asked for, then none, and one again when one came back") {
    const auto fibers = make_arena({.fibers_max = 3});
    std::set<weft::fiber_block*> blocks;
    for (int n = 0; n < 3; ++n) blocks.insert(fibers->allocate_block());
    CHECK(blocks.size() == 3);
    CHECK_FALSE(blocks.contains(nullptr));
    CHECK(fibers->allocate_block() == nullptr);
    CHECK(fibers->blocks_used() == 3);

    weft::fiber_block& back = fibers->block(1);
    const auto generation = back.word.generation();
    give_back(*fibers, back);
    CHECK(fibers->allocate_block() == &back);
    CHECK(back.word.generation() != generation);
    CHECK(back.index == 1);
    CHECK(fibers->allocate_block() == nullptr);
}

TEST_CASE("arena: what its caches keep takes no stack from anybody, and few blocks") {
    const auto fibers = make_arena({.fibers_max = 64, .caches = 2});
    weft::arena_cache hoarder(*fibers);
    std::vector<std::uint32_t> slots;
    std::vector<weft::fiber_block*> blocks;
    for (int n = 0; n < 64; ++n) {
        slots.push_back(hoarder.allocate_stack());
        blocks.push_back(hoarder.allocate_block());
        REQUIRE(blocks.back() != nullptr);
    }
    for (const auto slot : slots) hoarder.free_stack(slot);
    for (auto* block : blocks) {
        block->word.retire();
        hoarder.free_block(*block);
    }
    weft::arena_cache other(*fibers);
    for (int n = 0; n < 64; ++n) CHECK(other.allocate_stack() != no_slot);
    int blocks_left = 0;
    while (other.allocate_block() != nullptr) ++blocks_left;
    CHECK(blocks_left >= 60);
}

TEST_CASE("arena: a cache hands out last what came back last") {
    const auto fibers = make_arena({.fibers_max = 1000, .caches = 1});
    weft::arena_cache cache(*fibers);
    const auto first = cache.allocate_stack(), second = cache.allocate_stack();
    cache.free_stack(first);
    cache.free_stack(second);
    CHECK(cache.allocate_stack() == second);
    CHECK(cache.allocate_stack() == first);
}

TEST_CASE("arena: when its cache ends, everybody may have what it held") {
    const auto fibers = make_arena({.fibers_max = 32, .caches = 1});
    {
        weft::arena_cache cache(*fibers);
        auto* block = cache.allocate_block();
        const auto slot = cache.allocate_stack();
        block->word.retire();
        cache.free_block(*block);
        cache.free_stack(slot);
    }
    int blocks_left = 0;
    while (fibers->allocate_block() != nullptr) ++blocks_left;
    CHECK(blocks_left == 32);
}

TEST_CASE("arena: stacks have the size that was asked for, rounded up to pages, and do not overlap") {
    const auto fibers = make_arena({.fibers_max = 40, .stack_bytes = 10'000});
    std::byte* end_of_last = nullptr;
    for (int n = 0; n < 40; ++n) {
        const auto slot = fibers->allocate_stack();
        const auto stack = fibers->bounds(slot);
        CHECK(stack.bytes == 3 * 4096);
        CHECK(reinterpret_cast<std::uintptr_t>(stack.bottom) % 4096 == 0);
        CHECK(stack.bottom >= end_of_last + (n == 0 ? 0 : 4096));
        end_of_last = stack.bottom + stack.bytes;
        touch(stack.bottom);
        touch(end_of_last - 1);
    }
}

TEST_CASE("arena: the tops of sixteen neighbouring stacks lie on sixteen cache lines, aligned to 16") {
    const auto fibers = make_arena({.fibers_max = 64});
    for (std::uint32_t begin = 0; begin < 48; begin += 16) {
        std::set<std::uintptr_t> lines;
        for (std::uint32_t slot = begin; slot < begin + 16; ++slot) {
            const auto top = reinterpret_cast<std::uintptr_t>(fibers->top(slot));
            CHECK(top % 16 == 0);
            const auto stack = fibers->bounds(slot);
            CHECK(top <= reinterpret_cast<std::uintptr_t>(stack.bottom + stack.bytes));
            CHECK(top > reinterpret_cast<std::uintptr_t>(stack.bottom + stack.bytes) - 1024);
            lines.insert(top % 4096 / 64);
        }
        CHECK(lines.size() == 16);
    }
}

TEST_CASE("arena: below each stack lies a guard, of either kind") {
    for (const bool allow_guard_install : {true, false}) {
        if (allow_guard_install && !kernel_has_guard_install()) {
            MESSAGE("skipped: this kernel has no MADV_GUARD_INSTALL");
            continue;
        }
        CAPTURE(allow_guard_install);
        const auto fibers = make_arena({.fibers_max = 4, .allow_guard_install = allow_guard_install});
        CHECK(fibers->guards() == guard_level::per_stack);
        for (int n = 0; n < 3; ++n) {
            const auto stack = fibers->bounds(fibers->allocate_stack());
            CHECK(signal_of_death([&] { touch(stack.bottom - 1); }) == SIGSEGV);
            CHECK(signal_of_death([&] { touch(stack.bottom - 4096); }) == SIGSEGV);
            CHECK(signal_of_death([&] { touch(stack.bottom); }) == 0);
        }
    }
}

TEST_CASE("arena: a stack that was freed and is used again still has its guard") {
    for (const bool allow_guard_install : {true, false}) {
        const auto fibers = make_arena({.fibers_max = 4, .allow_guard_install = allow_guard_install});
        const auto slot = fibers->allocate_stack();
        touch(fibers->bounds(slot).bottom);
        fibers->free_stack(slot);
        REQUIRE(fibers->allocate_stack() == slot);
        CHECK(*fibers->bounds(slot).bottom == std::byte{0});  // its pages went back to the system
        CHECK(signal_of_death([&] { touch(fibers->bounds(slot).bottom - 1); }) == SIGSEGV);
    }
}

TEST_CASE("arena: one guard for a group of 32 stacks, or none at all, when so asked") {
    for (const bool allow_guard_install : {true, false}) {
        const auto fibers = make_arena({.fibers_max = 100,
                                        .guards = guard_level::per_group,
                                        .allow_guard_install = allow_guard_install});
        for (std::uint32_t n = 0; n < 65; ++n) REQUIRE(fibers->allocate_stack() == n);
        for (const std::uint32_t slot : {0u, 32u, 64u})
            CHECK(signal_of_death([&] { touch(fibers->bounds(slot).bottom - 1); }) == SIGSEGV);
        for (const std::uint32_t slot : {1u, 31u, 33u})
            CHECK(signal_of_death([&] { touch(fibers->bounds(slot).bottom - 1); }) == 0);
    }
    const auto unguarded = make_arena({.fibers_max = 100, .guards = guard_level::none});
    const auto first = unguarded->bounds(unguarded->allocate_stack());
    const auto second = unguarded->bounds(unguarded->allocate_stack());
    CHECK(second.bottom == first.bottom + first.bytes);
}

TEST_CASE("arena: a region that no address space can hold is an error and not a crash") {
    if (weft::testing::emulated) {
        MESSAGE("skipped: qemu keeps a record of each page, and takes half a minute over so many");
        return;
    }
    const auto made = arena::create({.fibers_max = 1'000'000'000, .stack_bytes = 1 << 20});
    REQUIRE_FALSE(made);
    CHECK(made.error() == std::errc::not_enough_memory);
}

TEST_CASE("arena: a fiber that overflows its stack dies by the guard, of either kind") {
    for (const bool allow_guard_install : {true, false}) {
        CAPTURE(allow_guard_install);
        CHECK(signal_of_death([=] {
                  overflow_a_fiber(
                      {.workers = 1, .fibers_max = 100, .allow_guard_install = allow_guard_install});
              }) == SIGSEGV);
    }
    // Stack 0 begins its group.
    CHECK(signal_of_death([] {
              overflow_a_fiber({.workers = 1, .fibers_max = 100, .guards = guard_level::per_group});
          }) == SIGSEGV);
    CHECK(signal_of_death([] {
              const auto runtime = make_runtime({.workers = 1, .fibers_max = 100});
              run_in_fiber(*runtime, [] { return recurse(50); });
          }) == 0);
}

TEST_CASE(
    "arena: fibers_max fibers can exist, one more is an error, and when one has ended there is room again") {
    for (unsigned round = 0; round < 3; ++round) {
        const auto runtime = make_runtime(1 + round % 2, 8);
        const auto sleeps = [] { return this_fiber_slept(); };
        std::vector<weft::fiber<bool>> fibers;
        for (int n = 0; n < 8; ++n) fibers.push_back(*runtime->spawn(sleeps));
        for (int again = 0; again < 20; ++again) {
            CHECK(runtime->spawn(sleeps).error() == weft::errc::too_many_fibers);
            CHECK(runtime->post(sleeps).error() == weft::errc::too_many_fibers);
            fibers.back().cancel();
            CHECK_FALSE(fibers.back().join());
            fibers.pop_back();
            const weft::testing::watchdog watch("the slot of a fiber that has ended never came back");
            auto next = runtime->spawn(sleeps);
            while (!next) next = runtime->spawn(sleeps);
            fibers.push_back(std::move(*next));
        }
    }
}

TEST_CASE("arena: the memory of ten thousand parked fibers goes back to the system when they have ended") {
    if (weft::sanitizer::active) {
        MESSAGE("skipped: a sanitizer keeps memory of its own");
        return;
    }
    constexpr unsigned count = 10'000;
    const auto runtime = make_runtime(2);
    const auto park_all = [&] {
        std::vector<weft::fiber<bool>> fibers;
        const auto runs_before = runtime->counters().runs;
        for (unsigned n = 0; n < count; ++n)
            fibers.push_back(*runtime->spawn([] { return this_fiber_slept(); }));
        while (runtime->counters().runs < runs_before + count) std::this_thread::sleep_for(1ms);
        std::this_thread::sleep_for(20ms);  // the last one has begun its run, and now parks
        const auto while_parked = resident_bytes();
        for (auto& each : fibers) each.cancel();
        for (auto& each : fibers) each.join();
        return while_parked;
    };
    const auto before = resident_bytes();
    const auto while_parked = park_all();
    CHECK(while_parked > before + count * 4096);
    CHECK(while_parked < before + count * 8192);  // a page of stack, a block, little else
    // Blocks stay, and so do a few hot stacks.
    CHECK(resident_bytes() < before + count * 512 + 4 * 1024 * 1024);
    CHECK(park_all() < while_parked + 4 * 1024 * 1024);
}
