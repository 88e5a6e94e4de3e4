#include <weft/runtime/arena.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <new>

#include <weft/runtime/log.hpp>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102  // Linux 6.13
#endif

namespace weft {
namespace {

std::size_t page_bytes() {
    static const auto bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    return bytes;
}

// Each mprotect guard splits a mapping in two. Half of what the process may have is left to everything else.
std::uint32_t mprotect_guards_allowed() {
    std::uint32_t mappings_max = 65530;
    std::ifstream("/proc/sys/vm/max_map_count") >> mappings_max;
    return mappings_max / 4;
}

constexpr std::uint32_t guard_group = 32;

}  // namespace

result<reserved_memory> reserved_memory::reserve(std::size_t bytes) {
    // MAP_NORESERVE: far more than there is memory. Never together with MAP_HUGETLB, which would then succeed
    // without a huge page to back it and kill the process at the first touch.
    void* at =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return failure(system_error(errno));
    // A huge page would back a whole group of stacks at the first touch of one.
    madvise(at, bytes, MADV_NOHUGEPAGE);
    reserved_memory reserved;
    reserved.data_ = static_cast<std::byte*>(at);
    reserved.bytes_ = bytes;
    return reserved;
}

reserved_memory::~reserved_memory() {
    if (data_ != nullptr) munmap(data_, bytes_);
}

arena::arena(const arena_options& options) noexcept
    : fibers_max_(options.fibers_max),
      stacks_max_(options.fibers_max + options.caches * arena_cache::stacks_max),
      cached_blocks_max_(
          std::min(arena_cache::blocks_max, options.fibers_max / 16 / std::max(options.caches, 1u))),
      guard_bytes_(options.guards == guard_level::none ? 0 : page_bytes()),
      slot_bytes_((options.stack_bytes + page_bytes() - 1) / page_bytes() * page_bytes() + guard_bytes_),
      guard_install_(options.allow_guard_install),
      guards_(options.guards),
      mprotect_guards_max_(mprotect_guards_allowed()) {}

result<std::unique_ptr<arena>> arena::create(const arena_options& options) {
    constexpr std::size_t stack_bytes_max = std::size_t{1} << 40;
    if (options.fibers_max == 0 || options.stack_bytes == 0 || options.stack_bytes > stack_bytes_max)
        return failure(std::make_error_code(std::errc::invalid_argument));
    std::unique_ptr<arena> made(new arena(options));
    const std::size_t slots = options.fibers_max;
    made->block_memory_ = WEFT_TRY(reserved_memory::reserve(slots * sizeof(fiber_block)));
    const std::size_t stacks = made->stacks_max_;
    made->stacks_ = WEFT_TRY(reserved_memory::reserve(stacks * made->slot_bytes_));
    made->block_links_ = WEFT_TRY(reserved_memory::reserve(slots * sizeof(std::atomic<std::uint32_t>)));
    made->stack_links_ = WEFT_TRY(reserved_memory::reserve(stacks * sizeof(std::atomic<std::uint32_t>)));

    // The probe is the first stack's own guard.
    if (made->guard_install_ && made->guard_bytes_ != 0)
        made->guard_install_ = madvise(made->stacks_.data(), made->guard_bytes_, MADV_GUARD_INSTALL) == 0;

    // A link is a plain word that is written before it is read.
    made->blocks_ = reinterpret_cast<fiber_block*>(made->block_memory_.data());
    using link = std::atomic<std::uint32_t>;
    static_assert(link::is_always_lock_free && sizeof(link) == sizeof(std::uint32_t));
    new (&made->free_blocks_) free_list(reinterpret_cast<link*>(made->block_links_.data()));
    new (&made->free_stacks_) free_list(reinterpret_cast<link*>(made->stack_links_.data()));
    return made;
}

std::uint32_t arena::blocks_used() const noexcept {
    return fresh_blocks_.load(std::memory_order_relaxed);
}

fiber_block* arena::allocate_block() noexcept {
    const std::uint32_t freed = free_blocks_.pop();
    if (freed != no_slot) return &blocks_[freed];
    std::uint32_t fresh = fresh_blocks_.load(std::memory_order_relaxed);
    do {
        if (fresh >= fibers_max_) return nullptr;
    } while (!fresh_blocks_.compare_exchange_weak(fresh, fresh + 1, std::memory_order_relaxed));
    // No constructor runs: a zeroed block is one in state initial, and somebody who walks the array may be
    // looking at its word right now. What is not zero in an unused block is set here.
    fiber_block& made = blocks_[fresh];
    made.index = fresh;
    made.stack_slot = no_slot;
    made.deadline.tick = timer::unlinked;
    made.deadline.due = no_deadline;
    return &made;
}

std::uint32_t arena::allocate_stack() noexcept {
    const std::uint32_t freed = free_stacks_.pop();
    if (freed != no_slot) return freed;
    const std::uint32_t fresh = fresh_stacks_.fetch_add(1, std::memory_order_relaxed);
    WEFT_ASSERT(fresh < stacks_max_, "there are more stacks in use than fibers");
    return place_guard(fresh) ? fresh : no_slot;
}

bool arena::place_guard(std::uint32_t slot) noexcept {
    const guard_level level = guards();
    if (level == guard_level::none || (level == guard_level::per_group && slot % guard_group != 0))
        return true;
    std::byte* guard = stacks_.data() + slot * slot_bytes_;
    if (guard_install_) return madvise(guard, guard_bytes_, MADV_GUARD_INSTALL) == 0;
    if (level == guard_level::per_stack &&
        mprotect_guards_.fetch_add(1, std::memory_order_relaxed) >= mprotect_guards_max_) {
        if (guards_.exchange(guard_level::per_group, std::memory_order_relaxed) == guard_level::per_stack)
            log::warn(
                "{} stacks have guard pages; from now on one in {} gets one, because vm.max_map_count allows "
                "no "
                "more mappings (raise it, or run Linux 6.13 or later)",
                mprotect_guards_max_, guard_group);
        if (slot % guard_group != 0) return true;
    }
    return mprotect(guard, guard_bytes_, PROT_NONE) == 0;
}

void arena::free_stack(std::uint32_t slot) noexcept {
    const stack_bounds stack = bounds(slot);
    madvise(stack.bottom, stack.bytes, MADV_DONTNEED);
    free_stacks_.push(slot);
}

void arena::trim_stack(std::uint32_t slot) noexcept {
    constexpr std::size_t kept_bytes = 16 * 1024;
    const stack_bounds stack = bounds(slot);
    if (stack.bytes > kept_bytes) madvise(stack.bottom, stack.bytes - kept_bytes, MADV_DONTNEED);
}

arena_cache::~arena_cache() {
    for (const std::uint32_t slot : stacks_) arena_.free_stack(slot);
    while (blocks_ != nullptr) {
        fiber_block* next = blocks_->next.load(std::memory_order_relaxed);
        arena_.free_block(*blocks_);
        blocks_ = next;
    }
}

fiber_block* arena_cache::allocate_block() noexcept {
    if (blocks_ == nullptr) return arena_.allocate_block();
    fiber_block* first = blocks_;
    blocks_ = first->next.load(std::memory_order_relaxed);
    --blocks_count_;
    return first;
}

void arena_cache::free_block(fiber_block& fiber) noexcept {
    if (blocks_count_ >= arena_.cached_blocks_max()) {
        arena_.free_block(fiber);
        return;
    }
    fiber.next.store(blocks_, std::memory_order_relaxed);
    blocks_ = &fiber;
    ++blocks_count_;
}

std::uint32_t arena_cache::allocate_stack() noexcept {
    if (stacks_.empty()) return arena_.allocate_stack();
    const std::uint32_t slot = stacks_.back();
    stacks_.pop_back();
    return slot;
}

void arena_cache::free_stack(std::uint32_t slot) noexcept {
    freed_since_trim_ = true;
    if (stacks_.size() == stacks_max)
        arena_.free_stack(slot);
    else
        stacks_.push_back(slot);
}

void arena_cache::trim() noexcept {
    freed_since_trim_ = false;
    for (const std::uint32_t slot : stacks_) arena_.trim_stack(slot);
}

}  // namespace weft
