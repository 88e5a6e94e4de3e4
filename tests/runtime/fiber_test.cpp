#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cfenv>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "support.hpp"

using namespace std::chrono_literals;
using weft::errc;
using weft::fiber;
using weft::spawn;
using weft::testing::make_runtime;
using weft::testing::run_in_fiber;
using weft::testing::scaled;
namespace this_fiber = weft::this_fiber;

namespace {

// Counts itself, so that a test sees that each copy that was made has gone.
struct counted {
    static inline std::atomic<int> alive{0};
    counted() { ++alive; }
    counted(const counted&) { ++alive; }
    counted(counted&&) noexcept { ++alive; }
    ~counted() { --alive; }
};

template <std::size_t Bytes>
struct block_of {
    std::array<unsigned char, Bytes> bytes{};
};

template <std::size_t Bytes>
void check_result_of_size(weft::runtime& runtime) {
    CAPTURE(Bytes);
    const auto made = run_in_fiber(runtime, [] {
        block_of<Bytes> value;
        for (std::size_t n = 0; n < Bytes; ++n) value.bytes[n] = static_cast<unsigned char>(n * 7);
        return value;
    });
    for (std::size_t n = 0; n < Bytes; ++n) REQUIRE(made.bytes[n] == static_cast<unsigned char>(n * 7));
}

template <std::size_t Bytes>
void check_closure_of_size(weft::runtime& runtime) {
    CAPTURE(Bytes);
    block_of<Bytes> value;
    std::fill(value.bytes.begin(), value.bytes.end(), static_cast<unsigned char>(Bytes));
    const bool arrived = run_in_fiber(runtime, [value, witness = counted()] {
        this_fiber::yield();
        return std::all_of(value.bytes.begin(), value.bytes.end(), [](auto b) { return b == Bytes % 256; });
    });
    CHECK(arrived);
}

template <class Exception, class Function>
std::string message_of(Function&& function) {
    try {
        function();
    } catch (const Exception& error) {
        return error.what();
    }
    return "nothing was thrown";
}

}  // namespace

TEST_CASE("fiber: join returns what the function returned, whatever its size") {
    const auto runtime = make_runtime(2);
    CHECK(run_in_fiber(*runtime, [] { return 42; }) == 42);
    CHECK(run_in_fiber(*runtime, [] { return std::string(1000, 'x'); }) == std::string(1000, 'x'));
    check_result_of_size<1>(*runtime);
    check_result_of_size<96>(*runtime);
    check_result_of_size<97>(*runtime);
    check_result_of_size<10'000>(*runtime);
    struct alignas(64) wide {
        int value = 5;
        const void* self = this;
    };
    CHECK(run_in_fiber(*runtime, [] { return wide{}; }).value == 5);
    run_in_fiber(*runtime, [] {});
}

TEST_CASE("fiber: the result and the closure may be of a kind that can only be moved") {
    const auto runtime = make_runtime(1);
    auto inner = std::make_unique<int>(7);
    const auto result = run_in_fiber(*runtime, [inner = std::move(inner)]() mutable {
        ++*inner;
        return std::move(inner);
    });
    CHECK(*result == 8);
}

TEST_CASE(
    "fiber: a closure that fits lives in the block, a larger one on the heap, and neither is left behind") {
    const auto runtime = make_runtime(2);
    check_closure_of_size<8>(*runtime);
    check_closure_of_size<95>(*runtime);
    check_closure_of_size<96>(*runtime);
    check_closure_of_size<5'000>(*runtime);
    CHECK(counted::alive == 0);
}

TEST_CASE("fiber: a result that nobody takes is destroyed") {
    {
        const auto runtime = make_runtime(2);
        for (int n = 0; n < 100; ++n) {
            auto small = runtime->spawn([] { return counted(); });
            auto large = runtime->spawn([] { return std::pair<counted, block_of<200>>(); });
            REQUIRE(small);
            REQUIRE(large);
            if (n % 2 == 0) small->detach();
            REQUIRE(runtime->post([] { return counted(); }));
        }
    }
    CHECK(counted::alive == 0);
}

TEST_CASE("fiber: an exception crosses join, from a thread and from a fiber") {
    const auto runtime = make_runtime(2);
    const auto fails = [] { throw std::runtime_error("no bread today"); };
    auto failing = runtime->spawn(fails);
    REQUIRE(failing);
    CHECK(message_of<std::runtime_error>([&] { failing->join(); }) == "no bread today");
    CHECK_FALSE(failing->joinable());

    const auto message = run_in_fiber(*runtime, [&] {
        auto inner = spawn([]() -> std::string {
            this_fiber::yield();
            throw std::out_of_range("too far");
        });
        return message_of<std::out_of_range>([&] { inner->join(); });
    });
    CHECK(message == "too far");
    CHECK(runtime->counters().fibers_failed == 0);
}

