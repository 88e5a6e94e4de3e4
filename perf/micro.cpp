// What the scheduler's own steps cost, without any I/O: one JSON line per result. Run it on one CPU:
//   taskset -c 0 build/perf/micro
#include <switchers/switch.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <vector>

#include <weft/runtime/runtime.hpp>
#include <weft/runtime/waiter.hpp>

namespace {

constexpr int rounds = 7;

// The median over the rounds of what `act` takes, divided by the number of steps that it makes.
template <class Act>
void measure(const char* what, std::size_t steps, Act act) {
    std::vector<double> ns;
    for (int round = 0; round < rounds; ++round) {
        const auto begin = std::chrono::steady_clock::now();
        act();
        const std::chrono::duration<double, std::nano> taken = std::chrono::steady_clock::now() - begin;
        ns.push_back(taken.count() / static_cast<double>(steps));
    }
    std::sort(ns.begin(), ns.end());
    std::printf("{\"what\": \"%s\", \"ns\": %.1f, \"best\": %.1f}\n", what, ns[rounds / 2], ns.front());
}

void* outer_context;
void* inner_context;

template <weft::switchers::switch_function Switch>
void switch_back_for_ever(void*) {
    for (;;) Switch(&inner_context, outer_context);
}

template <weft::switchers::switch_function Switch>
void measure_switch(const char* what) {
    constexpr std::size_t pairs = 2'000'000;
    alignas(16) static std::byte stack[16384];
    inner_context =
        weft::switchers::make_context(stack + sizeof stack, switch_back_for_ever<Switch>, nullptr);
    measure(what, 2 * pairs, [] {
        for (std::size_t n = 0; n < pairs; ++n) Switch(&outer_context, inner_context);
    });
}

void measure_yield(const char* what, std::size_t fibers) {
    constexpr std::size_t yields = 2'000'000;
    measure(what, yields, [fibers] {
        std::vector<weft::fiber<void>> all;
        all.reserve(fibers);
        for (std::size_t n = 0; n < fibers; ++n)
            all.push_back(*weft::spawn([each = yields / fibers] {
                for (std::size_t done = 0; done < each; ++done) weft::this_fiber::yield();
            }));
        for (auto& fiber : all) fiber.join();
    });
}

void measure_spawn_all(const char* what, std::size_t fibers) {
    measure(what, fibers, [fibers] {
        std::vector<weft::fiber<void>> all;
        all.reserve(fibers);
        for (std::size_t n = 0; n < fibers; ++n) all.push_back(*weft::spawn([] {}));
        for (auto& fiber : all) fiber.join();
    });
}

// Two fibers that wake each other in turn.
void measure_park_and_wake() {
    constexpr std::size_t turns = 1'000'000;
    measure("park and wake, same worker, each", 2 * turns, [] {
        std::unique_ptr<weft::waiter> first, second;
        auto other = weft::spawn([&] {
            for (std::size_t n = 0; n < turns; ++n) {
                second = std::make_unique<weft::waiter>();
                first->wake();
                second->wait();
            }
            first->wake();
        });
        for (std::size_t n = 0; n <= turns; ++n) {
            first = std::make_unique<weft::waiter>();
            if (second) second->wake();
            first->wait();
        }
        other->join();
    });
}

weft::result<void> measure_all() {
    measure_switch<weft_switch_same_thread>("switch");
    measure_switch<weft_switch_same_thread_fp>("switch with control words");
    measure_yield("yield, 2 fibers", 2);
    measure_yield("yield, 1000 fibers", 1000);
    measure_yield("yield, 10000 fibers", 10000);
    measure("spawn and join, one by one", 500'000, [] {
        for (int n = 0; n < 500'000; ++n) weft::spawn([] {})->join();
    });
    measure_spawn_all("spawn 10000, then join all, each", 10'000);
    measure_spawn_all("spawn 900000, then join all, each", 900'000);
    measure_park_and_wake();
    return {};
}

}  // namespace

int main() {
    return weft::run({.workers = 1}, measure_all);
}
