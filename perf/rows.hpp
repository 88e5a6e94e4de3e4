// What the micro benches share: which rows are measured how often, and one JSON line for each round.
#pragma once

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>
#include <vector>

namespace perf {

using bench_clock = std::chrono::steady_clock;

inline double ns_since(bench_clock::time_point begin) {
    return std::chrono::duration<double, std::nano>(bench_clock::now() - begin).count();
}

/// Before each hand-over to a sleeper: long enough for any of them to have gone to sleep.
inline constexpr std::chrono::microseconds pause_before_wake{200};

/// Keeps the CPU busy for so long: a pause after which the one who paused is wide awake.
inline void spin_for(std::chrono::microseconds time) {
    const auto end = bench_clock::now() + time;
    while (bench_clock::now() < end) {
    }
}

/// What `act` takes, divided by the number of steps that it makes.
template <class Act>
double ns_each(std::size_t steps, Act act) {
    const auto begin = bench_clock::now();
    act();
    return ns_since(begin) / static_cast<double>(steps);
}

inline double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

/// The CPUs that this process may use: rows for two threads take the first two.
inline std::vector<int> usable_cpus() {
    cpu_set_t usable;
    std::vector<int> found;
    if (sched_getaffinity(0, sizeof usable, &usable) != 0) return found;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET(cpu, &usable)) found.push_back(cpu);
    return found;
}

inline void pin_this_thread(int cpu) {
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(cpu, &only);
    sched_setaffinity(0, sizeof only, &only);
}

/// Runs each on a thread of its own, and that on one of the first two CPUs.
template <class First, class Second>
void on_two_cpus(First first, Second second) {
    const std::vector<int> cpus = usable_cpus();
    std::thread one([&] {
        pin_this_thread(cpus[0]);
        first();
    });
    std::thread two([&] {
        pin_this_thread(cpus[1]);
        second();
    });
    one.join();
    two.join();
}

/// Flags: --only ROW measures that one alone; --rounds N so many times (5), after a first time that warms up;
/// --list names the rows and measures none.
class bench {
  public:
    bench(int argc, char** argv) {
        for (int n = 1; n < argc; ++n) {
            const std::string_view flag = argv[n];
            if (flag == "--list")
                lists_ = true;
            else if (flag == "--only" && n + 1 < argc)
                only_ = argv[++n];
            else if (flag == "--rounds" && n + 1 < argc)
                rounds_ = std::atoi(argv[++n]);
            else {
                std::fprintf(stderr, "usage: %s [--only ROW] [--rounds N] [--list]\n", argv[0]);
                std::exit(2);
            }
        }
    }

    bool wants(std::string_view row) const {
        if (lists_) std::printf("%.*s\n", static_cast<int>(row.size()), row.data());
        return !lists_ && (only_.empty() || only_ == row);
    }

    /// For a row that needs two CPUs.
    bool wants_with_two_cpus(std::string_view row) const {
        if (!wants(row)) return false;
        if (usable_cpus().size() >= 2) return true;
        std::fprintf(stderr, "%.*s needs two CPUs\n", static_cast<int>(row.size()), row.data());
        return false;
    }

    /// `round` returns its figure in ns.
    template <class Round>
    void measure(const char* program, const char* row, Round round) const {
        round();
        for (int n = 0; n < rounds_; ++n) report(program, row, "ns", round());
    }

    static void report(const char* program, const char* row, const char* unit, double value) {
        std::printf("{\"program\": \"%s\", \"row\": \"%s\", \"%s\": %.2f}\n", program, row, unit, value);
        std::fflush(stdout);
    }

  private:
    bool lists_ = false;
    std::string_view only_;
    int rounds_ = 5;
};

}  // namespace perf
