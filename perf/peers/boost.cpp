// The rows of perf/micro.cpp as Boost does them: the switch of Boost.Context, the fibers of Boost.Fiber.
#include <atomic>
#include <boost/context/detail/fcontext.hpp>
#include <boost/fiber/all.hpp>
#include <cstddef>
#include <vector>

#include "../rows.hpp"

namespace {

using perf::bench;
namespace fibers = boost::fibers;
namespace context = boost::context;

constexpr std::size_t stack_bytes = 64 * 1024;  // weft's default

template <class Round>
void measure(const bench& rows, const char* row, Round round) {
    if (rows.wants(row)) rows.measure("Boost.Fiber", row, round);
}

// --- Boost.Context

void switch_back_for_ever(context::detail::transfer_t from) {
    for (;;) from = context::detail::jump_fcontext(from.fctx, nullptr);
}

double switch_there_and_back() {
    constexpr std::size_t pairs = 2'000'000;
    alignas(16) static std::byte stack[16384];
    context::detail::fcontext_t inner =
        context::detail::make_fcontext(stack + sizeof stack, sizeof stack, switch_back_for_ever);
    return perf::ns_each(2 * pairs, [&] {
        for (std::size_t n = 0; n < pairs; ++n) inner = context::detail::jump_fcontext(inner, nullptr).fctx;
    });
}

// --- Boost.Fiber, one thread

template <class Stacks, class Function>
fibers::fiber spawn(Stacks& stacks, Function function) {
    return {fibers::launch::post, std::allocator_arg, stacks, function};
}

double yield_among(std::size_t count) {
    constexpr std::size_t yields = 2'000'000;
    fibers::pooled_fixedsize_stack stacks(stack_bytes);
    std::vector<fibers::fiber> all;
    all.reserve(count);
    return perf::ns_each(yields, [&] {
        for (std::size_t n = 0; n < count; ++n)
            all.push_back(spawn(stacks, [each = yields / count] {
                for (std::size_t done = 0; done < each; ++done) boost::this_fiber::yield();
            }));
        for (auto& fiber : all) fiber.join();
    });
}

template <class Stacks>
double spawn_and_join_one_by_one() {
    constexpr std::size_t count = 100'000;
    Stacks stacks(stack_bytes);
    return perf::ns_each(count, [&] {
        for (std::size_t n = 0; n < count; ++n) spawn(stacks, [] {}).join();
    });
}

template <class Stacks>
double spawn_then_join_all() {
    constexpr std::size_t count = 10'000;
    static Stacks stacks(stack_bytes);  // what the pool has grown to is there in the next round
    std::vector<fibers::fiber> all;
    all.reserve(count);
    return perf::ns_each(count, [&] {
        for (std::size_t n = 0; n < count; ++n) all.push_back(spawn(stacks, [] {}));
        for (auto& fiber : all) fiber.join();
    });
}

// The library has no semaphore. Of what it has, this is the fastest for a ping-pong; a semaphore made of its
// mutex and its condition variable takes half as long again.
struct channel {
    fibers::unbuffered_channel<int> way;
    void acquire() { way.value_pop(); }
    void release() { way.push(0); }
};

// A round trip between two fibers of this thread.
double ping_pong() {
    constexpr std::size_t turns = 200'000;
    fibers::pooled_fixedsize_stack stacks(stack_bytes);
    channel there, back;
    fibers::fiber other = spawn(stacks, [&] {
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
    other.join();
    return ns;
}

// --- Boost.Fiber, two threads, each on a CPU of its own with a scheduler of its own

// One way.
double hand_over() {
    constexpr std::size_t turns = 5'000;
    channel there, back;
    double ns = 0;
    perf::on_two_cpus(
        [&] {
            ns = perf::ns_each(2 * turns, [&] {
                for (std::size_t n = 0; n < turns; ++n) {
                    there.release();
                    back.acquire();
                }
            });
        },
        [&] {
            for (std::size_t n = 0; n < turns; ++n) {
                there.acquire();
                back.release();
            }
        });
    return ns;
}

// One way, from before the wake until the woken fiber runs: the median of the hand-overs of a round.
double wake_asleep() {
    constexpr std::size_t turns = 500;
    channel there, back;
    perf::bench_clock::time_point sent;
    std::vector<double> taken_ns;
    perf::on_two_cpus(
        [&] {
            for (std::size_t n = 0; n < turns; ++n) {
                perf::spin_for(perf::pause_before_wake);
                sent = perf::bench_clock::now();
                there.release();
                back.acquire();
            }
        },
        [&] {
            for (std::size_t n = 0; n < turns; ++n) {
                there.acquire();
                taken_ns.push_back(perf::ns_since(sent));
                back.release();
            }
        });
    return perf::median(taken_ns);
}

}  // namespace

int main(int argc, char** argv) {
    const bench rows(argc, argv);
    if (rows.wants("switch_fp")) rows.measure("Boost.Context", "switch_fp", switch_there_and_back);
    measure(rows, "yield_2", [] { return yield_among(2); });
    measure(rows, "yield_1000", [] { return yield_among(1'000); });
    measure(rows, "yield_10000", [] { return yield_among(10'000); });
    measure(rows, "spawn_join", spawn_and_join_one_by_one<fibers::pooled_fixedsize_stack>);
    measure(rows, "spawn_join_fixedsize", spawn_and_join_one_by_one<fibers::fixedsize_stack>);
    measure(rows, "spawn_10000", spawn_then_join_all<fibers::pooled_fixedsize_stack>);
    measure(rows, "spawn_10000_fixedsize", spawn_then_join_all<fibers::fixedsize_stack>);
    measure(rows, "semaphore", ping_pong);
    if (rows.wants_with_two_cpus("handover")) rows.measure("Boost.Fiber", "handover", hand_over);
    if (rows.wants_with_two_cpus("wake_asleep")) rows.measure("Boost.Fiber", "wake_asleep", wake_asleep);
}