TEST_CASE("fiber: a result whose construction throws counts as an exception of the function") {
    const auto runtime = make_runtime(1);
    struct refuses {
        refuses() = default;
        refuses(const refuses&) { throw std::runtime_error("not to be copied today"); }
    };
    auto failing = runtime->spawn([] { return refuses(); });
    REQUIRE(failing);
    CHECK(message_of<std::runtime_error>([&] { failing->join(); }) == "not to be copied today");
}

TEST_CASE("fiber: a closure whose copy throws makes no fiber, and its slot is used again") {
    const auto runtime = make_runtime(1, 4);
    struct refuses {
        refuses() = default;
        refuses(const refuses&) { throw std::runtime_error("not to be copied"); }
        void operator()() const {}
    };
    const refuses refusing;
    REQUIRE(runtime->post([] { return counted(); }));  // leaves a block behind that held a result to its end
    const weft::testing::watchdog watch("a posted fiber did not end");
    while (runtime->counters().fibers_ended < 1) std::this_thread::yield();
    for (int n = 0; n < 20; ++n)
        CHECK(message_of<std::runtime_error>([&] { (void)runtime->spawn(refusing); }) == "not to be copied");
    for (int n = 0; n < 20; ++n) CHECK(run_in_fiber(*runtime, [n] { return n; }) == n);
    CHECK(counted::alive == 0);
}

TEST_CASE("fiber: an exception that nobody can collect is counted") {
    const auto runtime = make_runtime(2);
    REQUIRE(weft::set_log_level("off"));
    REQUIRE(runtime->post([] { throw std::runtime_error("posted"); }));
    run_in_fiber(*runtime, [] { REQUIRE(weft::spawn_detached([] { throw 5; })); });
    {
        auto detached = runtime->spawn([] { throw std::runtime_error("detached"); });
        detached->detach();
        auto dropped = runtime->spawn([] { throw std::runtime_error("dropped"); });
    }
    const weft::testing::watchdog watch("failed fibers were not counted");
    while (runtime->counters().fibers_failed < 4) std::this_thread::yield();
    run_in_fiber(*runtime, [] {});
    CHECK(runtime->counters().fibers_failed == 4);
    REQUIRE(weft::set_log_level("warn"));
}

TEST_CASE("fiber: dropping a handle asks the fiber to stop, detaching lets it run") {
    const auto runtime = make_runtime(2);
    std::atomic<int> dropped{0}, detached{0};
    const weft::testing::watchdog watch("a fiber did not end after its handle was dropped");
    {
        auto dropping =
            runtime->spawn([&] { dropped = this_fiber::sleep_for(1h).error() == errc::cancelled ? 1 : 2; });
    }
    while (dropped == 0) std::this_thread::yield();
    CHECK(dropped == 1);

    runtime->spawn([&] { detached = this_fiber::sleep_for(20ms) ? 1 : 2; })->detach();
    while (detached == 0) std::this_thread::yield();
    CHECK(detached == 1);
}

TEST_CASE("fiber: a handle can be moved, and assigning to it drops what it owned") {
    const auto runtime = make_runtime(1);
    std::atomic<bool> stopped{false};
    auto first = runtime->spawn([&] {
        stopped = this_fiber::sleep_for(1h).error() == errc::cancelled;
        return 1;
    });
    fiber<int> handle = std::move(*first);
    CHECK_FALSE(first->joinable());
    handle = std::move(*runtime->spawn([] { return 2; }));
    CHECK(handle.join() == 2);
    CHECK_FALSE(handle.joinable());
    const weft::testing::watchdog watch("the fiber of an assigned handle did not stop");
    while (!stopped) std::this_thread::yield();
}

TEST_CASE(
    "fiber: once asked to stop, every call in which it parks says so, and what does not park still works") {
    const auto runtime = make_runtime(1);
    auto stubborn = runtime->spawn([] {
        int refusals = 0;
        while (!this_fiber::cancelled()) this_fiber::yield();
        for (int n = 0; n < 3; ++n) refusals += this_fiber::sleep_for(1h).error() == errc::cancelled;
        auto child = spawn([] { return 3; });
        return refusals * 10 + child->join();
    });
    stubborn->cancel();
    CHECK(stubborn->join() == 33);
}

