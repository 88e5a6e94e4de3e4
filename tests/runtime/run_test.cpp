// weft::run, in child processes: it handles signals and complains to stderr. No other test is here, because a
// child has no log thread when its parent had one already.
#include <doctest/doctest.h>

#include <stdexcept>

#include "support.hpp"

using namespace std::chrono_literals;
using weft::errc;
namespace this_fiber = weft::this_fiber;

TEST_CASE("run: the exit status says how main ended") {
    const weft::runtime_options options{.workers = 1, .fibers_max = 100};
    const auto status_of = [&](auto main) {
        return weft::testing::signal_of_death([&] {
            const int status = weft::run(options, main);
            if (status == 0) kill(getpid(), SIGUSR1);
            if (status == 1) kill(getpid(), SIGUSR2);
        });
    };
    CHECK(status_of([] {}) == SIGUSR1);
    CHECK(status_of([]() -> weft::result<void> { return {}; }) == SIGUSR1);
    CHECK(status_of([]() -> weft::result<void> { return weft::failure(errc::closed); }) == SIGUSR2);
    CHECK(status_of([]() -> weft::result<void> { return weft::failure(errc::cancelled); }) == SIGUSR1);
    CHECK(status_of([]() -> weft::result<void> { throw std::runtime_error("oh"); }) == SIGUSR2);
}

TEST_CASE("run: SIGTERM asks for a graceful stop, a second one for a stop at once") {
    const int death = weft::testing::signal_of_death([] {
        const weft::runtime_options options{.workers = 2, .fibers_max = 100};
        const int status = weft::run(options, [] {
            while (!this_fiber::stop_token().stop_requested()) {
                kill(getpid(), SIGTERM);
                (void)this_fiber::sleep_for(20ms);
            }
            while (!this_fiber::stop_now_token().stop_requested()) {
                kill(getpid(), SIGINT);
                (void)this_fiber::sleep_for(20ms);
            }
        });
        if (status == 0) kill(getpid(), SIGUSR1);
    });
    CHECK(death == SIGUSR1);
}
