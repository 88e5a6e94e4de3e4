// What fiber_priority does for whole runtimes. Nothing here measures time: what is counted is how many other
// fibers run between the moment a fiber is woken and the moment it runs.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include <weft/runtime/worker.hpp>

#include "support.hpp"

using namespace std::chrono_literals;
using weft::fiber_priority;
using weft::testing::make_runtime;
using weft::testing::run_in_fiber;
using weft::testing::scaled;
using weft::testing::watchdog;
namespace this_fiber = weft::this_fiber;

namespace {

constexpr unsigned crowd_size = scaled(5'000, 1'000);
// A worker that has seen a fiber of high priority looks for more after 16 others.
constexpr std::uint64_t soon = 64;

// A runtime with one worker, which has a great many fibers to run at any time.
class crowded_runtime {
  public:
    explicit crowded_runtime(const weft::clock* time = nullptr)
        : runtime_(make_runtime({.workers = 1, .fibers_max = 2 * crowd_size, .time = time})) {
        for (unsigned n = 0; n < crowd_size; ++n)
            crowd_.push_back(*runtime_->spawn([this] {
                while (!over_) {
                    ++runs_;
                    this_fiber::yield();
                }
            }));
    }
    ~crowded_runtime() {
        over_ = true;
        for (auto& each : crowd_) each.join();
    }

    weft::runtime& operator*() { return *runtime_; }
    weft::runtime* operator->() { return runtime_.get(); }

    // Both for fibers.
    /// How often one of the crowd has run.
    std::uint64_t runs() const { return runs_; }
    /// Until all of it have run.
    void wait_until_crowded() const {
        while (runs_ < 4 * crowd_size) this_fiber::yield();
    }

  private:
    std::atomic<bool> over_{false};
    std::uint64_t runs_ = 0;  // by fibers of one worker only
    std::unique_ptr<weft::runtime> runtime_;
    std::vector<weft::fiber<void>> crowd_;
};

struct span_of_runs {
    std::uint64_t least = UINT64_MAX, most = 0;
    void add(std::uint64_t runs) {
        least = std::min(least, runs);
        most = std::max(most, runs);
    }
};

// How many of the crowd run before a fiber of that priority does that is woken. It waits in `sleep`, and
// `wake`, which does not let others run, has it woken.
template <class Sleep, class Wake>
span_of_runs run_before_it(crowded_runtime& crowd, fiber_priority priority, Sleep sleep, Wake wake) {
    constexpr unsigned times = 20;
    const watchdog watch("a fiber does not run among many others");
    return run_in_fiber(*crowd, [&] {
        crowd.wait_until_crowded();
        std::atomic<unsigned> sleeps{0}, wakes{0};
        std::uint64_t woken_at = 0;
        weft::fiber_block* block = nullptr;
        auto sleeper = weft::spawn(
            [&] {
                block = &weft::current_fiber();
                while (sleeps < times) {
                    ++sleeps;
                    sleep();
                    woken_at = crowd.runs();
                    ++wakes;
                }
            },
            {.priority = priority});
        span_of_runs seen;
        for (unsigned n = 0; n < times; ++n) {
            while (sleeps == n) this_fiber::yield();
            const std::uint64_t before = crowd.runs();
            wake(*block);
            while (wakes == n) this_fiber::yield();
            seen.add(woken_at - before);
        }
        sleeper->join();
        return seen;
    });
}

// With high priority it is soon, and without it the fiber waits for most of the crowd.
template <class Sleep, class Wake>
void check_what_priority_does(crowded_runtime& crowd, Sleep sleep, Wake wake) {
    CHECK(run_before_it(crowd, fiber_priority::high, sleep, wake).most <= soon);
    CHECK(run_before_it(crowd, fiber_priority::normal, sleep, wake).least >= crowd_size / 2);
}

}  // namespace

TEST_CASE("priority: a fiber of high priority that a fiber wakes runs before most of a crowd") {
    crowded_runtime crowd;
    bool told = false;
    check_what_priority_does(
        crowd,
        [&] {
            while (!told) weft::park();
            told = false;
        },
        [&](weft::fiber_block& block) {
            told = true;
            weft::scheduler::wake(block);
        });
}

TEST_CASE("priority: a fiber of high priority that a thread of the host wakes runs before most of a crowd") {
    crowded_runtime crowd;
    std::atomic<bool> told{false};
    check_what_priority_does(
        crowd,
        [&] {
            while (!told) weft::park();
            told = false;
        },
        [&](weft::fiber_block& block) {
            // The worker stands still meanwhile, so that none of the crowd runs before the wake-up is there.
            std::thread([&] {
                told = true;
                weft::scheduler::wake(block);
            }).join();
        });
}

TEST_CASE("priority: a fiber of high priority whose deadline passes runs before most of a crowd") {
    weft::manual_clock time;
    crowded_runtime crowd(&time);
    check_what_priority_does(
        crowd, [&] { (void)this_fiber::sleep_for(1ms); }, [&](weft::fiber_block&) { time.advance(1s); });
}

TEST_CASE(
    "priority: fibers of low priority get on among a crowd, also when one of high priority never waits") {
    for (const bool with_high : {false, true}) {
        CAPTURE(with_high);
        crowded_runtime crowd;
        const watchdog watch("a fiber of low priority does not run among many others");
        std::atomic<bool> over{false};
        weft::fiber<void> high;
        if (with_high)
            high = *crowd->spawn(
                [&] {
                    while (!over) this_fiber::yield();
                },
                {.priority = fiber_priority::high});
        const auto seen = run_in_fiber(*crowd,
                                       [&] {
                                           crowd.wait_until_crowded();
                                           span_of_runs between;
                                           for (unsigned n = 0; n < 200; ++n) {
                                               const std::uint64_t before = crowd.runs();
                                               this_fiber::yield();
                                               between.add(crowd.runs() - before);
                                           }
                                           return between;
                                       },
                                       {.priority = fiber_priority::low});
        CHECK(seen.most <= 2 * weft::run_queue::others_in_a_row_max);
        over = true;
        if (with_high) high.join();
    }
}
