// The mesh: what the workers of one runtime share, and how a fiber finds its way to one of them. Internal.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <vector>

#include <weft/runtime/arena.hpp>
#include <weft/runtime/clock.hpp>
#include <weft/runtime/engine.hpp>
#include <weft/runtime/fiber.hpp>
#include <weft/runtime/hardware.hpp>
#include <weft/runtime/mailbox.hpp>
#include <weft/runtime/registry.hpp>
#include <weft/runtime/topology.hpp>

namespace weft {

class watchdog;
class worker;
struct runtime_options;

class scheduler {
  public:
    [[nodiscard]] static result<std::unique_ptr<scheduler>> create(const runtime_options& options);
    scheduler(const scheduler&) = delete;
    scheduler& operator=(const scheduler&) = delete;
    /// Asks every fiber that is left to stop, runs them to their end, and joins the workers.
    ~scheduler();

    /// Wakes a fiber that is known to be live, because what it waits for has just happened. Any thread.
    static void wake(fiber_block& fiber) noexcept;
    /// The engine's: the operation, which has its result, has left the kernel. Wakes its fiber.
    static void complete(operation& finished) noexcept;
    /// Wakes the fiber of that generation, if it is live still. Any thread.
    static void wake_if_live(fiber_block& fiber, std::uint32_t generation) noexcept;

    /// A block for a new fiber, or nullptr when fibers_max exist. Any thread.
    fiber_block* allocate() noexcept;
    /// Queues a new fiber whose block is filled in. Any thread. `fixed_worker` counts for placement::fixed
    /// only.
    void launch(fiber_block& fiber, placement where, unsigned fixed_worker) noexcept;
    /// Frees the block of a fiber that has ended, or was never launched, with what it holds. Any thread.
    void discard(fiber_block& fiber) noexcept;

    unsigned worker_count() const noexcept { return static_cast<unsigned>(workers_.size()); }
    worker& worker_at(unsigned index) const noexcept { return *workers_[index]; }
    mailbox& mailbox_between(unsigned from, unsigned to) noexcept {
        return mailboxes_[from * worker_count() + to];
    }
    /// Of a few of `candidates`, from `first` on, the one with the lowest load; nullptr when there are none.
    /// Any thread.
    worker* least_loaded(std::span<const unsigned> candidates, unsigned first) const noexcept;
    arena& fibers() noexcept { return *arena_; }
    const clock& time() const noexcept { return clock_; }
    /// nullptr when there is none.
    watchdog* watcher() const noexcept { return watchdog_.get(); }
    const hardware_help& hardware() const noexcept { return hardware_; }

    /// Set once, when the runtime is being destroyed: whatever parks from now on is asked to stop.
    bool closing() const noexcept { return closing_.load(std::memory_order_acquire); }
    /// How many fibers there are that have not ended: never too few. Reads what every worker writes.
    std::uint64_t live() const noexcept;
    /// No fiber is live and none is on its way. Exact only once nobody but fibers makes fibers any more.
    bool all_ended() const noexcept { return live() == 0; }
    std::uint64_t born_outside() const noexcept { return born_outside_.load(std::memory_order_relaxed); }
    std::uint64_t failed() const noexcept { return failed_.load(std::memory_order_relaxed); }

    std::stop_source stop;      ///< Graceful: servers stop accepting and drain.
    std::stop_source stop_now;  ///< Servers stop waiting for what drains.

  private:
    explicit scheduler(const clock& time) noexcept;
    static void enqueue(fiber_block& fiber, worker* here) noexcept;
    void report_uncollected(const fiber_block& fiber) noexcept;
    worker& choose(worker& home, placement where, unsigned first_candidate, bool on_this_worker) noexcept;

    const clock& clock_;
    hardware_help hardware_;
    std::unique_ptr<arena> arena_;
    std::vector<std::unique_ptr<worker>> workers_;
    std::vector<mailbox> mailboxes_;  // from × to
    std::atomic<bool> closing_{false};
    std::atomic<std::uint64_t> born_outside_{0};  // by threads that are not workers
    std::atomic<unsigned> next_worker_{0};        // where the next of those goes
    std::atomic<std::uint64_t> failed_{0};        // ended with an exception that nobody collected
    std::optional<registration> registered_;
    std::unique_ptr<watchdog> watchdog_;  // made before the workers, watches while they are there
};

}  // namespace weft
