// The atomics of the lock-free pieces, under a name of their own so that a model checker can put its own in
// their place.
#pragma once

#if defined(WEFT_MODEL_CHECK)
#include <model/atomic.hpp>
#else

#include <atomic>

namespace weft {

template <class T>
using atomic = std::atomic<T>;

/// A sequentially consistent fence (C++20 [atomics.fences]).
inline void full_fence() noexcept {
    std::atomic_thread_fence(std::memory_order_seq_cst);
}

/// In a loop that does nothing but look at an atomic again.
inline void pause_in_spin() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#elif defined(__riscv)
    // `pause` by its encoding, for not every assembler knows the name. A CPU without it (Zihintpause) does
    // nothing.
    asm volatile(".insn i 0x0f, 0, x0, x0, 0x010");
#endif
}

}  // namespace weft

#endif
