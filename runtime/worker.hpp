// One thread of the mesh: it runs fibers, moves them to and from its neighbours, and turns its engine.
// Internal.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <weft/runtime/arena.hpp>
#include <weft/runtime/counter.hpp>
#include <weft/runtime/engine.hpp>
#include <weft/runtime/fiber_block.hpp>
#include <weft/runtime/inbox.hpp>
#include <weft/runtime/load.hpp>
#include <weft/runtime/mailbox.hpp>
#include <weft/runtime/neighbourhood.hpp>
#include <weft/runtime/observed.hpp>
#include <weft/runtime/run_queue.hpp>
#include <weft/runtime/sanitizer.hpp>
#include <weft/runtime/scheduler.hpp>
#include <weft/runtime/sleep_gate.hpp>
#include <weft/runtime/timing_wheel.hpp>
#include <weft/runtime/waiter.hpp>

namespace weft {

/// Counted by one worker, for itself; read by others as hints.
struct worker_counters {
    counter born;           ///< Fibers that fibers on this worker spawned.
    counter ended;          ///< Fibers that ended on this worker.
    counter runs;           ///< Times that a fiber was switched to.
    counter born_away;      ///< Of those born, sent to another worker to live there.
    counter deflected_out;  ///< Mobile fibers that were woken here and sent to a neighbour.
    counter deflected_in;   ///< Mobile fibers that came from a neighbour.
    counter further_hops;   ///< Of those sent, the ones that had come from elsewhere and not run here.
    counter outbox_peak;    ///< The most fibers that ever waited for one neighbour.
    counter wakes_sent;     ///< System calls made to wake another worker.
    counter sleeps;         ///< Times that it had nothing to do and waited in its engine.
};

/// By so much must a worker's load level be below another's to be given something of it.
inline constexpr std::uint32_t clearly_less = 10;

class worker {
  public:
    worker(scheduler& owner, unsigned index, std::optional<int> cpu);
    worker(const worker&) = delete;
    worker& operator=(const worker&) = delete;
    ~worker();

    /// Starts the thread, which makes its engine; returns when that has been done or has failed.
    [[nodiscard]] result<void> start(engine_factory make_engine, neighbourhood neighbours);
    /// Waits for the thread to end, which it does once the scheduler is closing and all fibers have ended.
    void join();

    /// The worker that runs the calling thread, or nullptr. The compiler must not remember the answer across
    /// a park, for a mobile fiber may come back on another thread; hence a function that it cannot look into.
    [[gnu::noipa]] static worker* current() noexcept;

    // Called on the worker's own thread.

    /// The time at which the present turn of the loop began: at most one turn old, and free.
    time_point now() const noexcept { return now_; }
    engine& io() noexcept { return *engine_; }
    timing_wheel& wheel() noexcept { return wheel_; }
    arena_cache& cache() noexcept { return cache_; }
    scheduler& owner() noexcept { return owner_; }
    unsigned index() const noexcept { return index_; }
    /// Where a fiber of that affinity may go.
    std::span<const unsigned> neighbours_within(fiber_affinity affinity) const noexcept;

    /// Leaves the running fiber; returns when it is run again.
    void leave(fiber_block& fiber, leaving wants) noexcept;
    /// The same for a fiber that has ended.
    [[noreturn]] void leave_for_good(fiber_block& fiber) noexcept;
    /// First thing on a fiber's own stack.
    void arrived() noexcept;

    /// Which of the neighbours is to be looked at first in this decision: another one each time.
    unsigned next_candidate() noexcept { return next_candidate_++; }
    /// Counts a new fiber that begins its life here.
    void adopt() noexcept { ++live_; }
    std::uint32_t live() const noexcept { return live_; }
    /// Queues a fiber that was woken and whose home is here; passes a mobile one on when this worker is
    /// overloaded.
    void make_runnable(fiber_block& fiber) noexcept;
    /// Sends a fiber that was woken and whose home is another worker to it, at the end of this turn.
    void send(fiber_block& fiber) noexcept;
    /// Fibers on their way to that worker that it does not know of yet.
    std::size_t unsent_to(unsigned index) const noexcept { return outboxes_[index].size(); }

