// Fibers: spawning them, joining them, and what a fiber can ask of and do to itself.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>

#include <weft/runtime/clock.hpp>
#include <weft/runtime/fiber_block.hpp>
#include <weft/runtime/result.hpp>

namespace weft {

class runtime;
class scheduler;

/// Names one fiber for as long as it lives; afterwards it names none (R3), also when its slot is used again.
struct fiber_id {
    std::uint32_t index = no_slot;
    std::uint32_t generation = 0;
    friend bool operator==(const fiber_id&, const fiber_id&) = default;
};

/// Where a fiber begins its life.
enum class placement : std::uint8_t {
    near,    ///< On the worker that spawns it, unless that one is overloaded and a neighbour is less so.
    spread,  ///< Where few fibers live: for long-lived ones, such as connections.
    fixed,   ///< On the worker that `worker` names.
};

struct spawn_options {
    std::string_view name = {};  ///< For logs and debuggers; its first 23 bytes are kept.
    placement where = placement::near;
    unsigned worker = 0;  ///< For placement::fixed; smaller than the number of workers.
    fiber_affinity affinity = fiber_affinity::worker;  ///< Where it may be moved to when it is woken.
    fiber_priority priority = fiber_priority::normal;  ///< Which of a worker's runnable fibers goes first.
    /// How large its stack is. The first spawn with a class other than standard reserves that class's address
    /// space, and fails with the system's error when it is refused.
    stack_class stack = stack_class::standard;
    /// The rounding mode and the exception masks of floating point travel with the fiber. Needed only by code
    /// that changes them and parks before it changes them back.
    bool keep_fp_control_words = false;
};

namespace detail {

/// Makes a block with everything but its closure; nullptr when there can be none.
fiber_block* prepare(scheduler& owner, const spawn_options& options, bool with_handle) noexcept;
/// Why prepare() has just returned nullptr.
[[gnu::cold]] std::error_code why_no_fiber(scheduler& owner, const spawn_options& options) noexcept;
void launch(scheduler& owner, fiber_block& fiber, const spawn_options& options) noexcept;
scheduler& current_scheduler() noexcept;
scheduler& scheduler_of(runtime& runtime) noexcept;
void discard(fiber_block& fiber) noexcept;
void detach(fiber_block& fiber) noexcept;
void wait_for_end(fiber_block& fiber) noexcept;
void cancel(fiber_block& fiber, std::uint32_t generation) noexcept;

/// A value in a block's storage, or on the heap when it is too large for it.
template <class T>
struct stored {
    static constexpr bool fits = sizeof(T) <= fiber_block::storage_bytes && alignof(T) <= 16;

