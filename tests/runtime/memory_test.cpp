// What fibers cost in memory and address space: classes of stacks, what happens when the system refuses
// either, and what goes back when the load has gone.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <fstream>
#include <latch>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

#include <weft/runtime/arena.hpp>
#include <weft/runtime/scheduler.hpp>

#include "support.hpp"

using namespace std::chrono_literals;
using weft::arena;
using weft::arena_cache;
using weft::arena_options;
using weft::no_slot;
using weft::stack_class;
using weft::testing::make_runtime;
using weft::testing::run_in_fiber;
using weft::testing::scaled;
using weft::testing::signal_of_death;

namespace {

constexpr std::array<stack_class, 3> all_classes{stack_class::standard, stack_class::small,
                                                 stack_class::large};

std::unique_ptr<arena> make_arena(const arena_options& options) {
    auto made = arena::create(options);
    REQUIRE(made);
    return std::move(*made);
}

// The first number of a line of /proc/self/status.
std::size_t status_kib(const std::string& name) {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with(name + ":")) return std::stoul(line.substr(name.size() + 1));
    return 0;
}

std::size_t mappings() {
    std::ifstream maps("/proc/self/maps");
    return static_cast<std::size_t>(std::count(std::istreambuf_iterator<char>(maps), {}, '\n'));
}

// The lines of /proc/self/smaps of the mapping in which `address` lies.
std::vector<std::string> smaps_of(const void* address) {
    std::ifstream smaps("/proc/self/smaps");
    std::vector<std::string> lines;
    bool inside = false;
    for (std::string line; std::getline(smaps, line);) {
        std::uintptr_t begin = 0, end = 0;
        char dash = 0;
        std::istringstream fields(line);
        if (fields >> std::hex >> begin >> dash >> end && dash == '-')
            inside = begin <= reinterpret_cast<std::uintptr_t>(address) &&
                     reinterpret_cast<std::uintptr_t>(address) < end;
        if (inside) lines.push_back(line);
    }
    return lines;
}

bool has_word(const std::vector<std::string>& lines, const std::string& name, const std::string& word) {
    for (const std::string& line : lines) {
        std::istringstream words(line);
        std::string each;
        words >> each;
        if (each != name) continue;
        while (words >> each)
            if (each == word) return true;
    }
    return false;
}

std::size_t occurrences(const std::string& text, const std::string& part) {
    std::size_t count = 0;
    for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++count;
    return count;
}

struct last_words {
    int status = 0;  // as from waitpid
    std::string text;
};

// Runs a test case of this program in a process of its own, which has no log thread yet and whose limits may
// be changed. The case is one that is skipped otherwise, and ends by end_child.
last_words run_child(const std::string& test_case) {
    std::array<int, 2> ends;
    REQUIRE(pipe2(ends.data(), O_CLOEXEC) == 0);
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        const std::string filter = "--test-case=" + test_case;
        execl("/proc/self/exe", "memory_test", "--no-skip=true", filter.c_str(), nullptr);
        _exit(127);
    }
    close(ends[1]);
    last_words said;
    std::array<char, 256> bytes;
    for (ssize_t count; (count = read(ends[0], bytes.data(), bytes.size())) > 0;)
        said.text.append(bytes.data(), static_cast<std::size_t>(count));
    close(ends[0]);
    waitpid(child, &said.status, 0);
    return said;
}

[[noreturn]] void end_child(int status) {
    weft::flush_log();
    _exit(status);
}

// How many stacks get guards by mprotect.
std::size_t guards_budget() {
    std::size_t mappings_max = 0;
    std::ifstream("/proc/sys/vm/max_map_count") >> mappings_max;
    return mappings_max / 4;
}

void limit_address_space(std::size_t bytes) {
    rlimit limit{};
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_AS, &limit);
}

// Uses at least so much stack.
[[gnu::noipa]] int dive(std::size_t bytes) {
    volatile char frame[1024];
    frame[0] = 1;
    return bytes <= sizeof frame ? frame[0] : dive(bytes - sizeof frame) + frame[0];
}

void write_to(std::byte* at) {
    *reinterpret_cast<volatile std::byte*>(at) = std::byte{1};
}

// What a parked fiber does in these tests. False: it was cancelled.
bool this_fiber_slept() {
    return weft::this_fiber::sleep_for(1h).has_value();
}

