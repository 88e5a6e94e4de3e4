// A worker's runnable fibers: first in, first out, by priority.
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <weft/runtime/fiber_block.hpp>

namespace weft {

/// Fibers of one priority. Only its worker touches it. A ring of pointers, so that the next fibers are known
/// early enough to prefetch them; when the ring is full, what follows is linked into a list and comes after
/// it in order (R7).
class fiber_ring {
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

/// All that are runnable on a worker. Boundedly unfair: high priority goes first, but after
/// `high_in_a_row_max` of them one of the others has its turn; and low priority goes last, but the first such
/// turn after `others_in_a_row_max` others is one of its.
class run_queue {
  public:
    static constexpr std::uint32_t high_in_a_row_max = 16;
    static constexpr std::uint32_t others_in_a_row_max = 64;

    bool empty() const noexcept { return normal_.empty() && special_ == 0; }
    std::size_t size() const noexcept { return normal_.size() + special_; }
    /// A fiber of high priority was queued since this was asked last.
    bool took_high() noexcept { return std::exchange(took_high_, false); }

    void push(fiber_block& fiber) noexcept {
        if (fiber.priority == fiber_priority::normal) [[likely]] {
            normal_.push(fiber);
            return;
        }
        ++special_;
        const bool is_high = fiber.priority == fiber_priority::high;
        took_high_ |= is_high;
        (is_high ? high_ : low_).push(fiber);
    }

    /// nullptr when empty.
    fiber_block* pop() noexcept { return special_ == 0 ? normal_.pop() : pop_by_priority(); }

    /// A guess at what pop() returns `ahead` calls from now, for prefetching; or nullptr.
    fiber_block* peek(std::uint32_t ahead) const noexcept { return normal_.peek(ahead); }

  private:
    fiber_block* pop_by_priority() noexcept {
        const bool others_wait = !normal_.empty() || !low_.empty();
        if (!high_.empty() && (high_in_a_row_ < high_in_a_row_max || !others_wait)) {
            ++high_in_a_row_;
            ++others_in_a_row_;
            return pop_special(high_);
        }
        high_in_a_row_ = 0;
        if (!low_.empty() && (others_in_a_row_ >= others_in_a_row_max || normal_.empty())) {
            others_in_a_row_ = 0;
            return pop_special(low_);
        }
        ++others_in_a_row_;
        return normal_.pop();
    }
    fiber_block* pop_special(fiber_ring& from) noexcept {
        --special_;
        return from.pop();
    }

    fiber_ring normal_, high_, low_;
    std::size_t special_ = 0;  // in high_ and low_
    bool took_high_ = false;
    std::uint32_t high_in_a_row_ = 0;
    std::uint32_t others_in_a_row_ = 0;
};

}  // namespace weft
