// From one worker to one other: a bounded queue of chunks of fibers, and the outbox in which a sender
// collects them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <weft/runtime/atomic.hpp>
#include <weft/runtime/fiber_block.hpp>

namespace weft {

/// What travels at once: up to 32 fibers, by index into the arena.
struct alignas(64) fiber_chunk {
    static constexpr std::uint32_t fibers_max = 32;
    std::uint32_t count = 0;
    std::array<std::uint32_t, fibers_max> fibers;
};

/// One producer thread, one consumer thread. Full: push says so, and the sender keeps the chunk in its
/// outbox.
template <class Chunk, std::uint32_t capacity>
class mailbox_of {
  public:
    static constexpr std::uint32_t chunks_max = capacity;

    /// The producer's. False when there is no room.
    bool push(const Chunk& chunk) noexcept {
        const std::uint32_t tail = tail_.load(std::memory_order_relaxed);
        if (tail - head_seen_ == chunks_max) {
            // Acquire: pairs with the release in pop; the consumer has copied that chunk out before it is
            // overwritten.
            head_seen_ = head_.load(std::memory_order_acquire);
            if (tail - head_seen_ == chunks_max) return false;
        }
        chunks_[tail % chunks_max] = chunk;
        // Release: pairs with the acquire in pop; the chunk and the fibers' saved contexts are visible before
        // it counts.
        tail_.store(tail + 1, std::memory_order_release);
        return true;
    }

    /// The consumer's. False when there is nothing.
    bool pop(Chunk& chunk) noexcept {
        const std::uint32_t head = head_.load(std::memory_order_relaxed);
        if (tail_.load(std::memory_order_acquire) == head) return false;
        chunk = chunks_[head % chunks_max];
        head_.store(head + 1, std::memory_order_release);
        return true;
    }

    /// The consumer's: nothing to pop. A hint: pop acquires. Part of the last look before a worker sleeps;
    /// ordered by the fences there.
    bool empty() const noexcept {
        return tail_.load(std::memory_order_relaxed) == head_.load(std::memory_order_relaxed);
    }

    /// Where every push is seen: for the CPU, which may watch it or be told that it was written.
    const void* line_of_pushes() const noexcept { return &tail_; }

  private:
    alignas(64) atomic<std::uint32_t> tail_{0};  // the producer's line
    std::uint32_t head_seen_ = 0;  // the producer's copy of head_, refreshed only when it seems full
    alignas(64) atomic<std::uint32_t> head_{0};  // the consumer's line
    std::array<Chunk, chunks_max> chunks_;
};

using mailbox = mailbox_of<fiber_chunk, 16>;

/// The sender's side of one mailbox: collects during a turn of its loop, then leaves as chunks (R8). What the
/// mailbox has no room for stays here, in order, until the next turn (R7).
class outbox {
  public:
    void push(fiber_block& fiber) noexcept { waiting_.push(fiber); }
    bool empty() const noexcept { return unsent_.count == 0 && waiting_.empty(); }
    std::size_t size() const noexcept { return unsent_.count + waiting_.size(); }

    /// Moves as much as there is room for. True when something was sent, so that the receiver may have to be
    /// woken.
    bool flush_to(mailbox& to) noexcept {
        bool sent = false;
        for (;;) {
            while (unsent_.count < fiber_chunk::fibers_max && !waiting_.empty())
                unsent_.fibers[unsent_.count++] = waiting_.pop()->index;
            if (unsent_.count == 0 || !to.push(unsent_)) return sent;
            unsent_.count = 0;
            sent = true;
        }
    }

  private:
    fiber_chunk unsent_;  // the oldest that wait
    fiber_fifo waiting_;
};

}  // namespace weft