// Fibers that have all begun and are parked.
std::vector<weft::fiber<bool>> park(weft::runtime& where, unsigned count) {
    std::vector<weft::fiber<bool>> fibers;
    std::atomic<unsigned> begun{0};
    for (unsigned n = 0; n < count; ++n) {
        auto made = where.spawn([&begun] {
            ++begun;
            return this_fiber_slept();
        });
        REQUIRE(made);
        fibers.push_back(std::move(*made));
    }
    while (begun < count) std::this_thread::sleep_for(1ms);
    return fibers;
}

bool skipped_under_sanitizers(const char* why) {
    if (weft::sanitizer::active) MESSAGE("skipped: ", why);
    return weft::sanitizer::active;
}

}  // namespace

TEST_CASE("memory: each class of stacks has its own size, its own place and its own guards") {
    const auto fibers = make_arena({.fibers_max = 8,
                                    .stack_bytes = 48 * 1024,
                                    .small_stack_bytes = 10'000,
                                    .large_stack_bytes = 512 * 1024});
    constexpr std::array<std::size_t, 3> bytes{48 * 1024, 12 * 1024, 512 * 1024};
    std::set<std::uint32_t> slots;
    for (const stack_class which : all_classes) {
        REQUIRE(fibers->open(which));
        for (int n = 0; n < 8; ++n) {
            const auto slot = fibers->allocate_stack(which);
            REQUIRE(slot != no_slot);
            CHECK(arena::class_of(slot) == which);
            CHECK(slots.insert(slot).second);
            const auto stack = fibers->bounds(slot);
            CHECK(stack.bytes == bytes[static_cast<std::size_t>(which)]);
            write_to(stack.bottom);
            write_to(stack.bottom + stack.bytes - 1);
            CHECK(fibers->is_guard(slot, stack.bottom - 1));
            CHECK_FALSE(fibers->is_guard(slot, stack.bottom));
            CHECK(signal_of_death([&] { write_to(stack.bottom - 1); }) == SIGSEGV);
        }
    }
    for (const std::uint32_t slot : slots) fibers->free_stack(slot);
    for (const stack_class which : all_classes)
        CHECK(arena::class_of(fibers->allocate_stack(which)) == which);
}

TEST_CASE("memory: a fiber gets a stack of the class that it was spawned with") {
    const auto runtime = make_runtime(2, 64);
    const auto dives = [&](stack_class which, std::size_t bytes) {
        return signal_of_death([=] {
            const auto inner = make_runtime(1, 64);
            run_in_fiber(*inner, [=] { return dive(bytes); }, {.stack = which});
        });
    };
    CHECK(dives(stack_class::small, 8 * 1024) == 0);
    CHECK(dives(stack_class::small, 24 * 1024) == SIGSEGV);
    CHECK(dives(stack_class::standard, 24 * 1024) == 0);
    CHECK(dives(stack_class::standard, 100 * 1024) == SIGSEGV);
    CHECK(dives(stack_class::large, 100 * 1024) == 0);
    CHECK(dives(stack_class::large, 300 * 1024) == SIGSEGV);
    // In turn, so that stacks of all classes come from the caches.
    for (unsigned n = 0; n < scaled(3000, 300); ++n)
        CHECK(run_in_fiber(*runtime, [n] { return n; }, {.stack = all_classes[n % 3]}) == n);
}

TEST_CASE("memory: a class that nobody uses reserves nothing, and its first users reserve it once") {
    const auto runtime = make_runtime(2, 1000);
    constexpr std::size_t region_kib = 1000 * (256 + 4);
    const auto before = status_kib("VmSize");
    run_in_fiber(*runtime, [] {}, {.stack = stack_class::standard});
    CHECK(status_kib("VmSize") < before + region_kib / 2);
    constexpr int threads_count = 4;
    std::latch start(threads_count);
    std::atomic<int> ran{0};
    {
        std::vector<std::jthread> threads;
        for (int n = 0; n < threads_count; ++n)
            threads.emplace_back([&] {
                start.arrive_and_wait();
                auto fiber = runtime->spawn([&] { ++ran; }, {.stack = stack_class::large});
                if (fiber) fiber->join();
            });
    }
    CHECK(ran == threads_count);
    if (skipped_under_sanitizers("the sanitizer's own memory hides the region's")) return;
    // Threads that have ended leave stacks and heaps of malloc behind.
    const auto after = status_kib("VmSize");
    CHECK(after > before + region_kib);
    CHECK(after < before + region_kib * 2 + threads_count * (8 + 128) * 1024);
}

