// Notices fibers that keep their worker for too long, and lists all fibers when a signal asks for that.
// Internal.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include <weft/runtime/clock.hpp>
#include <weft/runtime/result.hpp>

namespace weft {

class scheduler;
class worker;
struct fiber_block;

/// Judges one worker by looking at it from time to time.
class stall_detector {
  public:
    /// What a worker shows of itself.
    struct sight {
        std::uint64_t runs = 0;                ///< How often it has switched to a fiber.
        const fiber_block* running = nullptr;  ///< nullptr: none, it does something else or sleeps.
        friend bool operator==(const sight&, const sight&) = default;
    };

    explicit stall_detector(duration limit) noexcept : limit_(limit) {}

    /// A look. True: the same run of a fiber as at the last one, so that judge() should be asked.
    bool repeats(const sight& seen) noexcept {
        if (seen.running != nullptr && seen == seen_) return true;
        seen_ = seen;
        began_ = no_deadline;
        reported_ = false;
        return false;
    }

    /// `worker_time` is a clock that stands still while the worker waits for a CPU: that is the machine's
    /// doing and not the fiber's. True, once for each run: it has been going on for the limit, counted from
    /// the first call on.
    bool judge(time_point worker_time) noexcept {
        if (began_ == no_deadline) began_ = worker_time;
        if (reported_ || worker_time - began_ < limit_) return false;
        return reported_ = true;
    }

  private:
    const duration limit_;
    sight seen_;
    time_point began_ = no_deadline;
    bool reported_ = false;
};

struct watchdog_options {
    duration stuck_after{};         ///< 0: does not look.
    int list_fibers_on_signal = 0;  ///< 0: none.
};

/// A thread that looks at a runtime's workers. While all of them sleep it does so too: only once a second
/// does it look up, should it have missed that a worker woke.
class watchdog {
  public:
    /// nullptr when the options ask for nothing. Errors: the system's.
    [[nodiscard]] static result<std::unique_ptr<watchdog>> create(const watchdog_options& options);
    watchdog(const watchdog&) = delete;
    watchdog& operator=(const watchdog&) = delete;
    ~watchdog();

    /// Starts the thread. The workers have been started, and are there until this ends.
    void watch(scheduler& watched);

    /// A worker's, when it has slept: the watchdog may have gone to sleep over that. Usually one load. There
    /// is no fence: should the two miss each other, the watchdog looks up by itself a second later.
    void worker_woke() noexcept {
        if (dozing_.load(std::memory_order_relaxed) && dozing_.exchange(false, std::memory_order_relaxed))
            stir();
    }

  private:
    struct watched_worker {
        worker* is;
        stall_detector detector;
    };

    explicit watchdog(const watchdog_options& options) noexcept : options_(options) {}
    void run() noexcept;
    void look();
    void report(worker& stuck, const stall_detector::sight& seen);
    int until_next_look_ms() noexcept;
    bool quiet() noexcept;
    void stir() noexcept;

    const watchdog_options options_;
    scheduler* watched_ = nullptr;
    std::vector<watched_worker> workers_;
    std::uint64_t runs_seen_ = 0;
    time_point
        active_at_{};  // the last look at which a worker did something, or had done so since the one before
    std::atomic<bool> dozing_{false};
    std::atomic<bool> stopping_{false};
    int stirred_ = -1;        // an eventfd
    int list_requests_ = -1;  // another one, the process's
    std::thread thread_;
};

}  // namespace weft
