#include <weft/runtime/arena.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <string_view>

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
// What small runtimes may keep of free blocks: 1 MiB.
constexpr std::uint32_t free_blocks_kept = 4096;

std::array<std::size_t, stack_classes> stack_sizes(const arena_options& options) {
    return {options.stack_bytes, options.small_stack_bytes, options.large_stack_bytes};
}

// So many pages of blocks are given back at once: a worker does it, and its fibers wait meanwhile.
constexpr std::size_t give_back_pages_max = 4096;

void complain(std::size_t bytes, std::string_view what, const std::error_code& error) {
    log::error(
        "cannot reserve {} MiB of address space for the {} of all fibers: {}. Raise the limit (ulimit -v; "
        "vm.overcommit_memory other than 2), or ask for fewer fibers (runtime_options::fibers_max) or "
        "smaller stacks",
        bytes >> 20, what, error.message());
}

// A link of a free list is a plain word that is written before it is read, so zeroed memory is good for many.
using link = std::atomic<std::uint32_t>;
static_assert(link::is_always_lock_free && sizeof(link) == sizeof(std::uint32_t));

link* links_in(const reserved_memory& memory) {
    return reinterpret_cast<link*>(memory.data());
}

}  // namespace

result<reserved_memory> reserved_memory::reserve(std::size_t bytes) {
    // MAP_NORESERVE: far more than there is memory. Never together with MAP_HUGETLB, which would then succeed
    // without a huge page to back it and kill the process at the first touch; whoever wants huge pages asks
    // for them by madvise, which falls back to small ones.
    void* at =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return failure(system_error(errno));
    // A huge page would back a whole group of stacks at the first touch of one, and could not be given back
    // in part. Control blocks gain nothing from them that could be measured.
    madvise(at, bytes, MADV_NOHUGEPAGE);
    reserved_memory reserved;
    reserved.data_ = static_cast<std::byte*>(at);
    reserved.bytes_ = bytes;
    return reserved;
}

reserved_memory::~reserved_memory() {
    if (data_ != nullptr) munmap(data_, bytes_);
}

void stack_region::set_up(std::size_t stack_bytes, std::size_t guard_bytes,
                          std::uint32_t stacks_max) noexcept {
    guard_bytes_ = guard_bytes;
    slot_bytes_ = (stack_bytes + page_bytes() - 1) / page_bytes() * page_bytes() + guard_bytes;
    stacks_max_ = stacks_max;
}

result<void> stack_region::reserve() noexcept {
    if (reserved()) return {};
    const std::lock_guard lock(reserving_);
    if (reserved()) return {};
    const std::size_t bytes = stacks_max_ * slot_bytes_;
    auto memory = reserved_memory::reserve(bytes);
    auto links = reserved_memory::reserve(stacks_max_ * sizeof(link));
    if (!memory || !links) {
        const std::error_code error = memory ? links.error() : memory.error();
        if (!std::exchange(complained_, true)) complain(bytes, "stacks", error);
        return failure(error);
    }
    memory_ = std::move(*memory);
    links_ = std::move(*links);
    free_.emplace(links_in(links_));
    reserved_.store(true, std::memory_order_release);
    return {};
}

bool stack_region::take_fresh(std::uint32_t& number) noexcept {
    return fresh_.compare_exchange_strong(number, number + 1, std::memory_order_relaxed);
}

void stack_region::give_back(std::uint32_t number) noexcept {
    const stack_bounds stack = bounds(number);
    madvise(stack.bottom, stack.bytes, MADV_DONTNEED);
    free_->push(number);
}

void stack_region::trim(std::uint32_t number) noexcept {
    constexpr std::size_t kept_bytes = 16 * 1024;
    const stack_bounds stack = bounds(number);
    if (stack.bytes > kept_bytes) madvise(stack.bottom, stack.bytes - kept_bytes, MADV_DONTNEED);
}

