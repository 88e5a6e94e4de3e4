// A value that its owner sets and that others glance at.
#pragma once

#include <atomic>

namespace weft {

/// Used like a plain T by its owner, at the cost of a plain T. Any other thread that reads it gets a value
/// that it had, perhaps a little old, and nothing that was written before it.
template <class T>
class observed {
  public:
    constexpr observed() noexcept = default;
    constexpr observed(T value) noexcept : value_(value) {}
    observed(const observed&) = delete;
    observed& operator=(const observed&) = delete;

    void operator=(T value) noexcept { value_.store(value, std::memory_order_relaxed); }
    operator T() const noexcept { return value_.load(std::memory_order_relaxed); }
    T operator->() const noexcept { return *this; }

  private:
    std::atomic<T> value_{};
    static_assert(std::atomic<T>::is_always_lock_free);
};

}  // namespace weft
