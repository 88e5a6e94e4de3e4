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

}  // namespace weft

#endif
