// The memory that the model checker gives to the threads under test: C++20's relaxed, release and acquire
// accesses, read-modify-writes and sequentially consistent fences, as a machine that takes one step at a
// time.
//
// Each atomic keeps all its stores in modification order. A thread has a view: of each atomic the oldest
// store that it may still read, and how much of the other threads' past has happened before its present. A
// release attaches the view to the store, an acquire that reads the store takes it over. A load may read any
// store that the view allows, and a store may go anywhere behind what the view has seen. A fence joins the
// thread's view of the atomics with that of all fences before it.
//
// This is the view machine that the promising semantics are built on (Kang et al., "A promising semantics for
// relaxed-memory concurrency", POPL 2017), without promises: a load never reads what is stored later in the
// program of its own making. A few outcomes that C++ allows on paper, and load buffering on ARM, are
// therefore not seen. There are no sequentially consistent accesses other than fences; weft has none.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

namespace model {

/// The threads under test, and number 0, which sets up and looks at the end.
inline constexpr unsigned threads_max = 5;
/// Atomics that may be made in one execution.
inline constexpr unsigned locations_max = 32;
/// Stores to one atomic in one execution.
inline constexpr unsigned stores_max = 255;

struct view {
    std::array<std::uint8_t, locations_max> seen{};  ///< By atomic: the oldest store that may be read.
    std::array<std::uint16_t, threads_max> past{};   ///< By thread: up to where it has happened before.

    void join_seen(const view& other) noexcept {
        for (unsigned n = 0; n < locations_max; ++n) seen[n] = std::max(seen[n], other.seen[n]);
    }
    void join(const view& other) noexcept {
        join_seen(other);
        for (unsigned n = 0; n < threads_max; ++n) past[n] = std::max(past[n], other.past[n]);
    }
};

/// When each thread last did something to a plain object: a race is what has not happened before.
struct access_record {
    std::array<std::uint16_t, threads_max> reads{};
    std::array<std::uint16_t, threads_max> writes{};
};

class memory {
  public:
    /// Begins an execution: no atomics, and all threads at their beginning.
    void reset() noexcept;
    /// The thread begins, and knows what thread 0 knows.
    void start(unsigned thread) noexcept {
        threads_[thread].now = threads_[0].now;
        tick(thread);
    }
    /// Thread 0 knows all that the others did.
    void join_all(unsigned threads) noexcept;

    /// locations_max have been made.
    bool full() const noexcept { return locations_count_ == locations_max; }
    unsigned create(unsigned thread, const void* address, std::uint64_t value);
    /// Is it an atomic that has been made, and not destroyed?
    bool lives(unsigned location, const void* address) const noexcept {
        return location < locations_count_ && locations_[location].alive &&
               locations_[location].address == address;
    }
    /// The number of the living atomic there, or locations_max.
    unsigned find(const void* address) const noexcept;
    /// False: somebody else may use it at that moment.
    [[nodiscard]] bool destroy(unsigned thread, unsigned location) noexcept;
    /// False: the thread has not been told that the atomic has been made.
    [[nodiscard]] bool use(unsigned thread, unsigned location) noexcept;

    unsigned stores(unsigned location) const noexcept {
        return static_cast<unsigned>(locations_[location].history.size());
    }
    /// The oldest store that the thread may read.
    unsigned oldest(unsigned thread, unsigned location) const noexcept {
        return threads_[thread].now.seen[location];
    }
    std::uint64_t value(unsigned location, unsigned store) const noexcept {
        return locations_[location].history[store].value;
    }
    /// May another store come directly behind that one? Not in front of a read-modify-write that read it.
    bool may_follow(unsigned location, unsigned store) const noexcept {
        return store + 1 == stores(location) || !locations_[location].history[store + 1].modifies;
    }

    void read(unsigned thread, unsigned location, unsigned store, std::memory_order order) noexcept;
    /// Behind `previous` in modification order.
    void write(unsigned thread, unsigned location, unsigned previous, std::uint64_t value,
               std::memory_order order);
    /// Replaces `previous` by a value that depends on it: acquires and releases as `order` says, and carries
    /// on what `previous` released.
    void modify(unsigned thread, unsigned location, unsigned previous, std::uint64_t value,
                std::memory_order order);
    void fence(unsigned thread) noexcept;
    /// The next read of the atomic finds a newer store than the thread has seen, which must exist.
    void skip_oldest(unsigned thread, unsigned location) noexcept { ++threads_[thread].now.seen[location]; }

    /// False: a data race.
    [[nodiscard]] bool read_plain(unsigned thread, access_record& object) noexcept;
    [[nodiscard]] bool write_plain(unsigned thread, access_record& object) noexcept;

  private:
    struct stored {
        std::uint64_t value;
        view released;  ///< What an acquire that reads this takes over.
        bool modifies;  ///< By a read-modify-write, which read the store before it.
    };
    struct atomic_object {
        const void* address;
        std::vector<stored> history;  ///< In modification order.
        access_record lifetime;       ///< Uses are reads; construction is a write.
        bool alive;
    };
    struct thread_state {
        view now;
        view acquirable;  ///< Taken over by the next fence: what relaxed loads have read.
        view released;    ///< Attached to relaxed stores: what the last fence knew.
    };

    static bool acquires(std::memory_order order) noexcept {
        return order == std::memory_order_acquire || order == std::memory_order_acq_rel;
    }
    static bool releases(std::memory_order order) noexcept {
        return order == std::memory_order_release || order == std::memory_order_acq_rel;
    }
    static bool happened_before(const std::array<std::uint16_t, threads_max>& accesses,
                                const thread_state& by) noexcept;
    void tick(unsigned thread) noexcept { ++threads_[thread].now.past[thread]; }
    void insert(unsigned thread, unsigned location, unsigned previous, const stored& added);

    std::array<atomic_object, locations_max> locations_;
    unsigned locations_count_ = 0;
    std::array<thread_state, threads_max> threads_;
    view fences_;  ///< Only `seen`: fences alone make nothing happen before anything.
};

}  // namespace model
