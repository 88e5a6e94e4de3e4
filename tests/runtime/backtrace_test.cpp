#include <doctest/doctest.h>
#include <execinfo.h>
#include <unwind.h>

#include <array>
#include <span>
#include <vector>

#include <weft/switchers/switch.hpp>

#include "support.hpp"

using weft::testing::make_runtime;
using weft::testing::run_in_fiber;
namespace this_fiber = weft::this_fiber;

namespace {

using addresses = std::vector<std::uintptr_t>;

constexpr std::size_t frames_max = 200;

// By the unwinder, from the inside out; empty when it does not say that it came to an end.
addresses unwound() {
    addresses seen;
    const auto note = [](_Unwind_Context* context, void* to) {
        auto& noted = *static_cast<addresses*>(to);
        if (const auto address = _Unwind_GetIP(context); address != 0) noted.push_back(address);
        return noted.size() < frames_max ? _URC_NO_REASON : _URC_NORMAL_STOP;
    };
    return _Unwind_Backtrace(note, &seen) == _URC_END_OF_STACK ? seen : addresses{};
}

// By the C library.
addresses backtraced() {
    std::array<void*, frames_max> found;
    const int count = backtrace(found.data(), static_cast<int>(found.size()));
    addresses seen;
    for (void* each : std::span(found).first(static_cast<std::size_t>(count)))
        seen.push_back(reinterpret_cast<std::uintptr_t>(each));
    return seen;
}

void check_that_it_ends_at_the_entry(const addresses& seen) {
    const auto entry = reinterpret_cast<std::uintptr_t>(&weft_context_entry);
    REQUIRE(seen.size() > 2);
    REQUIRE(seen.size() < frames_max);
    CHECK(seen.back() >= entry);
    CHECK(seen.back() < entry + 16);
}

// gdb_test.py stops here and looks around.
[[gnu::noipa]] void look_around() {
    check_that_it_ends_at_the_entry(unwound());
    check_that_it_ends_at_the_entry(backtraced());
}

[[gnu::noipa]] void bake_bread() {
    look_around();
    this_fiber::yield();
    look_around();
}

}  // namespace

TEST_CASE("backtrace: from within a fiber it ends where the fiber began, before and after a park") {
    const auto runtime = make_runtime(1);
    for (const auto affinity : {weft::fiber_affinity::worker, weft::fiber_affinity::any})
        for (const bool keep_fp_control_words : {false, true}) {
            CAPTURE(static_cast<int>(affinity));
            CAPTURE(keep_fp_control_words);
            run_in_fiber(*runtime, [] { bake_bread(); },
                         {.affinity = affinity, .keep_fp_control_words = keep_fp_control_words});
        }
}

TEST_CASE("backtrace: from within a catch block in a fiber it ends there too") {
    const auto runtime = make_runtime(1);
    run_in_fiber(*runtime, [] {
        try {
            throw 5;
        } catch (int) {
            bake_bread();
        }
    });
}