void stack_region::measure(std::uint32_t number) noexcept {
    const stack_bounds stack = bounds(number);
    std::size_t known_bytes = deepest_bytes();
    const std::size_t pages = (stack.bytes - known_bytes) / page_bytes();  // deeper than any so far
    std::array<unsigned char, 64> resident;
    for (std::size_t begin = 0; begin < pages; begin += resident.size()) {
        const std::size_t count = std::min(pages - begin, resident.size());
        if (mincore(stack.bottom + begin * page_bytes(), count * page_bytes(), resident.data()) != 0) return;
        const auto deepest = std::find_if(resident.begin(), resident.begin() + count,
                                          [](unsigned char page) { return (page & 1) != 0; });
        if (deepest == resident.begin() + count) continue;
        const std::size_t page = begin + static_cast<std::size_t>(deepest - resident.begin());
        const std::size_t seen_bytes = stack.bytes - page * page_bytes();
        while (known_bytes < seen_bytes &&
               !deepest_bytes_.compare_exchange_weak(known_bytes, seen_bytes, std::memory_order_relaxed));
        return;
    }
}

arena::arena(const arena_options& options) noexcept
    : fibers_max_(options.fibers_max),
      cached_blocks_max_(
          std::min(arena_cache::blocks_max, options.fibers_max / 16 / std::max(options.caches, 1u))),
      blocks_kept_(free_blocks_kept + options.caches * static_cast<std::uint32_t>(cached_blocks_max_)),
      guard_install_(options.allow_guard_install),
      guards_(options.guards),
      mprotect_guards_max_(mprotect_guards_allowed()) {
    const std::size_t guard_bytes = options.guards == guard_level::none ? 0 : page_bytes();
    const auto sizes = stack_sizes(options);
    for (std::size_t n = 0; n < stack_classes; ++n)
        regions_[n].set_up(sizes[n], guard_bytes,
                           options.fibers_max + options.caches * arena_cache::stacks_max[n]);
}

result<std::unique_ptr<arena>> arena::create(const arena_options& options) {
    constexpr std::size_t stack_bytes_max = std::size_t{1} << 40;
    for (const std::size_t bytes :
         {options.stack_bytes, options.small_stack_bytes, options.large_stack_bytes})
        if (bytes == 0 || bytes > stack_bytes_max)
            return failure(std::make_error_code(std::errc::invalid_argument));
    const std::uint64_t stacks_max =
        options.fibers_max + std::uint64_t{options.caches} * arena_cache::stacks_max[0];
    if (options.fibers_max == 0 || stacks_max > std::uint64_t{1} << number_bits)
        return failure(std::make_error_code(std::errc::invalid_argument));

    std::unique_ptr<arena> made(new arena(options));
    const std::size_t blocks = options.fibers_max;
    const auto reserve = [](reserved_memory& where, std::size_t bytes) -> result<void> {
        auto reserved = reserved_memory::reserve(bytes);
        if (!reserved) {
            complain(bytes, "control blocks", reserved.error());
            return failure(reserved.error());
        }
        where = std::move(*reserved);
        return {};
    };
    WEFT_TRY(reserve(made->block_memory_, blocks * sizeof(fiber_block)));
    WEFT_TRY(reserve(made->block_links_, blocks * sizeof(link)));
    WEFT_TRY(reserve(made->block_generations_, blocks * sizeof(std::uint32_t)));
    WEFT_TRY(made->open(stack_class::standard));
    made->blocks_ = reinterpret_cast<fiber_block*>(made->block_memory_.data());
    made->generations_ = reinterpret_cast<std::uint32_t*>(made->block_generations_.data());
    made->free_blocks_.emplace(links_in(made->block_links_));

    // The probe is the first stack's own guard.
    const stack_region& standard = made->region(stack_class::standard);
    if (made->guard_install_ && standard.guard_bytes() != 0)
        made->guard_install_ = madvise(standard.guard(0), standard.guard_bytes(), MADV_GUARD_INSTALL) == 0;
    return made;
}

std::uint32_t arena::blocks_used() const noexcept {
    return fresh_blocks_.load(std::memory_order_relaxed);
}

