#include <doctest/doctest.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <weft/runtime/fiber_block.hpp>
#include <weft/runtime/ring.hpp>

#include "support.hpp"

using namespace std::chrono_literals;
using weft::operation;
using weft::testing::scaled;
using weft::testing::watchdog;

namespace {

constexpr unsigned rungs = 3;

std::unique_ptr<weft::engine> make_ring(const weft::ring_options& options) {
    auto made = weft::make_ring(options);
    if (!made) FAIL("no ring: " << made.error().message());
    return std::move(*made);
}

// A fiber as an engine sees it: awake, so that a wake-up leaves a mark on it and queues it nowhere.
struct awake_fiber : weft::fiber_block {
    awake_fiber() {
        word.launch();
        wakes_seen = word.look();
    }
    bool was_woken() const { return word.load().wakes != wakes_seen; }
};

struct pipe_pair {
    pipe_pair() { REQUIRE(pipe(ends.data()) == 0); }
    pipe_pair(const pipe_pair&) = delete;
    ~pipe_pair() {
        close(ends[0]);
        close(ends[1]);
    }
    void write_one() const { REQUIRE(::write(ends[1], "x", 1) == 1); }

    std::array<int, 2> ends{};
};

weft::time_point now() {
    return std::chrono::steady_clock::now();
}

void turn_without_waiting(weft::engine& engine) {
    const auto at = now();
    engine.turn(at, at);
}

// Turns the engine until `reached()`, waiting at most a moment each time.
template <class Condition>
void turn_until(weft::engine& engine, Condition reached) {
    const watchdog watch("the engine did not report what has happened");
    while (!reached()) engine.turn(now(), now() + 10ms);
}

}  // namespace

TEST_CASE("ring: each rung of the ladder works and says what it is") {
    std::set<std::string> descriptions;
    for (unsigned rung = 0; rung < rungs; ++rung) {
        CAPTURE(rung);
        const auto ring = make_ring({.first_rung = rung});
        descriptions.insert(ring->description());
        awake_fiber fiber;
        pipe_pair pipe;
        operation poll{.what = operation::kind::poll,
                       .descriptor = pipe.ends[0],
                       .flags = POLLIN,
                       .waiting_fiber = &fiber};
        ring->start(poll);
        turn_without_waiting(*ring);
        CHECK_FALSE(poll.done);
        CHECK_FALSE(fiber.was_woken());
        pipe.write_one();
        turn_until(*ring, [&] { return poll.done; });
        CHECK(poll.result == POLLIN);
        CHECK(fiber.was_woken());
    }
    CHECK(descriptions.size() == rungs);
}

TEST_CASE("ring: a rung below the last does not exist") {
    CHECK_FALSE(weft::make_ring({.first_rung = rungs}));
}

TEST_CASE("ring: more operations than the submission queue has entries start in one turn, and all end") {
    for (unsigned rung = 0; rung < rungs; ++rung) {
        CAPTURE(rung);
        const auto ring = make_ring({.submission_entries = 4, .completion_entries = 512, .first_rung = rung});
        awake_fiber fiber;
        pipe_pair pipe;
        constexpr unsigned count = 100;
        std::deque<operation> polls;
        for (unsigned n = 0; n < count; ++n)
            ring->start(polls.emplace_back(operation{.what = operation::kind::poll,
                                                     .descriptor = pipe.ends[0],
                                                     .flags = POLLIN,
                                                     .waiting_fiber = &fiber}));
        pipe.write_one();
        turn_until(*ring, [&] {
            for (auto& each : polls)
                if (!each.done) return false;
            return true;
        });
        for (auto& each : polls) CHECK(each.result == POLLIN);
    }
}

TEST_CASE("ring: a completion queue that overflows loses nothing") {
    for (unsigned rung = 0; rung < rungs; ++rung) {
        CAPTURE(rung);
        const auto ring = make_ring({.submission_entries = 4, .completion_entries = 8, .first_rung = rung});
        awake_fiber fiber;
        pipe_pair pipe;
        constexpr unsigned count = 300;
        std::deque<operation> polls;
        for (unsigned n = 0; n < count; ++n)
            ring->start(polls.emplace_back(operation{.what = operation::kind::poll,
                                                     .descriptor = pipe.ends[0],
                                                     .flags = POLLIN,
                                                     .waiting_fiber = &fiber}));
        turn_without_waiting(*ring);
        pipe.write_one();  // all of them end at once
        turn_until(*ring, [&] {
            for (auto& each : polls)
                if (!each.done) return false;
            return true;
        });
        CHECK(ring->counters().completed.read() >= count);
    }
}

