// What the scheduler's own steps cost, without any I/O. `./run bench --micro` runs it beside its peers;
// alone:
//   taskset -c 0,1 build/perf/micro --only yield_2
#include <switchers/switch.hpp>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <utility>
#include <vector>

#include <weft/runtime/runtime.hpp>
#include <weft/runtime/scheduler.hpp>
#include <weft/runtime/worker.hpp>

#include "rows.hpp"

namespace {

using perf::bench;

void run(const weft::runtime_options& options, const bench& rows, const char* row, double (*round)()) {
    if (weft::run(options, [&] { rows.measure("weft", row, round); }) != 0) std::exit(1);
}

// Runs the rounds of a row in the main fiber of a runtime of one worker.
void measure_in_fiber(const bench& rows, const char* row, double (*round)()) {
    if (rows.wants(row)) run({.workers = 1, .fibers_max = 1'001'000}, rows, row, round);
}

// --- the switch alone

void* outer_context;
void* inner_context;

template <weft::switchers::switch_function Switch>
void switch_back_for_ever(void*) {
    for (;;) Switch(&inner_context, outer_context);
}

template <weft::switchers::switch_function Switch>
void measure_switch(const bench& rows, const char* row) {
    constexpr std::size_t pairs = 2'000'000;
    alignas(16) static std::byte stack[16384];
    if (!rows.wants(row)) return;
    inner_context =
        weft::switchers::make_context(stack + sizeof stack, switch_back_for_ever<Switch>, nullptr);
    rows.measure("weft", row, [] {
        return perf::ns_each(2 * pairs, [] {
            for (std::size_t n = 0; n < pairs; ++n) Switch(&outer_context, inner_context);
        });
    });
}

// --- fibers of one worker

double yield_among(std::size_t fibers) {
    // So many by each that what it takes to spawn it does not count.
    const std::size_t yields = std::max<std::size_t>(2'000'000, fibers * 1'000);
    std::vector<weft::fiber<void>> all;
    all.reserve(fibers);
    return perf::ns_each(yields, [&] {
        for (std::size_t n = 0; n < fibers; ++n)
            all.push_back(*weft::spawn([each = yields / fibers] {
                for (std::size_t done = 0; done < each; ++done) weft::this_fiber::yield();
            }));
        for (auto& fiber : all) fiber.join();
    });
}

double spawn_and_join_one_by_one() {
    constexpr std::size_t fibers = 500'000;
    return perf::ns_each(fibers, [] {
        for (std::size_t n = 0; n < fibers; ++n) weft::spawn([] {})->join();
    });
}

double spawn_then_join_all(std::size_t fibers) {
    std::vector<weft::fiber<void>> all;
    all.reserve(fibers);
    return perf::ns_each(fibers, [&] {
        for (std::size_t n = 0; n < fibers; ++n) all.push_back(*weft::spawn([] {}));
        for (auto& fiber : all) fiber.join();
    });
}

// For the fibers of one worker, of which one waits at a time.
class semaphore {
  public:
    void acquire() noexcept {
        while (count_ == 0) {
            waiting_ = &weft::current_fiber();
            weft::park();
        }
        waiting_ = nullptr;
        --count_;
    }
    void release() noexcept {
        ++count_;
        if (waiting_ != nullptr) weft::scheduler::wake(*std::exchange(waiting_, nullptr));
    }

  private:
    unsigned count_ = 0;
    weft::fiber_block* waiting_ = nullptr;
};

double semaphore_round_trip() {
    constexpr std::size_t turns = 500'000;
    semaphore there, back;
    auto other = weft::spawn([&] {
        for (std::size_t n = 0; n < turns; ++n) {
            there.acquire();
            back.release();
        }
    });
    const double ns = perf::ns_each(turns, [&] {
        for (std::size_t n = 0; n < turns; ++n) {
            there.release();
            back.acquire();
        }
    });
    other->join();
    return ns;
}

// Two fibers that wake each other in turn: each turn is one wake and one park.
double park_and_wake() {
    constexpr std::size_t turns = 1'000'000;
    weft::fiber_block& here = weft::current_fiber();
    weft::fiber_block* there = nullptr;
    bool others_turn = false;
    auto other = weft::spawn([&] {
        there = &weft::current_fiber();
        for (std::size_t n = 0; n < turns; ++n) {
            while (!others_turn) weft::park();
            others_turn = false;
            weft::scheduler::wake(here);
        }
    });
    while (there == nullptr) weft::this_fiber::yield();
    const double ns = perf::ns_each(2 * turns, [&] {
        for (std::size_t n = 0; n < turns; ++n) {
            others_turn = true;
            weft::scheduler::wake(*there);
            while (others_turn) weft::park();
        }
    });
    other->join();
    return ns;
}

// --- two workers, each on a CPU of its own

// A fiber on each of two workers, and the word that says whose turn it is.
class pair_of_workers {
  public:
    /// Runs `first(*this)` on worker 0 and `second(*this)` on worker 1 and returns when both have ended.
    template <class First, class Second>
    void run(First first, Second second) {
        auto one = weft::spawn([&] { take_part(0, first); }, {.where = weft::placement::fixed, .worker = 0});
        auto two = weft::spawn([&] { take_part(1, second); }, {.where = weft::placement::fixed, .worker = 1});
        one->join();
        two->join();
    }

    void hand_over_to(int who) noexcept {
        turn_.store(who, std::memory_order_release);
        weft::scheduler::wake(*fibers_[who].load(std::memory_order_acquire));
    }
    void wait_for_turn(int who) noexcept {
        while (turn_.load(std::memory_order_acquire) != who) weft::park();
    }

  private:
    template <class Part>
    void take_part(int who, Part& part) {
        fibers_[who].store(&weft::current_fiber(), std::memory_order_release);
        while (fibers_[1 - who].load(std::memory_order_acquire) == nullptr) weft::this_fiber::yield();
        part(*this);
        // Only a live fiber may be woken, so neither ends before the other has made its last wake.
        left_.fetch_sub(1, std::memory_order_acq_rel);
        while (left_.load(std::memory_order_acquire) != 0) weft::this_fiber::yield();
    }

    alignas(64) std::atomic<int> turn_{0};
    alignas(64) std::atomic<weft::fiber_block*> fibers_[2]{};
    alignas(64) std::atomic<int> left_{2};
};

void measure_between_workers(const bench& rows, const char* row, double (*round)(),
                             bool hardware_help = false) {
    if (!rows.wants_with_two_cpus(row)) return;
    const std::vector<int> cpus = perf::usable_cpus();
    run({.workers = 2,
         .cpus = {cpus[0], cpus[1]},
         .hardware_wait = hardware_help,
         .hardware_demote = hardware_help},
        rows, row, round);
}

// One way, by two fibers that have nothing else to do. Workers that get work from each other spin before they
// sleep; how often one slept all the same is reported too, for it costs a hundred times as much.
double hand_over(const char* row) {
    constexpr std::size_t turns = 10'000;
    pair_of_workers pair;
    double ns = 0;
    const std::uint64_t sleeps_before = weft::this_fiber::counters().sleeps;
    pair.run(
        [&](pair_of_workers& two) {
            ns = perf::ns_each(2 * turns, [&] {
                for (std::size_t n = 0; n < turns; ++n) {
                    two.hand_over_to(1);
                    two.wait_for_turn(0);
                }
            });
        },
        [&](pair_of_workers& two) {
            for (std::size_t n = 0; n < turns; ++n) {
                two.wait_for_turn(1);
                two.hand_over_to(0);
            }
        });
    const std::uint64_t sleeps = weft::this_fiber::counters().sleeps - sleeps_before;
    bench::report("weft", row, "slept_percent",
                  100 * static_cast<double>(sleeps) / static_cast<double>(2 * turns));
    return ns;
}

// One way, from before the wake until the woken fiber runs: the median of the hand-overs of a round.
double wake_asleep() {
    constexpr std::size_t turns = 500;
    pair_of_workers pair;
    perf::bench_clock::time_point sent;
    std::vector<double> taken_ns;
    taken_ns.reserve(turns);
    pair.run(
        [&](pair_of_workers& two) {
            for (std::size_t n = 0; n < turns; ++n) {
                perf::spin_for(perf::pause_before_wake);
                sent = perf::bench_clock::now();
                two.hand_over_to(1);
                two.wait_for_turn(0);
            }
        },
        [&](pair_of_workers& two) {
            for (std::size_t n = 0; n < turns; ++n) {
                two.wait_for_turn(1);
                taken_ns.push_back(perf::ns_since(sent));
                two.hand_over_to(0);
            }
        });
    return perf::median(taken_ns);
}

}  // namespace

int main(int argc, char** argv) {
    const bench rows(argc, argv);
    measure_switch<weft_switch_same_thread>(rows, "switch");
    measure_switch<weft_switch_same_thread_fp>(rows, "switch_fp");
    measure_in_fiber(rows, "yield_2", [] { return yield_among(2); });
    measure_in_fiber(rows, "yield_1000", [] { return yield_among(1'000); });
    measure_in_fiber(rows, "yield_10000", [] { return yield_among(10'000); });
    measure_in_fiber(rows, "spawn_join", spawn_and_join_one_by_one);
    measure_in_fiber(rows, "spawn_10000", [] { return spawn_then_join_all(10'000); });
    measure_in_fiber(rows, "spawn_1000000", [] { return spawn_then_join_all(1'000'000); });
    measure_in_fiber(rows, "semaphore", semaphore_round_trip);
    measure_in_fiber(rows, "park_wake", park_and_wake);
    measure_between_workers(rows, "handover", [] { return hand_over("handover"); });
    // With what the CPU offers for it, as the log says: the same where it offers nothing.
    measure_between_workers(rows, "handover_hardware", [] { return hand_over("handover_hardware"); }, true);
    measure_between_workers(rows, "wake_asleep", wake_asleep);
}