// No constructor runs: a zeroed block is one in state initial, and somebody who walks the array may be
// looking at its word right now. What is not zero in an unused block is set here.
void arena::set_up_blank(fiber_block& fiber, std::uint32_t index) noexcept {
    fiber.index = index;
    fiber.stack_slot = no_slot;
    fiber.deadline.tick = timer::unlinked;
    fiber.deadline.due = no_deadline;
}

fiber_block* arena::allocate_block() noexcept {
    std::uint32_t freed = free_blocks_->pop();
    if (freed == no_slot) {
        std::uint32_t fresh = fresh_blocks_.load(std::memory_order_relaxed);
        while (fresh < fibers_max_) {
            if (!fresh_blocks_.compare_exchange_weak(fresh, fresh + 1, std::memory_order_relaxed)) continue;
            set_up_blank(blocks_[fresh], fresh);
            return &blocks_[fresh];
        }
        // The last hope: give_back_blocks() may be holding free blocks for the moment.
        const std::lock_guard wait(giving_back_);
        freed = free_blocks_->pop();
        if (freed == no_slot) return nullptr;
    }
    fiber_block& made = blocks_[freed];
    if (made.word.blank()) [[unlikely]] {
        set_up_blank(made, freed);
        made.word.begin_with(generations_[freed]);  // so that handles to its former fibers stay stale (R3)
        blank_blocks_.fetch_sub(1, std::memory_order_relaxed);
    }
    return &made;
}

std::uint32_t arena::blocks_in_excess() const noexcept {
    const std::uint32_t not_counted = blank_blocks_.load(std::memory_order_relaxed) + blocks_kept_;
    const std::uint32_t used = blocks_used();
    return used > not_counted ? used - not_counted : 0;
}

void arena::give_back_blocks() noexcept {
    const std::unique_lock lock(giving_back_, std::try_to_lock);
    if (!lock) return;
    // Nobody else writes to a block that is in no list: stale handles only read.
    const std::uint32_t first = free_blocks_->take_all();
    const std::uint32_t used = blocks_used();
    std::vector<bool> is_free(used);
    for (std::uint32_t index = first; index != no_slot; index = free_blocks_->after(index))
        is_free[index] = true;

    const std::size_t blocks_per_page = page_bytes() / sizeof(fiber_block);
    const std::size_t pages = used / blocks_per_page;
    std::vector<unsigned char> resident(pages);
    if (mincore(blocks_, pages * page_bytes(), resident.data()) != 0) resident.assign(pages, 0);
    const auto is_resident = [&](std::size_t index) {
        return index / blocks_per_page >= pages || (resident[index / blocks_per_page] & 1) != 0;
    };

    std::size_t run_begin = 0, run_end = 0;  // pages that are given back together
    const auto give_back_run = [&] {
        if (run_begin == run_end) return;
        madvise(block_memory_.data() + run_begin * page_bytes(), (run_end - run_begin) * page_bytes(),
                MADV_DONTNEED);
        std::fill(resident.begin() + run_begin, resident.begin() + run_end, 0);
    };
    std::size_t pages_left = give_back_pages_max;
    for (std::size_t page = 0; page < pages && pages_left != 0; ++page) {
        const auto begin = is_free.begin() + page * blocks_per_page;
        if (!is_resident(page * blocks_per_page) ||
            std::find(begin, begin + blocks_per_page, false) != begin + blocks_per_page)
            continue;
        for (std::size_t index = page * blocks_per_page; index < (page + 1) * blocks_per_page; ++index) {
            if (blocks_[index].word.blank()) continue;
            generations_[index] = blocks_[index].word.generation();
            blank_blocks_.fetch_add(1, std::memory_order_relaxed);
        }
        if (page != run_end) {
            give_back_run();
            run_begin = page;
        }
        run_end = page + 1;
        --pages_left;
    }
    give_back_run();

    // Back into the list: first out are those in memory, and of them the lowest, so that what is in use
    // gathers at the beginning of the array.
    for (const bool in_memory : {false, true})
        for (std::uint32_t index = used; index-- > 0;)
            if (is_free[index] && is_resident(index) == in_memory) free_blocks_->push(index);
}

