// Memory of all fibers of a runtime: a dense array of control blocks, and for each class of stacks a region
// of them with guard pages.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
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
    std::size_t stack_bytes = 64 * 1024;   ///< Usable bytes of a standard stack, rounded up to whole pages.
    std::size_t small_stack_bytes = 16 * 1024;
    std::size_t large_stack_bytes = 256 * 1024;
    guard_level guards = guard_level::per_stack;
    bool allow_guard_install = true;  ///< Use MADV_GUARD_INSTALL (Linux 6.13) where the kernel has it.
    unsigned caches = 0;              ///< How many arena_caches there will be at most.
};

/// The lowest byte and the size of what a fiber may use.
struct stack_bounds {
    std::byte* bottom;
    std::size_t bytes;
};

/// How far the stacks of one class have been used since the runtime began.
struct stack_use {
    std::size_t stack_bytes = 0;  ///< The usable size of each.
    /// The most that existed at once; the few that workers keep ready for the next fibers count too.
    std::uint32_t stacks_most = 0;
    /// How deep the deepest went, in whole pages. Stacks that are or were in use count; of those whose pages
    /// went back to the system at the end of a fiber, one in 16 was looked at.
    std::size_t deepest_bytes = 0;
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

/// The stacks of one class: a row of slots, each of them [guard | stack]. Any thread may call any function.
class stack_region {
  public:
    /// Before anything else, and once.
    void set_up(std::size_t stack_bytes, std::size_t guard_bytes, std::uint32_t stacks_max) noexcept;

    /// Reserves the address space, unless it has been done. Errors: the system's; tried again in the next
    /// call.
    [[nodiscard]] result<void> reserve() noexcept;
    /// Everything below needs that.
    bool reserved() const noexcept { return reserved_.load(std::memory_order_acquire); }

    stack_bounds bounds(std::uint32_t number) const noexcept {
        return {memory_.data() + number * slot_bytes_ + guard_bytes_, slot_bytes_ - guard_bytes_};
    }
    std::byte* guard(std::uint32_t number) const noexcept { return memory_.data() + number * slot_bytes_; }
    std::size_t guard_bytes() const noexcept { return guard_bytes_; }
    std::size_t stack_bytes() const noexcept { return slot_bytes_ - guard_bytes_; }
    std::uint32_t stacks_max() const noexcept { return stacks_max_; }

    /// The number of a free stack that was used before; no_slot when there is none.
    std::uint32_t take_used() noexcept { return free_->pop(); }
    /// The number of one that never was.
    std::uint32_t next_fresh() const noexcept { return fresh_.load(std::memory_order_relaxed); }
    /// False: somebody else was faster; `number` has the next one then.
    bool take_fresh(std::uint32_t& number) noexcept;
    void give_back(std::uint32_t number) noexcept;
    /// Gives back what lies deeper than nearly every fiber goes.
    void trim(std::uint32_t number) noexcept;

    /// Looks how deep that stack has been used: one system call, about 0.8 µs.
    void measure(std::uint32_t number) noexcept;
    /// The deepest that was measured.
    std::size_t deepest_bytes() const noexcept { return deepest_bytes_.load(std::memory_order_relaxed); }

  private:
    std::size_t guard_bytes_ = 0;
    std::size_t slot_bytes_ = 0;
    std::uint32_t stacks_max_ = 0;
    std::mutex reserving_;
    bool complained_ = false;  // under reserving_: the log has the reason already
    reserved_memory memory_, links_;
    std::optional<free_list> free_;
    std::atomic<bool> reserved_{false};  // release and acquire: who reads true sees the members above
    std::atomic<std::uint32_t> fresh_{0};
    std::atomic<std::size_t> deepest_bytes_{0};
};

/// Any thread may call any function. A worker goes through its own arena_cache instead where that is faster.
///
/// A stack is named by its *slot*: its class in the two upper bits, its number within the class in the
/// others.
class arena {
  public:
    /// Errors: the system's, when the address space of the blocks and the standard stacks cannot be reserved
    /// (RLIMIT_AS, vm.overcommit_memory = 2); the log says what to do then.
    [[nodiscard]] static result<std::unique_ptr<arena>> create(const arena_options& options);

    arena(const arena&) = delete;
    arena& operator=(const arena&) = delete;

    /// A block in state initial with a generation of its own; nullptr when fibers_max exist already.
    fiber_block* allocate_block() noexcept;
    /// The block is in state initial again (fiber_word::retire).
    void free_block(fiber_block& fiber) noexcept { free_blocks_->push(fiber.index); }

    fiber_block& block(std::uint32_t index) const noexcept { return blocks_[index]; }
    /// Blocks with a lower index exist; those from here on were never used. One that exists may be zeroed,
    /// which is state initial.
    std::uint32_t blocks_used() const noexcept;

    /// Blocks whose pages may be in memory, above what small runtimes and the workers' caches keep anyway:
    /// when this is not 0 while few fibers live, give_back_blocks() is worth calling. Free of cost.
    std::uint32_t blocks_in_excess() const noexcept;
    /// Gives pages back that hold nothing but free blocks, 16 MiB at most, unless another thread is doing
    /// that. Some milliseconds; 20 when there are a million blocks.
    void give_back_blocks() noexcept;

    /// Before the first allocate_stack() of a class: reserves its address space at the first call, and costs
    /// little from then on. The standard class always has it. Errors: as for create().
    [[nodiscard]] result<void> open(stack_class which) noexcept;

