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

/// Lays a new context on a stack: the first switch to what is returned calls entry(argument), which must not
/// return. `stack_top` is one past the stack's highest byte, aligned to 16. The control words start as the
/// ABI defines them.
inline void* make_context(void* stack_top, void (*entry)(void*), void* argument) noexcept {
    // weft_context_entry runs with rsp == stack_top, so that its call leaves the alignment that the ABI asks
    // for. Filled in where it lies: the switch that soon reads it could not take from the CPU's store buffer
    // what a copy had written in larger pieces.
    auto* first = new (static_cast<std::byte*>(stack_top) - sizeof(frame)) frame;
    first->mxcsr = 0x1f80;
    first->x87_control = 0x037f;
    first->r15 = first->r14 = first->rbx = first->rbp = 0;
    first->r12 = reinterpret_cast<std::uint64_t>(entry);
    first->r13 = reinterpret_cast<std::uint64_t>(argument);
    first->return_address = weft_context_entry;
    return first;
}
#endif

}  // namespace weft::switchers
