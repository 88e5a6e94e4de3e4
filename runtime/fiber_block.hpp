// The control block: what the scheduler knows of one fiber, apart from its stack.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <string_view>
#include <weft/runtime/atomic.hpp>
#include <weft/runtime/fiber_name.hpp>
#include <weft/runtime/fiber_state.hpp>
#include <weft/runtime/free_list.hpp>
#include <weft/runtime/joiner.hpp>
#include <weft/runtime/observed.hpp>
#include <weft/runtime/timing_wheel.hpp>

namespace weft {

class worker;
struct fiber_block;

/// Why a parked fiber should look around; bits of fiber_requests.
enum fiber_request : std::uint8_t {
    request_cancel = 1,     ///< Every parking call returns errc::cancelled from now on.
    request_end_input = 2,  ///< A read that would have to wait reports the end of the stream instead.
};

/// What has been asked of a fiber, tagged with its generation so that a late request never reaches a stranger
/// (R3).
class fiber_requests {
  public:
    void reset(std::uint32_t generation) noexcept {
        word_.store(std::uint64_t{generation} << 32, std::memory_order_relaxed);
    }
    /// False: the slot belongs to another generation. Release: pairs with the acquire in pending.
    bool add(std::uint32_t generation, std::uint8_t bits) noexcept {
        std::uint64_t now = word_.load(std::memory_order_relaxed);
        do {
            if (now >> 32 != generation) return false;
        } while (!word_.compare_exchange_weak(now, now | bits, std::memory_order_release,
                                              std::memory_order_relaxed));
        return true;
    }
    bool pending(fiber_request which) const noexcept { return word_.load(std::memory_order_acquire) & which; }

  private:
    atomic<std::uint64_t> word_{0};  // generation in the upper half, bits in the lower
};

/// The C++ runtime's per-thread exception state (Itanium C++ ABI 2.2.2): it belongs to the fiber, not to the
/// thread, because a fiber may park inside a catch block.
struct exception_globals {
    void* caught_exceptions = nullptr;
    unsigned int uncaught_exceptions = 0;
};

/// What is done with the object in fiber_block::storage.
struct fiber_code {
    void (*act)(fiber_block&);
    const char* function;        ///< For reports: which closure it is.
    void (*drop)(fiber_block&);  ///< Destroys a closure that is never run. nullptr for a result.
};

/// Which other workers a fiber may be moved to whenever it is woken (R6).
enum class fiber_affinity : std::uint8_t {
    worker,  ///< None: it runs on one worker from its first instruction on, so thread-locals behave as in a
             ///< thread.
    l3,      ///< Those whose CPUs share an L3 cache with the present one's.
    node,    ///< Those on the same NUMA node.
    any,     ///< All.
};

/// Which of a worker's runnable fibers goes first (run_queue.hpp).
enum class fiber_priority : std::uint8_t { normal, high, low };

/// How large a fiber's stack is; runtime_options has the sizes.
enum class stack_class : std::uint8_t {
    standard,  ///< 64 KiB, unless the runtime's options say otherwise.
    small,     ///< 16 KiB: for many fibers that call little.
    large,     ///< 256 KiB: for libraries that need much.
};

inline constexpr std::size_t stack_classes = 3;

/// What a fiber wants when it leaves its stack.
enum class leaving : std::uint8_t { to_run_again, to_park, for_good };

/// One slot of the arena's dense array. The first line is what a switch touches.
struct alignas(64) fiber_block {
    // Line 0: the hot path.
    fiber_word word;
    void* stack_pointer = nullptr;  ///< Where the saved context lies; valid exactly while nobody runs on it.
    atomic<fiber_block*> next{
        nullptr};                   ///< Link of the one list that holds the block (overflow, outbox, inbox).
    atomic<worker*> home{nullptr};  ///< Whose run queue it goes to when woken. Written by the home worker.
    exception_globals exceptions;
    std::uint32_t index = 0;                      ///< Own position in the array.
    observed<std::uint32_t> stack_slot{no_slot};  ///< no_slot until the first run.
    std::uint32_t wakes_seen = 0;  ///< As of fiber_word::look; meaningful exactly while it runs.
    std::uint8_t operations_in_flight =
        0;                      ///< The kernel may write to its stack: it must not leave its worker.
    std::uint8_t hops : 4 = 0;  ///< Deflections since it last ran.
    stack_class stack : 2 = stack_class::standard;  ///< Of the stack that it gets at its first run.
    leaving wants = leaving::to_run_again;          ///< Said before it leaves its stack.
    fiber_affinity affinity : 2 = fiber_affinity::worker;
    fiber_priority priority : 2 = fiber_priority::normal;
    bool moving : 1 = false;                  ///< Deflected, and not yet arrived at its new home.
    bool keeps_fp_control_words : 1 = false;  ///< Uses the _fp switchers.
    bool timer_fired : 1 = false;             ///< Set by the home worker when `deadline` has passed.

    // Line 1: waiting and ending.
    timer deadline;  ///< Linked in the home worker's wheel.
    fiber_requests requests;
    joiner_word joiner;
    observed<const char*> waits_for;   ///< For reports: what it parked for. Meaningful exactly while parked.
    observed<time_point> waits_since;  ///< Likewise.

    // Line 2 and 3: what the author gave, and what the sanitizers want.
    /// Runs the closure in `storage`. After the end: destroys the result there.
    observed<const fiber_code*> code;
    std::exception_ptr exception;  ///< Exactly when failed.
    void* sanitizer_context = nullptr;
    fiber_name name;
    static constexpr std::size_t storage_bytes = 80;
    alignas(16)
        std::array<std::byte, storage_bytes> storage;  ///< The closure, later the result; or a pointer to it.

    std::string_view name_view() const noexcept { return name.view(); }
    bool mobile() const noexcept { return affinity != fiber_affinity::worker; }
};

static_assert(offsetof(fiber_block, deadline) == 64, "what a switch touches has outgrown its cache line");
static_assert(offsetof(fiber_block, code) == 128);
static_assert(sizeof(fiber_block) == 256);

/// An intrusive first-in, first-out list through fiber_block::next. One thread at a time; unbounded by nature
/// (R7).
class fiber_fifo {
  public:
    bool empty() const noexcept { return head_ == nullptr; }
    std::size_t size() const noexcept { return size_; }

    void push(fiber_block& fiber) noexcept {
        fiber.next.store(nullptr, std::memory_order_relaxed);
        if (tail_ == nullptr)
            head_ = &fiber;
        else
            tail_->next.store(&fiber, std::memory_order_relaxed);
        tail_ = &fiber;
        ++size_;
    }

    /// nullptr when empty.
    fiber_block* pop() noexcept {
        fiber_block* first = head_;
        if (first == nullptr) return nullptr;
        head_ = first->next.load(std::memory_order_relaxed);
        if (head_ == nullptr) tail_ = nullptr;
        --size_;
        return first;
    }

  private:
    fiber_block* head_ = nullptr;
    fiber_block* tail_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace weft
