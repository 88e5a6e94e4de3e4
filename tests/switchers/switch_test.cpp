#include <doctest/doctest.h>
#include <execinfo.h>
#include <unwind.h>

#include <array>
#include <cfenv>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include <weft/switchers/switch.hpp>

#include "control_words.hpp"
#include "support.hpp"

using weft::switchers::make_context;
using weft::switchers::switch_function;
using weft::testing::abi_words;
using weft::testing::control_words;
using weft::testing::down_words;
using weft::testing::read_control_words;
using weft::testing::up_words;
using weft::testing::write_control_words;

namespace {

struct named_switcher {
    const char* name;
    switch_function function;
    bool keeps_control_words;
};
constexpr std::array<named_switcher, 4> every_switcher{{
    {"same thread", weft_switch_same_thread, false},
    {"same thread, FP", weft_switch_same_thread_fp, true},
    {"cross thread", weft_switch_cross_thread, false},
    {"cross thread, FP", weft_switch_cross_thread_fp, true},
}};

// A function on a stack of its own, which is resumed from outside and suspends itself.
class other_context {
  public:
    other_context(switch_function how, std::function<void(other_context&)> body, std::size_t below_top = 0)
        : switcher_(how), body_(std::move(body)) {
        inside_ = make_context(stack_->data() + stack_->size() - below_top, entry, this);
    }
    ~other_context() { CHECK(ended_); }

    void resume() { switcher_(&outside_, inside_); }
    void suspend() { switcher_(&inside_, outside_); }
    bool ended() const { return ended_; }

    // For those who switch by their own means.
    void*& inside() { return inside_; }
    void*& outside() { return outside_; }
    switch_function switcher() const { return switcher_; }

  private:
    static void entry(void* self) {
        auto& context = *static_cast<other_context*>(self);
        context.body_(context);
        context.ended_ = true;
        for (;;) context.suspend();
    }

    struct alignas(64) stack : std::array<std::byte, 256 * 1024> {};
    switch_function switcher_;
    std::function<void(other_context&)> body_;
    std::unique_ptr<stack> stack_ = std::make_unique<stack>();
    void* inside_ = nullptr;
    void* outside_ = nullptr;
    bool ended_ = false;
};

// Walks the calling stack; says why the walk ended and where its last frame was.
struct walk {
    int frames = 0;
    std::uintptr_t outermost = 0;
    _Unwind_Reason_Code end{};
};
[[gnu::noinline]] walk walk_stack() {
    walk walked;
    const auto count = [](_Unwind_Context* context, void* to) {
        auto& counted = *static_cast<walk*>(to);
        if (const auto address = _Unwind_GetIP(context); address != 0)
            counted.outermost = address;  // 0: the end
        return ++counted.frames < 1000 ? _URC_NO_REASON : _URC_NORMAL_STOP;
    };
    walked.end = _Unwind_Backtrace(count, &walked);
    return walked;
}

// The same by frame pointers alone, as profilers do, from that of the function that calls: each points to a
// pair of the caller's frame pointer and the return address, but on RISC-V to just above it.
[[gnu::noinline]] walk walk_frame_pointers(const void* begin) {
    struct frame_record {
        const std::byte* caller;
        std::uintptr_t return_address;
    };
#if defined(__riscv)
    constexpr std::size_t above = sizeof(frame_record);
#else
    constexpr std::size_t above = 0;
#endif
    walk walked;
    auto at = static_cast<const std::byte*>(begin);
    for (; at != nullptr && walked.frames < 1000; ++walked.frames) {
        const auto& record = *reinterpret_cast<const frame_record*>(at - above);
        walked.outermost = record.return_address;
        at = record.caller;
    }
    walked.end = at == nullptr ? _URC_END_OF_STACK : _URC_NORMAL_STOP;
    return walked;
}

[[gnu::noinline]] int at_depth(int depth, const std::function<void()>& act) {
    if (depth == 0) {
        act();
        return 0;
    }
    const volatile int below = at_depth(depth - 1, act);  // neither a tail call nor a loop
    return below + 1;
}

bool in_context_entry(std::uintptr_t address) {
    const auto begin = reinterpret_cast<std::uintptr_t>(&weft_context_entry);
    return address >= begin && address < begin + 16;
}

}  // namespace

// probe_*.S: gives each callee-saved register a value made from `seed`, switches, and returns 0 when
// all are the same afterwards.
extern "C" std::uint64_t probe_switch(void** save, void* load, switch_function switcher, std::uint64_t seed);

TEST_CASE("switch: every callee-saved register is what it was when the context is left and entered again") {
    for (const auto& each : every_switcher) {
        CAPTURE(each.name);
        std::uint64_t differing_inside = 0;
        other_context other(each.function, [&](other_context& self) {
            for (std::uint64_t round = 1; round <= 3; ++round)
                differing_inside |=
                    probe_switch(&self.inside(), self.outside(), self.switcher(), ~(round << 32));
        });
        for (std::uint64_t round = 1; round <= 4; ++round)
            CHECK(probe_switch(&other.outside(), other.inside(), each.function, round << 40 | 0x55) == 0);
        CHECK(other.ended());
        CHECK(differing_inside == 0);
    }
}

TEST_CASE(
    "switch: a new context starts with the function and the argument that it was made for, aligned as the "
    "ABI asks") {
    for (const auto& each : every_switcher)
        for (const std::size_t below_top : {0u, 16u, 32u, 48u, 960u}) {
            CAPTURE(each.name);
            CAPTURE(below_top);
            std::uintptr_t frame_address = 1;
            const void* argument = nullptr;
            other_context other(
                each.function,
                [&](other_context& self) {
                    argument = &self;
                    frame_address = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
                },
                below_top);
            other.resume();
            CHECK(argument == &other);
            CHECK(frame_address % 16 == 0);
        }
}

