#include <weft/runtime/fiber_list.hpp>

#include <doctest/doctest.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include "captured_stderr.hpp"
#include "support.hpp"

using namespace std::chrono_literals;
using weft::fiber_activity;
using weft::fiber_info;
using weft::testing::captured_stderr;
using weft::testing::count_of;
using weft::testing::make_runtime;
using weft::testing::run_in_fiber;
using weft::testing::scaled;
namespace this_fiber = weft::this_fiber;

namespace {

const fiber_info* find(const std::vector<fiber_info>& all, std::string_view name) {
    const auto found =
        std::find_if(all.begin(), all.end(), [&](const fiber_info& each) { return each.name == name; });
    return found == all.end() ? nullptr : &*found;
}

// Lists until the fiber of that name does what it is expected to do.
fiber_info await(weft::runtime& where, std::string_view name, fiber_activity activity) {
    for (;;) {
        const auto all = where.fibers();
        if (const fiber_info* found = find(all, name); found != nullptr && found->activity == activity)
            return *found;
        std::this_thread::yield();
    }
}

}  // namespace

TEST_CASE("fiber list: each fiber is there with what it does") {
    const weft::testing::watchdog limit("a fiber is not listed as it should be");
    auto runtime = make_runtime(
        {.workers = 2, .fibers_max = 100, .stuck_after = 0ms});  // one worker is kept busy on purpose
    std::atomic<bool> over = false;
    auto sleeper = runtime->spawn([] { return this_fiber::sleep_for(1h); },
                                  {.name = "sleeper", .where = weft::placement::fixed, .worker = 0});
    auto joiner = runtime->spawn([&] { (void)sleeper->join(); },
                                 {.name = "joiner", .where = weft::placement::fixed, .worker = 0});
    auto spinner = runtime->spawn(
        [&] {
            while (!over) std::this_thread::yield();
        },
        {.name = "spinner", .where = weft::placement::fixed, .worker = 1});
    const fiber_info running = await(*runtime, "spinner", fiber_activity::running);
    auto queued = runtime->spawn([] {}, {.name = "queued", .where = weft::placement::fixed, .worker = 1});
    auto finished = runtime->spawn([] {}, {.name = "finished", .where = weft::placement::fixed, .worker = 0});
    auto failed = runtime->spawn([] { throw std::runtime_error("oh"); },
                                 {.name = "failed", .where = weft::placement::fixed, .worker = 0});

    CHECK(running.id == spinner->id());
    CHECK(running.worker == 1);
    CHECK(running.waits_for.empty());
    CHECK(await(*runtime, "queued", fiber_activity::runnable).worker == 1);
    CHECK(await(*runtime, "finished", fiber_activity::finished).function.empty());
    await(*runtime, "failed", fiber_activity::failed);
    CHECK(await(*runtime, "joiner", fiber_activity::parked).waits_for == "the end of a fiber");
    const fiber_info asleep = await(*runtime, "sleeper", fiber_activity::parked);
    CHECK(asleep.waits_for == "a time");
    CHECK(asleep.waiting >= 0ns);
    CHECK(asleep.function.find("lambda") != asleep.function.npos);
    CHECK(asleep.function.find("Function") == asleep.function.npos);
    CHECK(await(*runtime, "sleeper", fiber_activity::parked).waiting >= asleep.waiting);
    CHECK(runtime->fibers().size() == 6);

    over = true;
    sleeper->cancel();
    joiner->join();
    spinner->join();
    queued->join();
    finished->join();
    CHECK_THROWS(failed->join());
    CHECK(runtime->fibers().empty());
}

TEST_CASE("fiber list: a fiber lists those of its own runtime, itself included") {
    auto runtime = make_runtime(1, 100);
    const auto all = run_in_fiber(*runtime, [] { return weft::list_fibers(); }, {.name = "narcissus"});
    REQUIRE(all.size() == 1);
    CHECK(all[0].name == "narcissus");
    CHECK(all[0].activity == fiber_activity::running);
}

TEST_CASE("fiber list: a line says what there is to say") {
    const fiber_info parked{.id = {7, 2},
                            .name = "connection",
                            .activity = fiber_activity::parked,
                            .worker = 3,
                            .waits_for = "a receive",
                            .waiting = 1250ms,
                            .function = "serve()"};
    CHECK(weft::to_string(parked) ==
          "7.2 'connection' parked on worker 3 for 1.250 s, waiting for a receive; runs serve()");
    const fiber_info finished{.id = {7, 2},
                              .name = "",
                              .activity = fiber_activity::finished,
                              .worker = 0,
                              .waits_for = {},
                              .function = {}};
    CHECK(weft::to_string(finished) == "7.2 '' finished on worker 0");
}

TEST_CASE("fiber list: while fibers come and go, none is shown with parts of another") {
    const weft::testing::watchdog limit("listing never ends");
    auto runtime = make_runtime(2, 100);
    std::atomic<bool> over = false;
    auto main = runtime->spawn(
        [&] {
            // Each is called by one letter, many times over.
            for (unsigned n = 0; !over; ++n) {
                const std::string name(n % 23 + 1, static_cast<char>('a' + n % 23));
                if (!weft::spawn_detached([] { this_fiber::yield(); },
                                          {.name = name, .where = weft::placement::spread}))
                    this_fiber::yield();
            }
        },
        {.name = "main"});
    const auto is_whole = [](const std::string& name) {
        return !name.empty() && name == std::string(static_cast<std::size_t>(name[0] - 'a' + 1), name[0]);
    };
    std::size_t seen = 0;
    while (seen < scaled(5'000'000, 50'000))
        for (const fiber_info& each : runtime->fibers()) {
            ++seen;
            if (each.name != "main" && !is_whole(each.name))
                FAIL("a fiber is shown as '" << each.name << "'");
        }
    over = true;
    main->join();
}

TEST_CASE("fiber list: a signal has all fibers of the process listed on stderr, once") {
    const weft::testing::watchdog limit("the list does not come");
    const captured_stderr errors;
    const weft::runtime_options options{
        .workers = 1, .fibers_max = 100, .stuck_after = 0ms, .list_fibers_on_signal = SIGUSR2};
    auto first = make_runtime(options);
    auto second = make_runtime(options);
    auto here = first->spawn([] { return this_fiber::sleep_for(1h); }, {.name = "here"});
    auto there = second->spawn([] { return this_fiber::sleep_for(1h); }, {.name = "there"});
    await(*first, "here", fiber_activity::parked);
    await(*second, "there", fiber_activity::parked);
    raise(SIGUSR2);
    while (count_of("weft: 1 fibers on 1 workers\n", errors.text()) < 2) std::this_thread::sleep_for(5ms);
    CHECK(count_of("'here' parked on worker 0 for ", errors.text()) == 1);
    CHECK(count_of("'there' parked on worker 0 for ", errors.text()) == 1);
}
