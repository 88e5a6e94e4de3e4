// A number that one thread counts up and others look at.
#pragma once

#include <atomic>
#include <cstdint>

namespace weft {

/// Written by one thread only, so counting takes no locked instruction. Monotonic.
class counter {
  public:
    void add(std::uint64_t n = 1) noexcept {
        // Release: who reads the sum with acquire sees what was done before it was counted.
        value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_release);
    }
    std::uint64_t read() const noexcept { return value_.load(std::memory_order_acquire); }

  private:
    std::atomic<std::uint64_t> value_{0};
};

}  // namespace weft