    /// The slot of a stack with its guard in place. There is a stack of each class for every block, whatever
    /// the caches hold. no_slot when the kernel refuses the guard, although only one in 32 stacks gets one by
    /// now.
    std::uint32_t allocate_stack(stack_class which = stack_class::standard) noexcept;
    /// Gives the stack's pages back to the system.
    void free_stack(std::uint32_t slot) noexcept { region_of(slot).give_back(number_of(slot)); }
    /// Gives back what lies deeper in an unused stack than nearly every fiber goes.
    void trim_stack(std::uint32_t slot) noexcept { region_of(slot).trim(number_of(slot)); }
    /// Notes how deep it has been used, for use_of().
    void measure_stack(std::uint32_t slot) noexcept { region_of(slot).measure(number_of(slot)); }

    stack_bounds bounds(std::uint32_t slot) const noexcept { return region_of(slot).bounds(number_of(slot)); }
    /// The address lies in the guard below that stack (or where one would be).
    bool is_guard(std::uint32_t slot, const void* address) const noexcept {
        const auto* byte = static_cast<const std::byte*>(address);
        return byte >= region_of(slot).guard(number_of(slot)) && byte < bounds(slot).bottom;
    }
    /// Where the stack begins, aligned to 16. Coloured: the tops of neighbours lie on different cache sets.
    void* top(std::uint32_t slot) const noexcept {
        const stack_bounds stack = bounds(slot);
        return stack.bottom + stack.bytes - slot * 7 % 16 * 64;
    }

    /// Looks at every stack that was ever used: a system call of 0.8 µs for each.
    stack_use use_of(stack_class which) noexcept;

    /// How many free blocks one cache may keep from the others. All of them together keep a sixteenth at
    /// most, so that about fibers_max fibers can exist wherever they are spawned.
    std::size_t cached_blocks_max() const noexcept { return cached_blocks_max_; }

    /// What guards there are in fact, after any fall-back.
    guard_level guards() const noexcept { return guards_.load(std::memory_order_relaxed); }

    static stack_class class_of(std::uint32_t slot) noexcept {
        return static_cast<stack_class>(slot >> number_bits);
    }

  private:
    explicit arena(const arena_options& options) noexcept;
    bool place_guard(const stack_region& stacks, std::uint32_t number) noexcept;
    bool protect(const stack_region& stacks, std::uint32_t number) noexcept;
    void set_up_blank(fiber_block& fiber, std::uint32_t index) noexcept;

    static constexpr int number_bits = 30;
    static std::uint32_t number_of(std::uint32_t slot) noexcept { return slot & ((1u << number_bits) - 1); }
    stack_region& region(stack_class which) noexcept { return regions_[static_cast<std::size_t>(which)]; }
    const stack_region& region(stack_class which) const noexcept {
        return regions_[static_cast<std::size_t>(which)];
    }
    stack_region& region_of(std::uint32_t slot) noexcept { return region(class_of(slot)); }
    const stack_region& region_of(std::uint32_t slot) const noexcept { return region(class_of(slot)); }

    std::uint32_t fibers_max_;
    std::size_t cached_blocks_max_;
    std::uint32_t blocks_kept_;
    bool guard_install_;  // the kernel has MADV_GUARD_INSTALL
    std::atomic<guard_level> guards_;
    std::uint32_t mprotect_guards_max_;  // from vm.max_map_count
    std::atomic<std::uint32_t> mprotect_guards_{0};

    std::array<stack_region, stack_classes> regions_;

    reserved_memory block_memory_, block_links_, block_generations_;
    fiber_block* blocks_ = nullptr;
    std::uint32_t* generations_ = nullptr;  // of the blocks whose pages were given back
    std::optional<free_list> free_blocks_;
    std::atomic<std::uint32_t> fresh_blocks_{0};  // the first index that was never handed out
    std::atomic<std::uint32_t> blank_blocks_{0};  // below that one, given back and not used again
    std::mutex giving_back_;
};

/// A worker's own few free blocks and stacks, last in, first out: no atomic operation, and warm in its
/// caches. Fibers that end without parking all run on the stack on top of this.
class arena_cache {
  public:
    explicit arena_cache(arena& from);
    arena_cache(const arena_cache&) = delete;
    arena_cache& operator=(const arena_cache&) = delete;
    ~arena_cache();

    fiber_block* allocate_block() noexcept;
    void free_block(fiber_block& fiber) noexcept;
    /// As for arena::allocate_stack.
    std::uint32_t allocate_stack(stack_class which = stack_class::standard) noexcept;
    void free_stack(std::uint32_t slot) noexcept;

    /// Stacks were given back since the last trim(), and may have grown deep.
    bool wants_trim() const noexcept { return freed_since_trim_; }
    /// Gives back what lies deeper in the stacks that are kept than nearly every fiber goes.
    void trim() noexcept;

    /// Stacks of each class keep their touched pages while they are in here; beyond that number the pages go
    /// back to the system.
    static constexpr std::array<std::uint32_t, stack_classes> stacks_max{256, 64, 16};
    static constexpr std::uint32_t blocks_max = 1024;

  private:
    // Of the stacks that are freed while the cache is full, one in so many is measured: that takes nearly as
    // long as giving its pages back.
    static constexpr std::uint32_t measured_one_in = 16;

    arena& arena_;
    struct kept_stacks {
        std::uint32_t count = 0;
        std::uint32_t max = 0;
        std::unique_ptr<std::uint32_t[]> slots;
    };
    std::array<kept_stacks, stack_classes> stacks_;
    std::uint32_t unmeasured_ = 0;
    fiber_block* blocks_ = nullptr;  // linked through fiber_block::next
    std::size_t blocks_count_ = 0;
    bool freed_since_trim_ = false;
};

}  // namespace weft
