#include <weft/runtime/thread_mutex.hpp>

#include <doctest/doctest.h>

#include <mutex>

#include "support.hpp"

using namespace std::chrono_literals;
using weft::thread_mutex;
using weft::testing::make_runtime;
using weft::testing::run_in_fiber;
using weft::testing::signal_of_death;
namespace this_fiber = weft::this_fiber;

namespace {

// What a process dies of in which a fiber does `act` while it holds a lock.
int death_by(void (*act)()) {
    return signal_of_death([act] {
        auto runtime = make_runtime(1, 100);
        run_in_fiber(*runtime, [act] {
            thread_mutex mutex;
            const std::lock_guard lock(mutex);
            act();
        });
    });
}

#ifdef NDEBUG
constexpr int death_by_assertion = 0;  // release builds do not look
#else
constexpr int death_by_assertion = SIGABRT;
#endif

}  // namespace

TEST_CASE("thread mutex: in debug builds a fiber must neither park nor yield while it holds one") {
    CHECK(death_by([] { (void)this_fiber::sleep_for(1ms); }) == death_by_assertion);
    CHECK(death_by([] { this_fiber::yield(); }) == death_by_assertion);
    CHECK(death_by([] {}) == 0);
}

TEST_CASE("thread mutex: in debug builds a fiber must not end while it holds one") {
    static thread_mutex mutex;
    const int death = signal_of_death([] {
        auto runtime = make_runtime(1, 100);
        run_in_fiber(*runtime, [] { mutex.lock(); });
    });
    CHECK(death == death_by_assertion);
}

TEST_CASE("thread mutex: a fiber that has unlocked may park, and a thread may block with one held") {
    auto runtime = make_runtime(1, 100);
    thread_mutex mutex, another;
    const std::lock_guard lock(another);
    run_in_fiber(*runtime, [&] {
        {
            const std::scoped_lock both(mutex);
            CHECK_FALSE(std::unique_lock(another, std::try_to_lock).owns_lock());
        }
        CHECK(std::unique_lock(mutex, std::try_to_lock).owns_lock());
        CHECK(this_fiber::sleep_for(1ms));
        this_fiber::yield();
    });
}
