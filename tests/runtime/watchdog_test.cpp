#include <weft/runtime/watchdog.hpp>

#include <doctest/doctest.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <thread>

#include <weft/runtime/fiber_block.hpp>

#include "captured_stderr.hpp"
#include "support.hpp"

using namespace std::chrono_literals;
using weft::stall_detector;
using weft::time_point;
using weft::testing::captured_stderr;
using weft::testing::count_of;
using weft::testing::make_runtime;
using weft::testing::run_in_fiber;
namespace this_fiber = weft::this_fiber;

namespace {

constexpr std::string_view report = "has been kept by one fiber";

unsigned watchdog_threads() {
    unsigned count = 0;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
        std::string name;
        std::getline(std::ifstream(task.path() / "comm"), name);
        count += name == "weft-watchdog" ? 1 : 0;
    }
    return count;
}

void await_report(const captured_stderr& errors) {
    while (count_of(report, errors.text()) == 0) std::this_thread::sleep_for(5ms);
}

weft::runtime_options options_with(weft::duration stuck_after) {
    return {.workers = 2, .fibers_max = 100, .stuck_after = stuck_after};
}

}  // namespace

// Outside of any namespace, so that the dynamic linker knows their names.
[[gnu::noipa]] void spin_until(const std::atomic<bool>& over) {
    while (!over) std::this_thread::yield();
}
// poll(2) is a call that no signal handler lets go on.
[[gnu::noipa]] int await_input(int descriptor) {
    pollfd events{descriptor, POLLIN, 0};
    const int count = poll(&events, 1, -1);
    return count < 0 ? -errno : count;
}

TEST_CASE("stall detector: a run that goes on for the limit is reported once") {
    stall_detector detector(50ms);
    const weft::fiber_block fiber{};
    const time_point start{1s};
    const stall_detector::sight seen{.runs = 7, .running = &fiber};
    CHECK_FALSE(detector.repeats(seen));
    REQUIRE(detector.repeats(seen));
    CHECK_FALSE(detector.judge(start));
    REQUIRE(detector.repeats(seen));
    CHECK_FALSE(detector.judge(start + 49ms));
    CHECK(detector.judge(start + 50ms));
    CHECK(detector.repeats(seen));
    CHECK_FALSE(detector.judge(start + 1h));

    const stall_detector::sight next{.runs = 8, .running = &fiber};
    CHECK_FALSE(detector.repeats(next));
    REQUIRE(detector.repeats(next));
    CHECK_FALSE(detector.judge(start + 2h));
    CHECK(detector.judge(start + 2h + 50ms));
}

TEST_CASE(
    "stall detector: a fiber that runs again and again is not stuck, and neither is a worker without one") {
    stall_detector detector(50ms);
    const weft::fiber_block fiber{};
    for (std::uint64_t run = 0; run < 10; ++run)
        CHECK_FALSE(detector.repeats({.runs = run, .running = &fiber}));
    for (int look = 0; look < 10; ++look) CHECK_FALSE(detector.repeats({.runs = 9, .running = nullptr}));
}

TEST_CASE("stall detector: time in which the worker has no CPU does not count") {
    stall_detector detector(50ms);
    const weft::fiber_block fiber{};
    const stall_detector::sight seen{.runs = 7, .running = &fiber};
    const time_point stands_still{1s};
    detector.repeats(seen);
    for (int look = 0; look < 100; ++look) {
        REQUIRE(detector.repeats(seen));
        CHECK_FALSE(detector.judge(stands_still));
    }
}

TEST_CASE("watchdog: a fiber that computes for too long is reported once, with its name and where it is") {
    const weft::testing::watchdog limit("the fiber that spins is never reported");
    const captured_stderr errors;
    {
        auto runtime = make_runtime(options_with(20ms));
        std::atomic<bool> over = false;
        auto fiber = runtime->spawn([&] { spin_until(over); }, {.name = "spinner"});
        await_report(errors);
        std::this_thread::sleep_for(100ms);  // in which it could be reported again
        over = true;
        fiber->join();
    }
    const std::string said = errors.text();
    CAPTURE(said);
    CHECK(count_of(report, said) == 1);
    CHECK(count_of("which computes", said) == 1);
    CHECK(count_of("'spinner' running on worker", said) == 1);
    CHECK(count_of("spin_until(std::atomic<bool> const&)+", said) >= 1);
    CHECK(count_of("weft_context_entry", said) == 1);
}

TEST_CASE("watchdog: a fiber that blocks its thread is reported, and its system call is not cut short") {
    const weft::testing::watchdog limit("the fiber that blocks is never reported");
    const captured_stderr errors;
    std::array<int, 2> ends;
    REQUIRE(pipe(ends.data()) == 0);
    {
        auto runtime = make_runtime(options_with(20ms));
        auto fiber = runtime->spawn([&] { return await_input(ends[0]); }, {.name = "blocker"});
        await_report(errors);
        REQUIRE(write(ends[1], "!", 1) == 1);
        CHECK(fiber->join() == 1);
    }
    for (const int end : ends) close(end);
    const std::string said = errors.text();
    CAPTURE(said);
    CHECK(count_of(report, said) == 1);
    CHECK(count_of("which is blocked in a system call", said) == 1);
    CHECK(count_of("'blocker'", said) == 1);
    CHECK(count_of("await_input(int)+", said) >= 1);
    CHECK(count_of("weft_context_entry", said) == 1);
}

TEST_CASE("watchdog: fibers that sleep, and fibers that yield, are not reported") {
    const captured_stderr errors;
    {
        auto runtime = make_runtime(options_with(100ms));
        auto sleeper = runtime->spawn([] { return this_fiber::sleep_for(500ms); });
        run_in_fiber(*runtime, [] {
            for (const auto end = std::chrono::steady_clock::now() + 500ms;
                 std::chrono::steady_clock::now() < end;)
                this_fiber::yield();
        });
        CHECK(sleeper->join());
    }
    CHECK(count_of(report, errors.text()) == 0);
}

TEST_CASE("watchdog: it looks again when a worker wakes after a long sleep") {
    const weft::testing::watchdog limit("the fiber that spins is never reported");
    const captured_stderr errors;
    auto runtime = make_runtime(options_with(20ms));
    std::this_thread::sleep_for(1500ms);  // by now it dozes
    std::atomic<bool> over = false;
    auto fiber = runtime->spawn([&] { spin_until(over); });
    await_report(errors);
    over = true;
    fiber->join();
}

TEST_CASE("watchdog: there is a thread for it only when it is asked for") {
    const auto before = watchdog_threads();
    {
        auto runtime = make_runtime(options_with(0ms));
        CHECK(watchdog_threads() == before);
    }
    auto runtime = make_runtime(options_with(50ms));
    while (watchdog_threads() == before) std::this_thread::yield();  // it gives itself its name
}