    // Any thread.

    fiber_block* running() const noexcept { return running_; }
    /// A hint.
    bool sleeping() const noexcept { return gate_.sleeping(); }
    /// As the kernel counts them. Known when start() has returned.
    pid_t thread_id() const noexcept { return thread_id_; }
    inbox& in() noexcept { return inbox_; }
    /// After something was published for this worker: wakes it if it sleeps. True if that took a system call.
    bool wake_if_sleeping() noexcept;
    const load_meter& load() const noexcept { return load_; }
    worker_counters& counters() noexcept { return counters_; }
    const engine& io() const noexcept { return *engine_; }

  private:
    void run() noexcept;
    void run_fibers() noexcept;
    void run_one(fiber_block& fiber) noexcept;
    bool bind_stack(fiber_block& fiber) noexcept;
    void settle(fiber_block& fiber) noexcept;
    void end(fiber_block& fiber) noexcept;
    void end_without_stack(fiber_block& fiber) noexcept;
    void tell_of_end(fiber_block& fiber) noexcept;
    void send_outboxes() noexcept;
    void receive() noexcept;
    void arrive(fiber_block& fiber) noexcept;
    bool inputs_empty() const noexcept;
    void expire_deadlines() noexcept;
    void wait_for_work() noexcept;
    bool wants_trim() const noexcept;
    void trim() noexcept;
    bool spin_for_work() noexcept;
    bool deflect(fiber_block& fiber) noexcept;
    void cancel_fibers_at_home() noexcept;

    scheduler& owner_;
    const unsigned index_;
    const std::optional<int> cpu_;
    std::thread thread_;
    pid_t thread_id_ = 0;
    std::unique_ptr<engine> engine_;
    std::vector<unsigned> neighbours_;  // the other workers, nearest first
    std::size_t neighbours_in_l3_ = 0;
    std::size_t neighbours_in_node_ = 0;
    std::size_t neighbours_in_mesh_ = 0;
    unsigned next_candidate_ = 0;  // which of them is looked at first

    // The hot part of the loop.
    observed<fiber_block*> running_;
    void* loop_stack_pointer_ = nullptr;
    exception_globals* thread_exceptions_ = nullptr;
    time_point now_;
    run_queue queue_;
    int short_turns_left_ = 0;
    std::vector<outbox> outboxes_;  // by receiving worker
    bool outboxes_used_ = false;
    timing_wheel wheel_;
    arena_cache cache_;
    time_point next_trim_{};  // earliest; of the stacks in cache_
    std::uint32_t live_ = 0;  // fibers whose home is here and that have not ended
    bool cancelled_fibers_ = false;
    bool spins_ = false;        // there are CPUs enough for every worker
    unsigned spin_credit_ = 0;  // how often spinning has paid lately
    // By the CPU, while this worker spins: of the mailbox that was used last, for from there the next chunk
    // is likeliest to come.
    const void* watched_line_ = &inbox_;

    // What the sanitizers know of the loop's own stack.
    sanitizer::left_context loop_left_;
    void* loop_context_ = nullptr;
    const void* loop_stack_bottom_ = nullptr;
    std::size_t loop_stack_bytes_ = 0;

    worker_counters counters_;
    load_meter load_;
    inbox inbox_;
    sleep_gate gate_;
};

/// Asks a fiber that is live to look around. Bits of fiber_request.
void request(fiber_block& fiber, std::uint32_t generation, std::uint8_t bits) noexcept;

/// The running fiber; a programming error outside of one.
fiber_block& current_fiber() noexcept;

/// Parks the running fiber until somebody wakes it. May return for no reason at all: callers look at their
/// condition again (R2).
void park() noexcept;

/// The running fiber was asked to stop, or its runtime is closing.
bool cancel_requested() noexcept;

/// Lets others run; returns when the fiber's turn has come again.
void yield() noexcept;

/// Where a fiber's stack begins: runs its closure, ends it.
void fiber_main(void* block);

}  // namespace weft