result<void> arena::open(stack_class which) noexcept {
    return region(which).reserve();
}

std::uint32_t arena::allocate_stack(stack_class which) noexcept {
    stack_region& stacks = region(which);
    std::uint32_t number = stacks.take_used();
    if (number == no_slot) {
        number = stacks.next_fresh();
        // When another thread takes it first, the guard was placed twice, which is as good as once.
        do {
            WEFT_ASSERT(number < stacks.stacks_max(), "there are more stacks in use than fibers");
            if (!place_guard(stacks, number)) return no_slot;
        } while (!stacks.take_fresh(number));
    }
    return static_cast<std::uint32_t>(which) << number_bits | number;
}

// Sees to the guard below a stack as far as the level asks for one. Where the kernel refuses it, the level is
// lowered to a guard for each group. False: it refuses a group's too.
bool arena::place_guard(const stack_region& stacks, std::uint32_t number) noexcept {
    if (guards() == guard_level::per_stack) {
        const bool allowed =
            guard_install_ || mprotect_guards_.load(std::memory_order_relaxed) < mprotect_guards_max_;
        if (allowed && protect(stacks, number)) return true;
        if (guards_.exchange(guard_level::per_group, std::memory_order_relaxed) == guard_level::per_stack)
            log::warn("from now on one in {} stacks gets a guard page, because {}", guard_group,
                      guard_install_
                          ? "the kernel has no memory for more"
                          : "vm.max_map_count allows no more mappings (raise it, or run Linux 6.13 "
                            "or later)");
    }
    return guards() == guard_level::none || number % guard_group != 0 || protect(stacks, number);
}

bool arena::protect(const stack_region& stacks, std::uint32_t number) noexcept {
    if (guard_install_) return madvise(stacks.guard(number), stacks.guard_bytes(), MADV_GUARD_INSTALL) == 0;
    if (mprotect(stacks.guard(number), stacks.guard_bytes(), PROT_NONE) != 0) return false;
    mprotect_guards_.fetch_add(1, std::memory_order_relaxed);
    return true;
}

stack_use arena::use_of(stack_class which) noexcept {
    stack_region& stacks = region(which);
    if (!stacks.reserved()) return {.stack_bytes = stacks.stack_bytes()};
    const std::uint32_t used = stacks.next_fresh();
    for (std::uint32_t number = 0; number < used; ++number) stacks.measure(number);
    return {stacks.stack_bytes(), used, stacks.deepest_bytes()};
}

arena_cache::arena_cache(arena& from) : arena_(from) {
    for (std::size_t n = 0; n < stack_classes; ++n)
        stacks_[n] = {0, stacks_max[n], std::make_unique<std::uint32_t[]>(stacks_max[n])};
}

arena_cache::~arena_cache() {
    for (const kept_stacks& kept : stacks_)
        for (std::uint32_t n = 0; n < kept.count; ++n) arena_.free_stack(kept.slots[n]);
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

std::uint32_t arena_cache::allocate_stack(stack_class which) noexcept {
    kept_stacks& kept = stacks_[static_cast<std::size_t>(which)];
    if (kept.count == 0) return arena_.allocate_stack(which);
    return kept.slots[--kept.count];
}

void arena_cache::free_stack(std::uint32_t slot) noexcept {
    freed_since_trim_ = true;
    kept_stacks& kept = stacks_[static_cast<std::size_t>(arena::class_of(slot))];
    if (kept.count < kept.max) {
        kept.slots[kept.count++] = slot;
        return;
    }
    if (++unmeasured_ == measured_one_in) {
        unmeasured_ = 0;
        arena_.measure_stack(slot);
    }
    arena_.free_stack(slot);
}

void arena_cache::trim() noexcept {
    freed_since_trim_ = false;
    for (const kept_stacks& kept : stacks_)
        for (std::uint32_t n = 0; n < kept.count; ++n) {
            arena_.measure_stack(kept.slots[n]);
            arena_.trim_stack(kept.slots[n]);
        }
}

}  // namespace weft