TEST_CASE("memory child: large stacks are refused" * doctest::skip()) {
    end_child([]() -> int {
        const auto runtime = make_runtime({.workers = 1, .fibers_max = 4000});
        const auto spawn_large = [&] {
            return runtime->spawn([] { return 7; }, {.stack = stack_class::large});
        };
        limit_address_space((status_kib("VmSize") + 100 * 1024) * 1024);  // a tenth of what it needs
        for (int n = 0; n < 3; ++n) {
            const auto made = spawn_large();
            if (made || made.error() != std::errc::not_enough_memory) return 1;
        }
        if (runtime->post([] {}, {.stack = stack_class::large}).error() != std::errc::not_enough_memory)
            return 2;
        if (run_in_fiber(*runtime, [] { return 5; }) != 5) return 3;
        if (runtime->counters().fibers_born != 1) return 4;
        limit_address_space(RLIM_INFINITY);
        auto made = spawn_large();
        return made && made->join() == 7 ? 0 : 5;
    }());
}

TEST_CASE(
    "memory: where a class's address space is refused, its spawns fail, others go on, and it may come "
    "later") {
    if (skipped_under_sanitizers("a sanitizer needs its address space")) return;
    const auto said = run_child("memory child: large stacks are refused");
    CAPTURE(said.text);
    CHECK(said.status == 0);
    CHECK(occurrences(said.text, "address space") == 1);  // and not for each spawn
    CHECK(occurrences(said.text, "ulimit -v") == 1);
}

TEST_CASE("memory child: everything is refused" * doctest::skip()) {
    end_child([]() -> int {
        limit_address_space(std::size_t{4} << 30);
        return weft::run({.workers = 1}, [] {});
    }());
}

TEST_CASE("memory: a runtime without address space says in one line what is missing and what to do") {
    if (skipped_under_sanitizers("a sanitizer needs its address space")) return;
    const auto said = run_child("memory child: everything is refused");
    CAPTURE(said.text);
    CHECK(WEXITSTATUS(said.status) == 1);
    CHECK(occurrences(said.text, "\n") == 1);
    CHECK(occurrences(said.text, "MiB of address space") == 1);
    CHECK(occurrences(said.text, "ulimit -v") == 1);
    CHECK(occurrences(said.text, "fibers_max") == 1);
}