TEST_CASE("fiber: cancelling by name reaches a live fiber, and finds none when it has ended") {
    const auto runtime = make_runtime(2);
    run_in_fiber(*runtime, [] {
        auto sleeper = spawn([] { return this_fiber::sleep_for(1h).error() == errc::cancelled; });
        const weft::fiber_id id = sleeper->id();
        CHECK(weft::cancel(id));
        CHECK(sleeper->join());
        CHECK(weft::cancel(id).error() == errc::no_such_fiber);

        // The slot is hot, so the next fiber gets it: under another name.
        auto next = spawn([] { return this_fiber::sleep_for(10ms).has_value(); });
        CHECK(next->id() != id);
        CHECK(weft::cancel(id).error() == errc::no_such_fiber);
        CHECK(next->join());
        CHECK(weft::cancel({.index = 19'999, .generation = 0}).error() == errc::no_such_fiber);
        CHECK(weft::cancel({}).error() == errc::no_such_fiber);
    });
}

TEST_CASE("fiber: slots are used again under new generations") {
    const auto runtime = make_runtime(1);
    run_in_fiber(*runtime, [] {
        std::vector<weft::fiber_id> seen;
        for (int n = 0; n < 50; ++n) {
            auto next = spawn([] { return this_fiber::id(); });
            const auto id = next->id();
            CHECK(next->join() == id);
            CHECK(std::find(seen.begin(), seen.end(), id) == seen.end());
            seen.push_back(id);
        }
        const auto used_twice =
            std::count_if(seen.begin(), seen.end(), [](auto id) { return id.generation > 5; });
        CHECK(used_twice > 0);
    });
}

TEST_CASE("fiber: its name is kept, and one that is too long loses its end") {
    const auto runtime = make_runtime(1);
    const auto name_of = [&](std::string_view name) {
        return run_in_fiber(*runtime, [] { return std::string(this_fiber::name()); }, {.name = name});
    };
    CHECK(name_of("") == "");
    CHECK(name_of("baker") == "baker");
    CHECK(name_of("exactly-23-bytes-long--") == "exactly-23-bytes-long--");
    CHECK(name_of("a name that is longer than what is kept") == "a name that is longer t");
    CHECK(name_of("short") == "short");
}

TEST_CASE("fiber: it may park inside a catch block while another one throws and catches") {
    const auto runtime = make_runtime(1);
    run_in_fiber(*runtime, [] {
        const auto handle = [](const std::string& mine, int rounds) {
            try {
                throw std::runtime_error(mine);
            } catch (...) {
                for (int n = 0; n < rounds; ++n) {
                    this_fiber::yield();
                    CHECK(message_of<std::runtime_error>(
                              [] { std::rethrow_exception(std::current_exception()); }) == mine);
                    CHECK(message_of<std::runtime_error>([] { throw; }) == mine);
                }
            }
            return std::current_exception() == nullptr;
        };
        std::vector<fiber<bool>> fibers;
        for (int n = 0; n < 8; ++n)
            fibers.push_back(*spawn([=] { return handle("fiber " + std::to_string(n), 5 + n); }));
        for (auto& each : fibers) CHECK(each.join());
    });
}

TEST_CASE("fiber: nested catch blocks with a park in each unwind in order") {
    const auto runtime = make_runtime(1);
    const auto nested = [] {
        std::string seen;
        try {
            throw std::runtime_error("outer");
        } catch (const std::runtime_error& outer) {
            this_fiber::yield();
            try {
                throw std::logic_error("inner");
            } catch (const std::logic_error& inner) {
                this_fiber::yield();
                seen += inner.what();
            }
            this_fiber::yield();
            seen += outer.what();
            seen += message_of<std::runtime_error>([] { throw; });
        }
        return seen;
    };
    run_in_fiber(*runtime, [&] {
        auto one = spawn(nested), two = spawn(nested);
        CHECK(one->join() == "innerouterouter");
        CHECK(two->join() == "innerouterouter");
    });
}

TEST_CASE(
    "fiber: exceptions in flight are counted per fiber, also when a destructor parks during the unwinding") {
    const auto runtime = make_runtime(1);
    struct parks_when_destroyed {
        int& in_flight_after;
        ~parks_when_destroyed() {
            this_fiber::yield();
            in_flight_after = std::uncaught_exceptions();
        }
    };
    run_in_fiber(*runtime, [] {
        int in_flight = -1, in_flight_elsewhere = -1;
        auto unwinding = spawn([&] {
            try {
                const parks_when_destroyed guard{in_flight};
                throw std::runtime_error("on its way");
            } catch (const std::runtime_error&) {
            }
            return std::uncaught_exceptions();
        });
        auto watching = spawn([&] { in_flight_elsewhere = std::uncaught_exceptions(); });
        CHECK(unwinding->join() == 0);
        watching->join();
        CHECK(in_flight == 1);
        CHECK(in_flight_elsewhere == 0);
    });
}

TEST_CASE("fiber: a rounding mode travels with a fiber that keeps its FP control words") {
    const auto runtime = make_runtime(1);
    run_in_fiber(*runtime, [] {
        auto rounding_up = spawn(
            [] {
                std::fesetround(FE_UPWARD);
                this_fiber::yield();
                return std::fegetround();
            },
            {.keep_fp_control_words = true});
        auto other = spawn([] { return std::fegetround(); });
        CHECK(other->join() == FE_TONEAREST);
        CHECK(rounding_up->join() == FE_UPWARD);
        CHECK(std::fegetround() == FE_TONEAREST);
    });
}

TEST_CASE("fiber: sleepers wake in the order of their times, and none early") {
    const auto runtime = make_runtime(1);
    run_in_fiber(*runtime, [] {
        std::vector<int> order;
        std::vector<fiber<void>> sleepers;
        for (const int milliseconds : {30, 10, 50, 20, 40, 0})
            sleepers.push_back(*spawn([&order, milliseconds] {
                const auto before = std::chrono::steady_clock::now();
                const auto time = std::chrono::milliseconds(milliseconds);
                CHECK(this_fiber::sleep_for(time));
                CHECK(std::chrono::steady_clock::now() - before >= time);
                order.push_back(milliseconds);
            }));
        for (auto& each : sleepers) each.join();
        CHECK(order == std::vector<int>{0, 10, 20, 30, 40, 50});
    });
}

TEST_CASE("fiber: a sleep of no length or into the past ends") {
    const auto runtime = make_runtime(1);
    run_in_fiber(*runtime, [] {
        CHECK(this_fiber::sleep_for(0s));
        CHECK(this_fiber::sleep_for(-5s));
        CHECK(this_fiber::sleep_until(weft::time_point{}));
    });
}

TEST_CASE("fiber: a thousand sleeps of microseconds never end early") {
    const auto runtime = make_runtime(2);
    std::atomic<int> early{0};
    std::vector<fiber<void>> sleepers;
    for (int n = 0; n < 50; ++n)
        sleepers.push_back(*runtime->spawn([&, n] {
            for (int round = 0; round < 20; ++round) {
                const auto time = std::chrono::microseconds(1 + (n * 37 + round * 101) % 700);
                const auto before = std::chrono::steady_clock::now();
                if (!this_fiber::sleep_for(time) || std::chrono::steady_clock::now() - before < time) ++early;
            }
        }));
    for (auto& each : sleepers) each.join();
    CHECK(early == 0);
}

TEST_CASE("fiber: yield lets every other runnable fiber run first") {
    const auto runtime = make_runtime(1);
    run_in_fiber(*runtime, [] {
        std::vector<int> turns;
        std::vector<fiber<void>> fibers;
        for (int n = 0; n < 3; ++n)
            fibers.push_back(*spawn([&turns, n] {
                for (int round = 0; round < 3; ++round) {
                    turns.push_back(n);
                    this_fiber::yield();
                }
            }));
        for (auto& each : fibers) each.join();
        CHECK(turns == std::vector<int>{0, 1, 2, 0, 1, 2, 0, 1, 2});
    });
}

TEST_CASE("fiber: a hundred thousand fibers run to their end") {
    const auto runtime = make_runtime(2, 200'000);
    const unsigned count = scaled(100'000, 20'000);
    std::atomic<unsigned> ran{0};
    run_in_fiber(*runtime, [&] {
        for (unsigned n = 0; n < count; ++n) {
            while (!weft::spawn_detached(
                [&] { ran.fetch_add(1, std::memory_order_relaxed); },
                {.where = n % 2 == 0 ? weft::placement::near : weft::placement::spread}))
                this_fiber::yield();
            if (n % 512 == 0) this_fiber::yield();
        }
    });
    const weft::testing::watchdog watch("not all fibers ended");
    while (runtime->counters().fibers_ended < count + 1) std::this_thread::yield();
    CHECK(ran == count);
    CHECK(runtime->counters().fibers_born == count + 1);
}

TEST_CASE("fiber: programming errors stop the process with a sentence") {
    using weft::testing::signal_of_death;
    CHECK(signal_of_death([] { this_fiber::yield(); }) == SIGABRT);
    CHECK(signal_of_death([] { (void)spawn([] {}); }) == SIGABRT);
    CHECK(signal_of_death([] { fiber<void>().join(); }) == SIGABRT);
    CHECK(signal_of_death([] {
              const auto runtime = make_runtime(1, 100);
              fiber<void> self;
              std::atomic<bool> known{false};
              self = std::move(*runtime->spawn([&] {
                  while (!known) this_fiber::yield();
                  self.join();
              }));
              known = true;
              for (;;) pause();
          }) == SIGABRT);
}
