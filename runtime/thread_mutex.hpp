// A lock for short sections that fibers and threads share, and that nobody waits in.
#pragma once

#include <mutex>

namespace weft {

namespace detail {
/// How many thread_mutexes the calling thread holds, in builds without NDEBUG.
int thread_locks_held() noexcept;
void count_thread_locks(int more) noexcept;
}  // namespace detail

/// A std::mutex: it blocks the thread, with all of the fibers on it, so a fiber that holds one must neither
/// park nor yield. In builds without NDEBUG one that does stops the process with a sentence. For fibers and
/// threads; for use with std::lock_guard and its like.
class thread_mutex {
  public:
    void lock() {
        mutex_.lock();
        count(1);
    }
    bool try_lock() {
        const bool locked = mutex_.try_lock();
        if (locked) count(1);
        return locked;
    }
    void unlock() {
        count(-1);
        mutex_.unlock();
    }

  private:
    static void count([[maybe_unused]] int more) noexcept {
#ifndef NDEBUG
        detail::count_thread_locks(more);
#endif
    }

    std::mutex mutex_;
};

}  // namespace weft