TEST_CASE("switch: with FP the control words belong to the context") {
    const control_words before = read_control_words();
    for (const auto& each : every_switcher) {
        if (!each.keeps_control_words) continue;
        CAPTURE(each.name);
        control_words at_entry, after_switch;
        other_context other(each.function, [&](other_context& self) {
            at_entry = read_control_words();
            write_control_words(up_words);
            self.suspend();
            after_switch = read_control_words();
        });
        write_control_words(down_words);
        other.resume();
        CHECK(read_control_words() == down_words);
        write_control_words(before);
        other.resume();
        CHECK(read_control_words() == before);
        CHECK(at_entry == abi_words);
        CHECK(after_switch == up_words);
    }
    write_control_words(before);
}

TEST_CASE("switch: with FP a rounding mode does not leak into arithmetic elsewhere") {
    other_context other(weft_switch_same_thread_fp, [](other_context& self) {
        std::fesetround(FE_UPWARD);
        self.suspend();
        CHECK(std::fegetround() == FE_UPWARD);
    });
    other.resume();
    CHECK(std::fegetround() == FE_TONEAREST);
    volatile double one = 1, three = 3;
    const volatile double third = one / three;
    CHECK(third == 1.0 / 3.0);
    other.resume();
}

TEST_CASE("switch: without FP the control words stay those of the thread") {
    const control_words before = read_control_words();
    for (const auto& each : every_switcher) {
        if (each.keeps_control_words) continue;
        CAPTURE(each.name);
        control_words at_entry, after_switch;
        other_context other(each.function, [&](other_context& self) {
            at_entry = read_control_words();
            write_control_words(up_words);
            self.suspend();
            after_switch = read_control_words();
        });
        write_control_words(down_words);
        other.resume();
        const control_words left_behind = read_control_words();
        write_control_words(down_words);
        other.resume();
        write_control_words(before);
        CHECK(at_entry == down_words);
        CHECK(left_behind == up_words);
        CHECK(after_switch == down_words);
    }
}

TEST_CASE("switch: a million switches to and fro arrive each") {
    const unsigned rounds = weft::testing::scaled(1'000'000, 100'000);
    for (const auto& each : every_switcher) {
        CAPTURE(each.name);
        unsigned inside = 0;
        other_context other(each.function, [&](other_context& self) {
            for (; inside < rounds; self.suspend()) ++inside;
        });
        unsigned outside = 0;
        for (; outside < rounds; ++outside) {
            other.resume();
            if (inside != outside + 1) break;
        }
        CHECK(outside == rounds);
        CHECK_FALSE(other.ended());
        other.resume();
    }
}

TEST_CASE("switch: a walk over a context's stack ends at its first frame") {
    walk first, later;
    int glibc_frames = 0;
    std::array<void*, 200> addresses;
    other_context other(weft_switch_same_thread, [&](other_context& self) {
        at_depth(10, [&] { first = walk_stack(); });
        self.suspend();
        at_depth(20, [&] {
            later = walk_stack();
            glibc_frames = backtrace(addresses.data(), static_cast<int>(addresses.size()));
        });
    });
    other.resume();
    at_depth(5, [&] { other.resume(); });
    CHECK(first.end == _URC_END_OF_STACK);
    CHECK(first.frames >= 11);
    CHECK(first.frames < 100);
    CHECK(in_context_entry(first.outermost));
    CHECK(later.end == _URC_END_OF_STACK);
    CHECK(later.frames >= first.frames + 10);
    CHECK(in_context_entry(later.outermost));
    REQUIRE(glibc_frames > 20);
    REQUIRE(glibc_frames < 200);
    CHECK(in_context_entry(
        reinterpret_cast<std::uintptr_t>(addresses[static_cast<std::size_t>(glibc_frames) - 1])));
}

TEST_CASE("switch: a walk by frame pointers ends at the context's first frame, where there is a null") {
    for (const auto& each : every_switcher) {
        CAPTURE(each.name);
        walk first, later;
        other_context other(each.function, [&](other_context& self) {
            at_depth(10, [&] { first = walk_frame_pointers(__builtin_frame_address(0)); });
            self.suspend();
            at_depth(20, [&] { later = walk_frame_pointers(__builtin_frame_address(0)); });
        });
        other.resume();
        at_depth(5, [&] { other.resume(); });
        CHECK(first.end == _URC_END_OF_STACK);
        CHECK(first.frames >= 11);
        CHECK(in_context_entry(first.outermost));
        CHECK(later.end == _URC_END_OF_STACK);
        CHECK(later.frames == first.frames + 10);
        CHECK(in_context_entry(later.outermost));
    }
}

TEST_CASE("switch: an exception can be thrown and caught within a context") {
    for (const auto& each : every_switcher) {
        CAPTURE(each.name);
        std::string caught;
        other_context other(each.function, [&](other_context& self) {
            try {
                at_depth(10, [&] {
                    self.suspend();
                    throw std::runtime_error("from the depth");
                });
            } catch (const std::runtime_error& error) {
                caught = error.what();
            }
        });
        other.resume();
        other.resume();
        CHECK(caught == "from the depth");
    }
}

TEST_CASE(
    "switch: an exception that nobody catches in a context ends the process by terminate, not by a wild "
    "unwind") {
    CHECK(weft::testing::signal_of_death([] {
              other_context other(weft_switch_same_thread,
                                  [](other_context&) { throw std::runtime_error("stray"); });
              other.resume();
          }) == SIGABRT);
}
