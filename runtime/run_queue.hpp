// A worker's runnable fibers, first in, first out.
#pragma once

#include <array>
#include <cstdint>
#include <weft/runtime/fiber_block.hpp>

namespace weft {

/// Only its worker touches it. A ring of pointers, so that the next fibers are known early enough to prefetch
/// them; when the ring is full, what follows is linked into a list and comes after it in order (R7).
class run_queue {
  public:
    static constexpr std::uint32_t ring_slots = 1024;

    bool empty() const noexcept { return head_ == tail_; }
    std::size_t size() const noexcept { return tail_ - head_ + overflow_.size(); }

    void push(fiber_block& fiber) noexcept {
        if (tail_ - head_ == ring_slots || !overflow_.empty()) [[unlikely]] {
            overflow_.push(fiber);
            return;
        }
        ring_[tail_++ % ring_slots] = &fiber;
    }

    /// nullptr when empty.
    fiber_block* pop() noexcept {
        if (empty()) return nullptr;
        fiber_block* first = ring_[head_++ % ring_slots];
        // The overflow is never left waiting behind an empty ring, so empty() needs to look at the ring only.
        if (!overflow_.empty()) [[unlikely]]
            ring_[tail_++ % ring_slots] = overflow_.pop();
        return first;
    }

    /// The fiber that pop() returns `ahead` calls from now, if it is in the ring already; else nullptr.
    fiber_block* peek(std::uint32_t ahead) const noexcept {
        return tail_ - head_ > ahead ? ring_[(head_ + ahead) % ring_slots] : nullptr;
    }

  private:
    std::uint32_t head_ = 0;  // both count up and wrap around; their difference is the number in the ring
    std::uint32_t tail_ = 0;
    fiber_fifo overflow_;
    std::array<fiber_block*, ring_slots> ring_;
};

}  // namespace weft
