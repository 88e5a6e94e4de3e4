// The context switch: the C++ face of the one assembler file per architecture.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

#include "switch_layout.h"

extern "C" {

/// Saves the running context, stores where it lies in *save, and continues the context that lies at `load`.
/// Returns when somebody switches back to what was stored in *save.
///
/// same_thread: the context is only ever continued by the thread that saved it.
/// cross_thread: any thread may continue it, after an acquire that pairs with a release made after the switch
/// away. _fp: the floating-point control words (rounding, exception masks) travel with the context. Both
/// contexts of one switch must use the same kind.
void weft_switch_same_thread(void** save, void* load) noexcept;
void weft_switch_same_thread_fp(void** save, void* load) noexcept;
void weft_switch_cross_thread(void** save, void* load) noexcept;
void weft_switch_cross_thread_fp(void** save, void* load) noexcept;

void weft_context_entry() noexcept;
}

namespace weft::switchers {

using switch_function = void (*)(void** save, void* load) noexcept;

/// What a suspended context has on its stack, and first_frame: what a new one begins with.
#if defined(__x86_64__)
struct frame {
    std::uint32_t mxcsr;
    std::uint16_t x87_control;
    std::uint16_t unused;
    std::uint64_t r15, r14, r13, r12, rbx, rbp;
    void (*return_address)() noexcept;
};
static_assert(offsetof(frame, mxcsr) == WEFT_FRAME_MXCSR);
static_assert(offsetof(frame, x87_control) == WEFT_FRAME_X87_CONTROL);
static_assert(offsetof(frame, r15) == WEFT_FRAME_R15);
static_assert(offsetof(frame, r14) == WEFT_FRAME_R14);
static_assert(offsetof(frame, r13) == WEFT_FRAME_R13);
static_assert(offsetof(frame, r12) == WEFT_FRAME_R12);
static_assert(offsetof(frame, rbx) == WEFT_FRAME_RBX);
static_assert(offsetof(frame, rbp) == WEFT_FRAME_RBP);
static_assert(offsetof(frame, return_address) == WEFT_FRAME_RETURN);
static_assert(sizeof(frame) == WEFT_FRAME_BYTES);

inline void fill(frame& first, void (*entry)(void*), void* argument) noexcept {
    first.mxcsr = 0x1f80;
    first.x87_control = 0x037f;
    first.r12 = reinterpret_cast<std::uint64_t>(entry);
    first.r13 = reinterpret_cast<std::uint64_t>(argument);
    first.return_address = weft_context_entry;
}
#elif defined(__aarch64__)
struct frame {
    std::uint64_t fpcr, unused;
    std::uint64_t d8, d9, d10, d11, d12, d13, d14, d15;
    std::uint64_t x19, x20, x21, x22, x23, x24, x25, x26, x27, x28, x29;
    void (*return_address)() noexcept;
};
static_assert(offsetof(frame, fpcr) == WEFT_FRAME_FPCR);
static_assert(offsetof(frame, d8) == WEFT_FRAME_D8);
static_assert(offsetof(frame, d10) == WEFT_FRAME_D10);
static_assert(offsetof(frame, d12) == WEFT_FRAME_D12);
static_assert(offsetof(frame, d14) == WEFT_FRAME_D14);
static_assert(offsetof(frame, x19) == WEFT_FRAME_X19);
static_assert(offsetof(frame, x21) == WEFT_FRAME_X21);
static_assert(offsetof(frame, x23) == WEFT_FRAME_X23);
static_assert(offsetof(frame, x25) == WEFT_FRAME_X25);
static_assert(offsetof(frame, x27) == WEFT_FRAME_X27);
static_assert(offsetof(frame, x29) == WEFT_FRAME_X29);
static_assert(offsetof(frame, return_address) == WEFT_FRAME_RETURN);
static_assert(sizeof(frame) == WEFT_FRAME_BYTES);

inline void fill(frame& first, void (*entry)(void*), void* argument) noexcept {
    first.x19 = reinterpret_cast<std::uint64_t>(entry);
    first.x20 = reinterpret_cast<std::uint64_t>(argument);
    first.return_address = weft_context_entry;
}
#elif defined(__riscv)
struct frame {
    std::uint32_t fcsr, unused;
    std::uint64_t fs0, fs1, fs2, fs3, fs4, fs5, fs6, fs7, fs8, fs9, fs10, fs11;
    std::uint64_t s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s0;
    void (*return_address)() noexcept;
};
static_assert(offsetof(frame, fcsr) == WEFT_FRAME_FCSR);
static_assert(offsetof(frame, fs0) == WEFT_FRAME_FS0);
static_assert(offsetof(frame, fs1) == WEFT_FRAME_FS1);
static_assert(offsetof(frame, fs2) == WEFT_FRAME_FS2);
static_assert(offsetof(frame, fs3) == WEFT_FRAME_FS3);
static_assert(offsetof(frame, fs4) == WEFT_FRAME_FS4);
static_assert(offsetof(frame, fs5) == WEFT_FRAME_FS5);
static_assert(offsetof(frame, fs6) == WEFT_FRAME_FS6);
static_assert(offsetof(frame, fs7) == WEFT_FRAME_FS7);
static_assert(offsetof(frame, fs8) == WEFT_FRAME_FS8);
static_assert(offsetof(frame, fs9) == WEFT_FRAME_FS9);
static_assert(offsetof(frame, fs10) == WEFT_FRAME_FS10);
static_assert(offsetof(frame, fs11) == WEFT_FRAME_FS11);
static_assert(offsetof(frame, s1) == WEFT_FRAME_S1);
static_assert(offsetof(frame, s2) == WEFT_FRAME_S2);
static_assert(offsetof(frame, s3) == WEFT_FRAME_S3);
static_assert(offsetof(frame, s4) == WEFT_FRAME_S4);
static_assert(offsetof(frame, s5) == WEFT_FRAME_S5);
static_assert(offsetof(frame, s6) == WEFT_FRAME_S6);
static_assert(offsetof(frame, s7) == WEFT_FRAME_S7);
static_assert(offsetof(frame, s8) == WEFT_FRAME_S8);
static_assert(offsetof(frame, s9) == WEFT_FRAME_S9);
static_assert(offsetof(frame, s10) == WEFT_FRAME_S10);
static_assert(offsetof(frame, s11) == WEFT_FRAME_S11);
static_assert(offsetof(frame, s0) == WEFT_FRAME_S0);
static_assert(offsetof(frame, return_address) == WEFT_FRAME_RETURN);
static_assert(sizeof(frame) == WEFT_FRAME_BYTES);

inline void fill(frame& first, void (*entry)(void*), void* argument) noexcept {
    first.s1 = reinterpret_cast<std::uint64_t>(entry);
    first.s2 = reinterpret_cast<std::uint64_t>(argument);
    first.return_address = weft_context_entry;
}
#endif

/// Lays a new context on a stack: the first switch to what is returned calls entry(argument), which must not
/// return. `stack_top` is one past the stack's highest byte, aligned to 16. The control words start as the
/// ABI defines them.
inline void* make_context(void* stack_top, void (*entry)(void*), void* argument) noexcept {
    // weft_context_entry runs with the stack pointer at stack_top, so that its call leaves the alignment that
    // the ABI asks for.
    // The frame is filled in where it lies: the switch that soon reads it could not take from the CPU's store
    // buffer what a copy had written in larger pieces.
    auto* first = new (static_cast<std::byte*>(stack_top) - sizeof(frame)) frame{};
    fill(*first, entry, argument);
    return first;
}

}  // namespace weft::switchers
