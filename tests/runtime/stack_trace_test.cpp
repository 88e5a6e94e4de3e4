#include <weft/runtime/stack_trace.hpp>

#include <doctest/doctest.h>

#include <vector>

#include "support.hpp"

using weft::stack_registers;
using weft::stack_trace;
using weft::trace_stack;

namespace {

// An address in this program that a call returns to: of whoever calls this.
[[gnu::noipa]] std::uintptr_t return_address() {
    return reinterpret_cast<std::uintptr_t>(__builtin_return_address(0));
}

}  // namespace

TEST_CASE("stack trace: garbage leads to no read outside of the stack, and to an end") {
    weft::testing::seeded_random random;
    CAPTURE(random.seed());
    const std::uintptr_t code = return_address();
    for (unsigned round = 0; round < weft::testing::scaled(20'000, 2'000); ++round) {
        // Of its own size, so that a sanitizer sees a step too far.
        std::vector<std::uintptr_t> words(random.below(40));
        const auto begin = reinterpret_cast<std::uintptr_t>(words.data());
        const auto any = [&]() -> std::uintptr_t {
            switch (random.below(4)) {
                case 0:
                    return code;
                case 1:
                    return 0;
                default:
                    return begin + random.below(340) - 10;
            }
        };
        for (std::uintptr_t& word : words) word = any();
        const stack_trace trace = trace_stack({.pc = code, .sp = begin, .fp = any()}, words);
        CHECK(trace.count >= 1);
        CHECK(trace.count <= stack_trace::frames_max);
        CHECK(trace.frames[0].address == code);
    }
}

#if !defined(__riscv)  // whose frame pointers point to the other end of a record
TEST_CASE("stack trace: the chain of frame pointers tells the callers, also from a function that has none") {
    const std::uintptr_t code = return_address();
    std::vector<std::uintptr_t> words(12);
    const auto address_of = [&](std::size_t n) { return reinterpret_cast<std::uintptr_t>(&words[n]); };
    words[2] = code;           // left by a call of the innermost function, which has no frame pointer
    words[4] = address_of(8);  // the first record
    words[5] = code;
    words[8] = 0;  // the last record
    words[9] = code;

    const auto is_certain = [](const stack_trace& trace) {
        std::vector<bool> certain;
        for (const auto& frame : trace.all()) certain.push_back(frame.certain);
        return certain;
    };
    using certainty = std::vector<bool>;
    CHECK(is_certain(trace_stack({.pc = code, .sp = address_of(0), .fp = address_of(4)}, words)) ==
          certainty{true, true, true});
    CHECK(is_certain(trace_stack({.pc = code, .sp = address_of(0), .fp = 0}, words)) ==
          certainty{true, false, true, true});
}
#endif