TEST_CASE("ring: a cancelled operation is done later all the same") {
    for (unsigned rung = 0; rung < rungs; ++rung) {
        CAPTURE(rung);
        const auto ring = make_ring({.first_rung = rung});
        awake_fiber fiber;
        pipe_pair pipe;
        operation poll{.what = operation::kind::poll,
                       .descriptor = pipe.ends[0],
                       .flags = POLLIN,
                       .waiting_fiber = &fiber};
        ring->start(poll);
        turn_without_waiting(*ring);
        ring->cancel(poll);
        CHECK_FALSE(poll.done);
        turn_until(*ring, [&] { return poll.done; });
        CHECK(poll.result == -ECANCELED);

        // Both in one turn, and the cancel of something that is done already harms nobody.
        operation second = poll;
        ring->start(second);
        ring->cancel(second);
        turn_until(*ring, [&] { return second.done; });
        CHECK(second.result == -ECANCELED);
        ring->cancel(second);
        turn_without_waiting(*ring);
        turn_without_waiting(*ring);
    }
}

TEST_CASE("ring: a turn waits until its time, unless something is there to report") {
    for (unsigned rung = 0; rung < rungs; ++rung) {
        CAPTURE(rung);
        const auto ring = make_ring({.first_rung = rung});
        const auto until = now() + 20ms;
        // One that is cut short for no reason is allowed, many are not.
        unsigned turns = 0;
        for (; now() < until; ++turns) ring->turn(now(), until);
        CHECK(turns < 5);

        awake_fiber fiber;
        pipe_pair pipe;
        pipe.write_one();
        operation poll{.what = operation::kind::poll,
                       .descriptor = pipe.ends[0],
                       .flags = POLLIN,
                       .waiting_fiber = &fiber};
        ring->start(poll);
        const watchdog watch("a turn did not end although there was something to report");
        while (!poll.done) ring->turn(now(), weft::no_deadline);
    }
}

TEST_CASE("ring: a wake from another thread ends a turn that waits, and one that comes before it waits") {
    for (unsigned rung = 0; rung < rungs; ++rung) {
        CAPTURE(rung);
        const watchdog watch("a wake did not end a turn");
        const auto ring = make_ring({.first_rung = rung});
        turn_without_waiting(*ring);
        ring->wake();
        ring->turn(now(), weft::no_deadline);
        const unsigned rounds = scaled(5'000, 500);
        std::atomic<unsigned> wakes{0};
        std::jthread waker([&] {
            for (unsigned n = 1; n <= rounds; ++n) {
                wakes.store(n);
                ring->wake();
                while (wakes.load() != 0) std::this_thread::yield();
            }
        });
        for (unsigned n = 1; n <= rounds; ++n) {
            while (wakes.load() != n) ring->turn(now(), weft::no_deadline);
            wakes.store(0);
        }
        CHECK(ring->counters().wakes_received.read() > 0);
    }
}

TEST_CASE("ring: one that ends on another thread leaves the rings of that thread alone") {
    const auto mine = make_ring({});
    turn_without_waiting(*mine);
    for (unsigned rung = 0; rung < rungs; ++rung) {
        CAPTURE(rung);
        std::unique_ptr<weft::engine> other;
        std::thread([&] {
            other = make_ring({.first_rung = rung});
            turn_without_waiting(*other);
        }).join();
        other.reset();
        mine->wake();
        const watchdog watch("a ring was taken apart by another one's end");
        mine->turn(now(), weft::no_deadline);
    }
    CHECK(mine->counters().wakes_received.read() > 0);
}

TEST_CASE("ring: the errors of its set-up name the cause and the remedy") {
    const auto says = [](int errno_value, const char* cause, const char* remedy) {
        const std::string message = weft::ring_setup_error(errno_value).message();
        CAPTURE(message);
        CHECK(message.find("io_uring") != std::string::npos);
        CHECK(message.find(cause) != std::string::npos);
        CHECK(message.find(remedy) != std::string::npos);
    };
    says(ENOSYS, "older than", "run a newer one");
    says(EINVAL, "older than", "run a newer one");
    says(ENOMEM, "memory", "ulimit -l");
    const std::string forbidden = weft::ring_setup_error(EPERM).message();
    CAPTURE(forbidden);
    const bool seccomp =
        forbidden.find("seccomp") != std::string::npos && forbidden.find("allow") != std::string::npos;
    const bool sysctl = forbidden.find("kernel.io_uring_disabled") != std::string::npos;
    CHECK(seccomp != sysctl);
    CHECK(weft::ring_setup_error(EMFILE) == weft::system_error(EMFILE));
    CHECK(weft::ring_setup_error(ENOSYS) != weft::ring_setup_error(EPERM));
}