    template <class... Arguments>
    static void construct(fiber_block& fiber, Arguments&&... arguments) {
        if constexpr (fits)
            new (fiber.storage.data()) T(std::forward<Arguments>(arguments)...);
        else
            new (fiber.storage.data()) T*(new T(std::forward<Arguments>(arguments)...));
    }
    static T& get(fiber_block& fiber) noexcept {
        if constexpr (fits)
            return *std::launder(reinterpret_cast<T*>(fiber.storage.data()));
        else
            return **std::launder(reinterpret_cast<T**>(fiber.storage.data()));
    }
    static void destroy(fiber_block& fiber) noexcept {
        if constexpr (fits)
            get(fiber).~T();
        else
            delete &get(fiber);
    }
    static T take(fiber_block& fiber) {
        struct destroy_at_exit {
            fiber_block& fiber;
            ~destroy_at_exit() { destroy(fiber); }
        } after{fiber};
        return std::move(get(fiber));
    }
};

/// The first function of a fiber: moves the closure to the fiber's own stack, runs it, and leaves its result,
/// or the exception that it let out, in the block. Nothing is thrown out of it.
template <class Function, class Result>
void run_closure(fiber_block& fiber) noexcept {
    const fiber_code* after_the_end = nullptr;
    try {
        Function function = stored<Function>::take(fiber);
        if constexpr (std::is_void_v<Result>) {
            std::move(function)();
        } else {
            stored<Result>::construct(fiber, std::move(function)());
            static constexpr fiber_code destroy{stored<Result>::destroy, "", nullptr};
            after_the_end = &destroy;
        }
    } catch (...) {
        fiber.exception = std::current_exception();
    }
    fiber.code = after_the_end;
}

/// A name that a person recognises, made by the compiler: `... [with Function = main()::<lambda()>]`.
template <class Function>
constexpr const char* name_of() noexcept {
    return __PRETTY_FUNCTION__;
}

template <class Function>
using result_of = std::invoke_result_t<std::decay_t<Function>>;

/// The common part of every way to spawn.
template <class Function>
fiber_block* spawn(scheduler& owner, Function&& function, const spawn_options& options, bool with_handle) {
    using closure = std::decay_t<Function>;
    fiber_block* made = prepare(owner, options, with_handle);
    if (made == nullptr) return nullptr;
    try {
        stored<closure>::construct(*made, std::forward<Function>(function));
    } catch (...) {
        discard(*made);
        throw;
    }
    static constexpr fiber_code code{run_closure<closure, result_of<Function>>, name_of<closure>(),
                                     stored<closure>::destroy};
    made->code = &code;
    launch(owner, *made, options);
    return made;
}

}  // namespace detail

/// The owner of a fiber whose function returns R. Movable; used by one thread at a time, which may be a fiber
/// of any runtime or a thread of the host. It must not outlive the fiber's runtime.
template <class R>
class [[nodiscard]] fiber {
  public:
    fiber() = default;
    fiber(fiber&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
    fiber& operator=(fiber&& other) noexcept {
        fiber(std::move(other)).swap(*this);
        return *this;
    }
    /// Does not wait: a fiber that was neither joined nor detached is asked to stop.
    ~fiber() {
        if (!joinable()) return;
        cancel();
        detach();
    }

    bool joinable() const noexcept { return block_ != nullptr; }
    fiber_id id() const noexcept { return {block_->index, block_->word.generation()}; }

    /// Waits for the end: parks a fiber, blocks a thread. Returns what the function returned, or throws what
    /// it let out. Once only.
    R join() {
        WEFT_ASSERT(joinable(), "a fiber can be joined once, and not after it was detached");
        detail::wait_for_end(*block_);
        struct discard_at_exit {
            fiber_block* block;
            ~discard_at_exit() { detail::discard(*block); }
        } after{std::exchange(block_, nullptr)};
        if (after.block->exception) std::rethrow_exception(std::exchange(after.block->exception, nullptr));
        if constexpr (!std::is_void_v<R>) {
            after.block->code = nullptr;
            return detail::stored<R>::take(*after.block);
        }
    }

    /// Lets it run on its own; its result is dropped, and an exception is logged.
    void detach() noexcept { detail::detach(*std::exchange(block_, nullptr)); }

    /// Every call in which it parks returns errc::cancelled from now on. Does not wait.
    void cancel() noexcept { detail::cancel(*block_, block_->word.generation()); }

    void swap(fiber& other) noexcept { std::swap(block_, other.block_); }

  private:
    template <class Function>
    friend result<fiber<detail::result_of<Function>>> spawn_on(scheduler&, Function&&, const spawn_options&);
    explicit fiber(fiber_block& block) noexcept : block_(&block) {}

    fiber_block* block_ = nullptr;
};

template <class Function>
[[nodiscard]] result<fiber<detail::result_of<Function>>> spawn_on(scheduler& owner, Function&& function,
                                                                  const spawn_options& options) {
    fiber_block* made = detail::spawn(owner, std::forward<Function>(function), options, true);
    if (made == nullptr) return failure(detail::why_no_fiber(owner, options));
    return fiber<detail::result_of<Function>>(*made);
}

/// Makes a fiber that runs `function()`, in the runtime of the fiber that calls. Does not park.
/// Errors: errc::too_many_fibers; the system's, when there is no address space for its class of stacks. A
/// fiber whose stack cannot be guarded when it is to run first does not run: it ends with a std::system_error
/// (std::errc::not_enough_memory).
template <class Function>
[[nodiscard]] auto spawn(Function&& function, const spawn_options& options = {}) {
    return spawn_on(detail::current_scheduler(), std::forward<Function>(function), options);
}

/// The same without a handle: nobody waits for it, and an exception that it lets out is logged.
template <class Function>
[[nodiscard]] result<void> spawn_detached(Function&& function, const spawn_options& options = {}) {
    scheduler& owner = detail::current_scheduler();
    if (detail::spawn(owner, std::forward<Function>(function), options, false) == nullptr)
        return failure(detail::why_no_fiber(owner, options));
    return {};
}

/// Asks a fiber of the calling fiber's runtime to stop, by name; errc::no_such_fiber when it has ended.
[[nodiscard]] result<void> cancel(fiber_id id) noexcept;

/// What a fiber does to itself. All of these must be called by a fiber.
namespace this_fiber {

fiber_id id() noexcept;
/// Valid until the fiber ends.
std::string_view name() noexcept;
/// The runtime's clock as of this turn of the worker's loop: free, and a little old.
time_point now() noexcept;
/// Lets others run first.
void yield() noexcept;
/// Parks for at least so long, and up to a tick (65.5 µs) longer. Errors: errc::cancelled.
result<void> sleep_for(duration time) noexcept;
result<void> sleep_until(time_point when) noexcept;
/// It was asked to stop, or its runtime is closing.
bool cancelled() noexcept;

}  // namespace this_fiber

}  // namespace weft