TEST_CASE("memory child: budget" * doctest::skip()) {
    end_child([]() -> int {
        const std::size_t budget = guards_budget();
        const auto count = static_cast<std::uint32_t>(budget + 10'000);
        const auto made = arena::create({.fibers_max = count, .allow_guard_install = false});
        arena& fibers = **made;
        const auto before = mappings();
        for (std::uint32_t n = 0; n < count; ++n)
            if (fibers.allocate_stack() != n) return 1;
        if (fibers.guards() != weft::guard_level::per_group) return 2;
        const auto added = mappings() - before;
        if (added < 2 * budget || added > 2 * (budget + 10'000 / 32) + 10) return 3;
        // The lowest stack of a group, beyond the budget: its guard catches it. The one above has none.
        const std::uint32_t lowest = (count - 64) / 32 * 32;
        if (signal_of_death([&] { write_to(fibers.bounds(lowest).bottom - 1); }) != SIGSEGV) return 4;
        if (signal_of_death([&] { write_to(fibers.bounds(lowest + 1).bottom - 1); }) != 0) return 5;
        return 0;
    }());
}

TEST_CASE("memory: with mprotect, guards stop at a quarter of the mappings that the process may have") {
    if (skipped_under_sanitizers("tens of thousands of mappings take long")) return;
    if (guards_budget() > 100'000) {
        MESSAGE("skipped: vm.max_map_count is above 400,000");
        return;
    }
    const auto said = run_child("memory child: budget");
    CAPTURE(said.text);
    CHECK(said.status == 0);
    CHECK(occurrences(said.text, "one in 32 stacks gets a guard page") == 1);
    CHECK(occurrences(said.text, "vm.max_map_count") == 1);
}

TEST_CASE("memory child: no mappings left" * doctest::skip()) {
    end_child([]() -> int {
        constexpr std::size_t page = 4096, pages = 1'000'000;
        const auto runtime = make_runtime({.workers = 1, .fibers_max = 1000, .allow_guard_install = false});
        run_in_fiber(*runtime, [] {});  // the worker's heap is there
        const weft::testing::watchdog watch("fibers without a stack neither begin nor end");
        auto* host = static_cast<std::byte*>(
            mmap(nullptr, pages * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        std::size_t used = 0;
        while (used + 2 < pages && mprotect(host + used * page, page, PROT_NONE) == 0) used += 2;
        if (used + 2 >= pages) return 77;
        for (int n = 0; n < 10; ++n) used -= 2, mprotect(host + used * page, page, PROT_READ);

        auto dropped = std::make_shared<int>(0);
        std::atomic<unsigned> begun{0};
        std::vector<weft::fiber<bool>> fibers;
        const auto ended_before = runtime->counters().fibers_ended;
        for (int n = 0; n < 100; ++n)
            fibers.push_back(*runtime->spawn([dropped, &begun] {
                ++begun;
                return this_fiber_slept();
            }));
        if (!runtime->post([dropped] {})) return 1;
        while (begun + runtime->counters().fibers_ended - ended_before < 101)
            std::this_thread::sleep_for(1ms);
        unsigned failed = 0, ran = 0;
        for (auto& each : fibers) each.cancel();
        for (auto& each : fibers) try {
                each.join();
                ++ran;
            } catch (const std::system_error& error) {
                if (error.code() != std::errc::not_enough_memory) return 2;
                ++failed;
            }
        if (failed == 0 || ran == 0 || failed + ran != 100) return 3;
        run_in_fiber(*runtime, [] {});  // a stack that has come back
        if (dropped.use_count() != 1) return 4;
        munmap(host, pages * page);
        for (auto& each : park(*runtime, 200)) {
            each.cancel();
            if (each.join()) return 5;
        }
        return 0;
    }());
}

TEST_CASE(
    "memory: when the host has used up the mappings, a fiber without a guard fails, and nothing spins") {
    if (skipped_under_sanitizers("tens of thousands of mappings take long")) return;
    const auto said = run_child("memory child: no mappings left");
    CAPTURE(said.text);
    CHECK(said.status == 0);
    CHECK(occurrences(said.text, "one in 32 stacks gets a guard page") == 1);
}

TEST_CASE("memory: no huge page lies under a stack or a control block") {
    const auto fibers = make_arena({.fibers_max = 20'000});
    std::vector<std::uint32_t> slots;
    for (int n = 0; n < 2000; ++n) {
        slots.push_back(fibers->allocate_stack());
        const auto stack = fibers->bounds(slots.back());
        for (std::size_t page = 0; page < stack.bytes; page += 4096) write_to(stack.bottom + page);
    }
    auto* block = fibers->allocate_block();
    for (const void* address :
         {static_cast<const void*>(fibers->bounds(slots[1000]).bottom), static_cast<const void*>(block)}) {
        const auto lines = smaps_of(address);
        REQUIRE_FALSE(lines.empty());
        CHECK(has_word(lines, "VmFlags:", "nh"));
        CHECK(has_word(lines, "AnonHugePages:", "0"));
        // Without a reservation, memory of hugetlbfs kills the process at the first touch.
        CHECK(has_word(lines, "VmFlags:", "nr"));
        CHECK_FALSE(has_word(lines, "VmFlags:", "ht"));
    }
}

TEST_CASE(
    "memory: a cache keeps the pages of few large stacks, of some small ones and of more standard ones") {
    const auto fibers = make_arena({.fibers_max = 400, .caches = 1});
    arena_cache cache(*fibers);
    for (const stack_class which : all_classes) {
        REQUIRE(fibers->open(which));
        std::vector<std::uint32_t> slots;
        for (int n = 0; n < 400; ++n) {
            slots.push_back(cache.allocate_stack(which));
            write_to(fibers->bounds(slots.back()).bottom);
        }
        for (const auto slot : slots) cache.free_stack(slot);
        std::uint32_t kept = 0;
        for (const auto slot : slots) kept += *fibers->bounds(slot).bottom != std::byte{0};
        CHECK(kept == arena_cache::stacks_max[static_cast<std::size_t>(which)]);
    }
    CHECK(arena_cache::stacks_max == std::array<std::uint32_t, 3>{256, 64, 16});
}

TEST_CASE(
    "memory: how deep stacks were used is known by class, of those that live and of those that are free") {
    const auto runtime = make_runtime({.workers = 1, .fibers_max = 1000});
    CHECK(runtime->stack_use_of(stack_class::large).stack_bytes == 256 * 1024);
    CHECK(runtime->stack_use_of(stack_class::large).stacks_most == 0);
    CHECK(runtime->stack_use_of(stack_class::large).deepest_bytes == 0);
    run_in_fiber(*runtime, [] { return dive(30 * 1024); });
    run_in_fiber(*runtime, [] { return dive(200 * 1024); }, {.stack = stack_class::large});
    const auto standard = runtime->stack_use_of(stack_class::standard);
    CHECK(standard.stack_bytes == 64 * 1024);
    CHECK(standard.stacks_most == 1);
    CHECK(standard.deepest_bytes >= 30 * 1024);
    if (!weft::sanitizer::active) CHECK(standard.deepest_bytes <= 40 * 1024);
    const auto large = runtime->stack_use_of(stack_class::large);
    CHECK(large.deepest_bytes >= 200 * 1024);
    CHECK(large.deepest_bytes % 4096 == 0);
    CHECK(runtime->stack_use_of(stack_class::small).deepest_bytes == 0);
    const auto inside = run_in_fiber(*runtime, [] {
        dive(50 * 1024);
        return weft::this_fiber::stack_use_of(stack_class::standard).deepest_bytes;
    });
    CHECK(inside >= 50 * 1024);

    auto parked = park(*runtime, 300);
    for (auto& each : parked) each.cancel();
    for (auto& each : parked) each.join();
    CHECK(runtime->stack_use_of(stack_class::standard).stacks_most == 300);
}

TEST_CASE("memory: a stack that went deep is remembered when its pages have been given back") {
    const auto fibers = make_arena({.fibers_max = 100, .caches = 1});
    arena_cache cache(*fibers);
    const auto slot = cache.allocate_stack();
    const auto stack = fibers->bounds(slot);
    write_to(stack.bottom + stack.bytes - 40 * 1024);
    cache.free_stack(slot);
    CHECK(cache.wants_trim());
    cache.trim();
    CHECK_FALSE(cache.wants_trim());
    CHECK(fibers->use_of(stack_class::standard).deepest_bytes == 40 * 1024);
    CHECK(stack.bottom[stack.bytes - 40 * 1024] == std::byte{0});
}

TEST_CASE("memory: the pages of free blocks go back, and their generations go on where they were") {
    constexpr std::uint32_t count = 20'000;
    const auto fibers = make_arena({.fibers_max = count});
    std::vector<weft::fiber_block*> blocks;
    for (std::uint32_t n = 0; n < count; ++n) blocks.push_back(fibers->allocate_block());
    CHECK(fibers->blocks_in_excess() > 0);
    fibers->give_back_blocks();
    CHECK(fibers->blocks_in_excess() > 0);  // all are in use
    for (auto* block : blocks)
        for (std::uint32_t life = 0; life < 1 + block->index % 3; ++life) block->word.retire();
    // One in the middle lives on, and its page stays.
    weft::fiber_block& living = *blocks[count / 2];
    for (auto* block : blocks)
        if (block != &living) fibers->free_block(*block);
    fibers->give_back_blocks();
    CHECK(fibers->blocks_in_excess() == 0);
    CHECK(living.index == count / 2);
    for (const std::uint32_t index : {0u, count - 1}) {
        CHECK(fibers->block(index).word.blank());
        CHECK(fibers->block(index).word.load().state == weft::fiber_state::initial);
        CHECK_FALSE(fibers->block(index).requests.add(1, weft::request_cancel));
    }
    fibers->give_back_blocks();  // what is blank already stays as it is

    std::set<std::uint32_t> indices;
    for (std::uint32_t n = 0; n < count - 1; ++n) {
        auto* block = fibers->allocate_block();
        REQUIRE(block != nullptr);
        // Those that are in memory come first, then the others from the beginning.
        if (n < 15) CHECK(block->index / 16 == living.index / 16);
        if (n == 15) CHECK(block->index == 0);
        CHECK(indices.insert(block->index).second);
        CHECK(block == &fibers->block(block->index));
        CHECK(block->word.generation() == 1 + block->index % 3);
        CHECK(block->stack_slot == no_slot);
        CHECK_FALSE(block->deadline.armed());
        CHECK_FALSE(block->deadline.linked());
    }
    CHECK_FALSE(indices.contains(living.index));
    CHECK(fibers->allocate_block() == nullptr);
}

TEST_CASE("memory: while blocks are given back none is handed out twice, and none is refused that is free") {
    constexpr std::uint32_t count = 8192;
    const unsigned rounds = scaled(300, 30);
    const auto fibers = make_arena({.fibers_max = count});
    std::vector<weft::fiber_block*> all;
    for (std::uint32_t n = 0; n < count; ++n) all.push_back(fibers->allocate_block());
    for (auto* block : all) {
        block->word.retire();
        fibers->free_block(*block);
    }
    std::vector<std::atomic<bool>> owned(count);
    std::vector<std::uint32_t> last_generation(count, 1);  // plain: two owners at once would be a data race
    std::atomic<unsigned> refused{0}, owned_by_two{0}, went_back{0};
    std::atomic<bool> over{false};
    std::jthread giver([&] {
        while (!over) fibers->give_back_blocks();
    });
    {
        std::vector<std::jthread> takers;
        for (int n = 0; n < 2; ++n)
            takers.emplace_back([&] {
                std::vector<weft::fiber_block*> mine;
                for (unsigned round = 0; round < rounds; ++round) {
                    for (std::uint32_t k = 0; k < count / 2; ++k) {
                        auto* block = fibers->allocate_block();
                        if (block == nullptr) {
                            ++refused;
                            continue;
                        }
                        if (owned[block->index].exchange(true)) ++owned_by_two;
                        auto& last = last_generation[block->index];
                        if (block->word.generation() != last) ++went_back;
                        block->word.retire();
                        last = block->word.generation();
                        mine.push_back(block);
                    }
                    for (auto* block : mine) {
                        owned[block->index].store(false);
                        fibers->free_block(*block);
                    }
                    mine.clear();
                }
            });
    }
    over = true;
    CHECK(refused == 0);
    CHECK(owned_by_two == 0);
    CHECK(went_back == 0);
}

TEST_CASE(
    "memory: after fifty thousand parked fibers have ended, memory is nearly what it was, and their names "
    "are stale") {
    const unsigned count = scaled(50'000, 8'000);
    const auto runtime = make_runtime({.workers = 2, .fibers_max = count + 1000});
    run_in_fiber(*runtime, [] {});
    const auto before_kib = status_kib("VmRSS");
    std::vector<weft::fiber_id> names;
    names.reserve(count);
    std::size_t parked_kib = 0;
    {
        auto fibers = park(*runtime, count);
        parked_kib = status_kib("VmRSS");
        for (auto& each : fibers) names.push_back(each.id());
        for (auto& each : fibers) each.cancel();
        for (auto& each : fibers) each.join();
    }
    // Workers look once a second; the blocks that they keep go on being used.
    const weft::testing::watchdog watch("the pages of the control blocks never went back");
    weft::arena& arena_of_all = weft::detail::scheduler_of(*runtime).fibers();
    while (arena_of_all.blocks_in_excess() != 0) std::this_thread::sleep_for(10ms);
    const auto after_kib = status_kib("VmRSS");

    const auto stale = [&] {
        return run_in_fiber(*runtime, [&] {
            return std::count_if(names.begin(), names.end(), [](weft::fiber_id name) {
                return weft::cancel(name).error() == weft::errc::no_such_fiber;
            });
        });
    };
    CHECK(stale() == count);
    // The same again: other fibers in the same slots.
    {
        auto fibers = park(*runtime, count);
        CHECK(stale() == count);
        for (auto& each : fibers) each.cancel();
        for (auto& each : fibers) CHECK_FALSE(each.join());
    }
    if (skipped_under_sanitizers("a sanitizer keeps memory of its own")) return;
    CHECK(parked_kib > before_kib + count * 4);
    MESSAGE("VmRSS in KiB: ", before_kib, " before, ", parked_kib, " with all parked, ", after_kib, " after");
    // Two workers keep 256 stacks and 1024 blocks each; the rest is links and what malloc keeps.
    CHECK(after_kib < before_kib + 10 * 1024);
}
