// weft_run, in child processes: it handles signals and complains to stderr. No other test is here, because a
// child has no log thread when its parent had one already.
#include <weft/weft.h>

#include "support.hpp"

#include <cerrno>
#include <stdexcept>

using weft::testing::signal_of_death;

namespace {

constexpr int other_status = SIGTERM;

// What weft_run returned: 0, 1, 7, or that it was another; a child tells by the signal that it dies by.
int status_of(weft_function main_function, const weft_options& options) {
    const int death = signal_of_death([&] {
        const int status = weft_run(&options, main_function, nullptr);
        signal(SIGTERM, SIG_DFL);
        kill(getpid(), status == 0 ? SIGUSR1 : status == 1 ? SIGUSR2 : status == 7 ? SIGALRM : other_status);
    });
    return death == SIGUSR1 ? 0 : death == SIGUSR2 ? 1 : death == SIGALRM ? 7 : -1;
}

weft_options small() {
    weft_options options{};
    options.size = sizeof options;
    options.workers = 1;
    options.fibers_max = 100;
    return options;
}

}  // namespace

TEST_CASE("c run: the exit status says how main ended") {
    CHECK(status_of([](void*) { return 0; }, small()) == 0);
    CHECK(status_of([](void*) { return 7; }, small()) == 7);
    CHECK(status_of([](void*) { return -EADDRINUSE; }, small()) == 1);
    CHECK(status_of([](void*) { return -ENOTRECOVERABLE; }, small()) == 1);
    CHECK(status_of([](void*) { return -ECANCELED; }, small()) == 0);
    CHECK(status_of([](void*) -> int { throw std::runtime_error("this is expected"); }, small()) == 1);
    CHECK(status_of([](void*) -> int { throw 1; }, small()) == 1);
}

TEST_CASE("c run: without a main function, or with options that are not valid, the status is 1") {
    const auto zero = [](void*) { return 0; };
    CHECK(status_of(nullptr, small()) == 1);
    weft_options options = small();
    options.size = 0;
    CHECK(status_of(zero, options) == 1);
    options = small();
    options.stack_bytes = SIZE_MAX;
    CHECK(status_of(zero, options) == 1);
}

TEST_CASE("c run: SIGTERM asks the runtime to stop") {
    const auto raises = [](void*) {
        while (weft_stop_requested(nullptr) == 0) {
            kill(getpid(), SIGTERM);
            weft_sleep_ns(20'000'000);
        }
        return 7;
    };
    CHECK(status_of(raises, small()) == 7);
}
