// Memory of all fibers of a runtime: a dense array of control blocks, and a region of stacks with guard
// pages.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>
#include <weft/runtime/fiber_block.hpp>
#include <weft/runtime/free_list.hpp>
#include <weft/runtime/result.hpp>

namespace weft {

/// How a stack is fenced off from the one below it.
enum class guard_level : std::uint8_t {
    none = 0,       ///< No guards.
    per_group = 1,  ///< One guard page for 32 stacks.
    per_stack = 2,  ///< One guard page for each stack.
};

struct arena_options {
    std::uint32_t fibers_max = 1'000'000;  ///< How many fibers may exist at once. Address space, not memory.
    std::size_t stack_bytes = 64 * 1024;   ///< Usable bytes of each stack, rounded up to whole pages.
    guard_level guards = guard_level::per_stack;
    bool allow_guard_install = true;  ///< Use MADV_GUARD_INSTALL (Linux 6.13) where the kernel has it.
    unsigned caches = 0;              ///< How many arena_caches there will be at most.
};

/// The lowest byte and the size of what a fiber may use.
struct stack_bounds {
    std::byte* bottom;
    std::size_t bytes;
};

/// An anonymous mapping that is given back with its owner. Pages that are never touched cost nothing.
class reserved_memory {
  public:
    reserved_memory() = default;
    reserved_memory(reserved_memory&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
    reserved_memory& operator=(reserved_memory&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    ~reserved_memory();
    [[nodiscard]] static result<reserved_memory> reserve(std::size_t bytes);

    std::byte* data() const noexcept { return data_; }

  private:
    std::byte* data_ = nullptr;
    std::size_t bytes_ = 0;
};

/// Any thread may call any function. A worker goes through its own arena_cache instead where that is faster.
class arena {
  public:
    /// Errors: the system's, when the address space cannot be reserved (RLIMIT_AS, vm.overcommit_memory = 2).
    [[nodiscard]] static result<std::unique_ptr<arena>> create(const arena_options& options);

    arena(const arena&) = delete;
    arena& operator=(const arena&) = delete;

    /// A block in state initial with a generation of its own; nullptr when fibers_max exist already.
    fiber_block* allocate_block() noexcept;
    /// The block is in state initial again (fiber_word::retire).
    void free_block(fiber_block& fiber) noexcept { free_blocks_.push(fiber.index); }

    fiber_block& block(std::uint32_t index) const noexcept { return blocks_[index]; }
    /// Blocks with a lower index exist; those from here on were never used.
    std::uint32_t blocks_used() const noexcept;

    /// The number of a stack with its guard in place. There is a stack for every block, whatever the caches
    /// hold. no_slot only when the kernel refuses a guard page even of the sparse kind.
    std::uint32_t allocate_stack() noexcept;
    /// Gives the stack's pages back to the system.
    void free_stack(std::uint32_t slot) noexcept;
    /// Gives back what lies deeper in an unused stack than nearly every fiber goes.
    void trim_stack(std::uint32_t slot) noexcept;

    stack_bounds bounds(std::uint32_t slot) const noexcept {
        return {stacks_.data() + slot * slot_bytes_ + guard_bytes_, slot_bytes_ - guard_bytes_};
    }
    /// The address lies in the guard below that stack (or where one would be).
    bool is_guard(std::uint32_t slot, const void* address) const noexcept {
        const auto* byte = static_cast<const std::byte*>(address);
        const std::byte* bottom = bounds(slot).bottom;
        return byte < bottom && byte >= bottom - guard_bytes_;
    }
    /// Where the stack begins, aligned to 16. Coloured: the tops of neighbours lie on different cache sets.
    void* top(std::uint32_t slot) const noexcept {
        const stack_bounds stack = bounds(slot);
        return stack.bottom + stack.bytes - slot * 7 % 16 * 64;
    }

    /// How many free blocks one cache may keep from the others. All of them together keep a sixteenth at
    /// most, so that about fibers_max fibers can exist wherever they are spawned.
    std::size_t cached_blocks_max() const noexcept { return cached_blocks_max_; }

    /// What guards there are in fact, after any fall-back.
    guard_level guards() const noexcept { return guards_.load(std::memory_order_relaxed); }

  private:
    explicit arena(const arena_options& options) noexcept;
    bool place_guard(std::uint32_t slot) noexcept;

    std::uint32_t fibers_max_;
    std::uint32_t stacks_max_;
    std::size_t cached_blocks_max_;
    std::size_t guard_bytes_;
    std::size_t slot_bytes_;
    bool guard_install_;  // the kernel has MADV_GUARD_INSTALL
    std::atomic<guard_level> guards_;
    std::uint32_t mprotect_guards_max_;  // from vm.max_map_count
    std::atomic<std::uint32_t> mprotect_guards_{0};

    reserved_memory block_memory_, stacks_, block_links_, stack_links_;
    fiber_block* blocks_ = nullptr;
    free_list free_blocks_{nullptr};
    free_list free_stacks_{nullptr};
    std::atomic<std::uint32_t> fresh_blocks_{0};  // the first index that was never handed out
    std::atomic<std::uint32_t> fresh_stacks_{0};
};

/// A worker's own few free blocks and stacks, last in, first out: no atomic operation, and warm in its
/// caches. Fibers that end without parking all run on the stack on top of this.
class arena_cache {
  public:
    explicit arena_cache(arena& from) noexcept : arena_(from) {}
    arena_cache(const arena_cache&) = delete;
    arena_cache& operator=(const arena_cache&) = delete;
    ~arena_cache();

    fiber_block* allocate_block() noexcept;
    void free_block(fiber_block& fiber) noexcept;
    std::uint32_t allocate_stack() noexcept;
    void free_stack(std::uint32_t slot) noexcept;

    /// Stacks were given back since the last trim(), and may have grown deep.
    bool wants_trim() const noexcept { return freed_since_trim_; }
    /// Gives back what lies deeper in the stacks that are kept than nearly every fiber goes.
    void trim() noexcept;

    // Stacks keep their touched pages while they are in here; beyond that number the pages go back to the
    // system.
    static constexpr std::uint32_t stacks_max = 256;
    static constexpr std::uint32_t blocks_max = 1024;

  private:
    arena& arena_;
    std::vector<std::uint32_t> stacks_;
    fiber_block* blocks_ = nullptr;  // linked through fiber_block::next
    std::size_t blocks_count_ = 0;
    bool freed_since_trim_ = false;
};

}  // namespace weft
