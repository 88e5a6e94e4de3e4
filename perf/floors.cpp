// What two threads on two CPUs need at least to hand something over: through a cache line while both look,
// and by a system call when one of them sleeps. One way, ns.
#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <vector>

#include "rows.hpp"

namespace {

using perf::bench;

double cache_line() {
    constexpr std::uint32_t turns = 200'000;
    alignas(64) std::atomic<std::uint32_t> said{0};
    alignas(64) std::atomic<std::uint32_t> answered{0};
    double ns = 0;
    perf::on_two_cpus(
        [&] {
            ns = perf::ns_each(2 * turns, [&] {
                for (std::uint32_t n = 1; n <= turns; ++n) {
                    said.store(n, std::memory_order_release);
                    while (answered.load(std::memory_order_acquire) != n) {
                    }
                }
            });
        },
        [&] {
            for (std::uint32_t n = 1; n <= turns; ++n) {
                while (said.load(std::memory_order_acquire) != n) {
                }
                answered.store(n, std::memory_order_release);
            }
        });
    return ns;
}

// From before `wake()` until `sleep()` has returned on the other thread: the median of the wakes of a round.
template <class Sleep, class Wake>
double wake_asleep(Sleep sleep, Wake wake) {
    constexpr std::uint32_t turns = 500;
    alignas(64) std::atomic<std::uint32_t> answered{0};
    perf::bench_clock::time_point sent;
    std::vector<double> taken_ns;
    perf::on_two_cpus(
        [&] {
            for (std::uint32_t n = 1; n <= turns; ++n) {
                perf::spin_for(perf::pause_before_wake);
                sent = perf::bench_clock::now();
                wake(n);
                while (answered.load(std::memory_order_acquire) != n) {
                }
            }
        },
        [&] {
            for (std::uint32_t n = 1; n <= turns; ++n) {
                sleep(n);
                taken_ns.push_back(perf::ns_since(sent));
                answered.store(n, std::memory_order_release);
            }
        });
    return perf::median(taken_ns);
}

double futex_wake() {
    alignas(64) std::atomic<std::uint32_t> said{0};
    return wake_asleep(
        [&](std::uint32_t turn) {
            while (said.load(std::memory_order_acquire) != turn)
                syscall(SYS_futex, &said, FUTEX_WAIT_PRIVATE, turn - 1, nullptr);
        },
        [&](std::uint32_t turn) {
            said.store(turn, std::memory_order_release);
            syscall(SYS_futex, &said, FUTEX_WAKE_PRIVATE, 1);
        });
}

double eventfd_wake() {
    const int descriptor = eventfd(0, EFD_CLOEXEC);
    const double ns = wake_asleep(
        [&](std::uint32_t) {
            std::uint64_t value;
            while (read(descriptor, &value, sizeof value) != sizeof value) {
            }
        },
        [&](std::uint32_t) {
            const std::uint64_t one = 1;
            while (write(descriptor, &one, sizeof one) != sizeof one) {
            }
        });
    close(descriptor);
    return ns;
}

}  // namespace

int main(int argc, char** argv) {
    const bench rows(argc, argv);
    if (rows.wants_with_two_cpus("handover")) rows.measure("cache line", "handover", cache_line);
    if (rows.wants_with_two_cpus("wake_asleep")) {
        rows.measure("futex", "wake_asleep", futex_wake);
        rows.measure("eventfd", "wake_asleep", eventfd_wake);
    }
}
