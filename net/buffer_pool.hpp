// Memory for what a connection reads and writes while it is active: borrowed, and given back when it is idle.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include <weft/runtime/arena.hpp>
#include <weft/runtime/result.hpp>

namespace weft {

/// Blocks of one size, last in, first out, so that what is handed out next is in the caches still. One per
/// worker; only fibers of that worker touch it. A few blocks stay warm; the pages of the others go back to
/// the system.
class buffer_pool {
  public:
    static constexpr std::size_t block_bytes = 8192;
    /// Of those, what can be used: the beginnings of blocks are coloured, so that they lie on different cache
    /// sets.
    static constexpr std::size_t usable_bytes = block_bytes - 15 * 64;

    /// At most `blocks_max` blocks: address space, not memory.
    [[nodiscard]] static result<buffer_pool> create(std::size_t blocks_max);

    /// usable_bytes of memory; empty when blocks_max are in use.
    std::span<std::byte> acquire() noexcept;
    void release(std::span<std::byte> block) noexcept;

  private:
    static constexpr std::size_t warm_max = 256;

    reserved_memory memory_;
    std::size_t blocks_max_ = 0;
    std::size_t fresh_ = 0;            // blocks from here on were never handed out
    std::vector<std::uint32_t> warm_;  // free, with their pages
    std::vector<std::uint32_t> cold_;  // free, without
};

/// A queue of bytes: written at its end, read from its beginning. Its memory is a block of the pool, or the
/// heap once that is too small; it has none until something is put in.
class byte_buffer {
  public:
    explicit byte_buffer(buffer_pool& pool) noexcept : pool_(pool) {}
    byte_buffer(const byte_buffer&) = delete;
    byte_buffer& operator=(const byte_buffer&) = delete;
    ~byte_buffer() { release(); }

    bool empty() const noexcept { return begin_ == end_; }
    std::size_t size() const noexcept { return end_ - begin_; }
    std::span<const std::byte> bytes() const noexcept { return memory_.subspan(begin_, size()); }
    std::span<const char> chars() const noexcept {
        return {reinterpret_cast<const char*>(memory_.data()) + begin_, size()};
    }

    /// The free space after the last byte, at least `bytes` of it. What is in the buffer may move.
    std::span<std::byte> reserve(std::size_t bytes);
    /// The first `bytes` of the free space have been written.
    void commit(std::size_t bytes) noexcept { end_ += bytes; }
    void consume(std::size_t bytes) noexcept {
        begin_ += bytes;
        if (begin_ == end_) begin_ = end_ = 0;
    }
    void append(std::string_view text);

    /// Drops what is in it, and gives the memory back.
    void release() noexcept;

  private:
    buffer_pool& pool_;
    std::span<std::byte> memory_;
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
    bool on_heap_ = false;
};

}  // namespace weft
