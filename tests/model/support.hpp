// What the tests under the model checker share.
#pragma once

#include <doctest/doctest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

#include <model/explorer.hpp>
#include <weft/runtime/atomic.hpp>
#include <weft/runtime/sanitizer.hpp>

/// Sanitizers make each step cost ten times as much, and look at the checker only: what it checks is the same
/// in every build.
inline model::exploration scaled(model::exploration how) {
    if (!weft::sanitizer::active) return how;
    if (how.random_executions != 0)
        how.random_executions /= 10;
    else
        how.preemptions_max = 2;
    return how;
}

/// Runs an exploration, prints how much it has seen, and fails with the steps up to the failure.
inline void check_passes(const char* what, const model::exploring& explore_it,
                         const model::exploration& asked = {}) {
    const model::exploration how = scaled(asked);
    std::string which = what;
    if (how.preemptions_max) which += ", up to " + std::to_string(*how.preemptions_max) + " preemptions";
    if (how.random_executions != 0) which += ", by chance, WEFT_TEST_SEED=" + std::to_string(how.seed);
    const auto start = std::chrono::steady_clock::now();
    const model::outcome seen = explore_it(how);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    std::printf("%s: %llu executions, %llu left out, %.2f s\n", which.c_str(),
                static_cast<unsigned long long>(seen.executions),
                static_cast<unsigned long long>(seen.left_out), took.count());
    CHECK_MESSAGE(seen.passed(), which << ": " << seen.report());
}

inline void check_passes_up_to(unsigned preemptions, const char* what, const model::exploring& explore_it) {
    check_passes(what, explore_it, {.preemptions_max = preemptions});
}

inline void check_passes_by_chance(std::uint64_t executions, const char* what,
                                   const model::exploring& explore_it) {
    const char* given = std::getenv("WEFT_TEST_SEED");
    const unsigned seed =
        given != nullptr ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : std::random_device{}();
    check_passes(what, explore_it, {.random_executions = executions, .seed = seed});
}

/// All orders that the class asks for are needed in the explorations, but for those.
inline void check_needless_orders(const std::string& class_name,
                                  const std::vector<model::exploring>& explorations,
                                  const std::vector<std::string>& expected) {
    const auto needless = model::needless_orders(class_name, explorations);
    std::string all;
    for (const auto& each : needless) all += each + "\n";
    CHECK_MESSAGE(needless == expected, class_name << ":\n" << all);
}

inline bool fails_with(const char* sentence, const model::outcome& seen) {
    if (!seen.failed_with(sentence)) MESSAGE("instead: ", seen.report());
    return seen.failed_with(sentence);
}
