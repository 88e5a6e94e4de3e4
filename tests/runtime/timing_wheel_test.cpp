#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <weft/runtime/timing_wheel.hpp>

using namespace std::chrono_literals;
using weft::duration;
using weft::no_deadline;
using weft::time_point;
using weft::timer;
using weft::timing_wheel;

namespace {

constexpr duration tick = timing_wheel::tick_length;
constexpr time_point start{duration(std::chrono::hours(1000)) + 12345ns};

time_point rounded_up(time_point at) {
    const auto past_tick = at.time_since_epoch() % tick;
    return past_tick == 0ns ? at : at + (tick - past_tick);
}

using timers = std::vector<timer*>;

timers expire(timing_wheel& wheel, time_point now) {
    timers expired;
    wheel.expire(now, [&](timer& t) { expired.push_back(&t); });
    return expired;
}

}  // namespace

TEST_CASE("timing wheel: a new one is empty and has nothing to wait for") {
    timing_wheel wheel(start);
    CHECK(wheel.empty());
    CHECK(wheel.next_expiry() == no_deadline);
    CHECK(expire(wheel, start + 24h).empty());
}

TEST_CASE("timing wheel: a timer fires at its due time rounded up to a tick, once, and not before") {
    for (const duration after :
         {duration(0ns), duration(1ns), tick - 1ns, tick, tick + 1ns, duration(4ms), duration(10s),
          duration(24h), duration(24h * 365 * 10), duration(24h * 365 * 250)}) {
        CAPTURE(after.count());
        timing_wheel wheel(start);
        timer t;
        wheel.arm(t, start + after);
        CHECK(expire(wheel, rounded_up(start + after) - 1ns).empty());
        CHECK(t.armed());
        CHECK(expire(wheel, rounded_up(start + after)) == timers{&t});
        CHECK_FALSE(t.armed());
        CHECK_FALSE(t.linked());
        CHECK(wheel.empty());
        CHECK(expire(wheel, rounded_up(start + after) + 24h).empty());
    }
}

TEST_CASE("timing wheel: a timer at each boundary between levels fires in its own tick") {
    for (int bits = 1; bits <= 40; ++bits) {
        for (const std::int64_t offset : {-1, 0, 1}) {
            const time_point due(tick * ((std::int64_t{1} << bits) + offset));
            CAPTURE(bits);
            CAPTURE(offset);
            timing_wheel wheel(time_point{});
            timer t;
            wheel.arm(t, due);
            // Woken whenever the wheel asks for it, as a worker does, it cascades level by level.
            int visits = 0;
            while (wheel.next_expiry() < due) {
                CHECK(expire(wheel, wheel.next_expiry()).empty());
                REQUIRE(++visits <= 8);
            }
            CHECK(wheel.next_expiry() == due);
            CHECK(expire(wheel, due) == timers{&t});
        }
    }
}

TEST_CASE("timing wheel: a time that has passed fires in the next expire, even when the clock stands still") {
    timing_wheel wheel(start);
    CHECK(expire(wheel, start + 1s).empty());
    timer long_gone, just_gone, before_the_epoch;
    wheel.arm(long_gone, start);
    wheel.arm(just_gone, start + 1s - tick);
    wheel.arm(before_the_epoch, time_point::min());
    CHECK(wheel.next_expiry() <= start + 1s);
    CHECK(expire(wheel, start + 1s) == timers{&long_gone, &just_gone, &before_the_epoch});
}

TEST_CASE("timing wheel: a clock that steps back makes nothing fire early or get lost") {
    timing_wheel wheel(start);
    timer t, passed;
    wheel.arm(t, start + 2s);
    CHECK(expire(wheel, start + 1s).empty());
    wheel.arm(passed, start + 500ms);
    CHECK(expire(wheel, start) == timers{&passed});
    CHECK(expire(wheel, start + 2s + tick) == timers{&t});
}

TEST_CASE(
    "timing wheel: timers fire in the order of their ticks, and in one tick in the order they were armed") {
    timing_wheel wheel(start);
    std::array<timer, 6> t;
    wheel.arm(t[0], start + 3s);
    wheel.arm(t[1], start + 1h);
    wheel.arm(t[2], start + 1ms);
    wheel.arm(t[3], start + 3s);
    wheel.arm(t[4], start + 200ms);
    wheel.arm(t[5], start + 3s);
    CHECK(expire(wheel, start + 2h) == timers{&t[2], &t[4], &t[0], &t[3], &t[5], &t[1]});
}

TEST_CASE("timing wheel: arming again for later does not fire at the earlier time") {
    timing_wheel wheel(start);
    timer t;
    wheel.arm(t, start + 1s);
    const auto linked_at = t.tick;
    wheel.arm(t, start + 5s);
    CHECK(t.tick == linked_at);  // lazily: it has not moved
    CHECK(wheel.next_expiry() <= rounded_up(start + 1s));
    CHECK(expire(wheel, start + 4s).empty());
    CHECK(expire(wheel, start + 5s + tick) == timers{&t});
}

TEST_CASE("timing wheel: arming again for sooner fires at the sooner time") {
    timing_wheel wheel(start);
    timer t;
    wheel.arm(t, start + 5s);
    wheel.arm(t, start + 1s);
    CHECK(expire(wheel, start + 1s + tick) == timers{&t});
    CHECK(expire(wheel, start + 10s).empty());
}

TEST_CASE("timing wheel: a disarmed timer does not fire and is dropped when its tick comes") {
    timing_wheel wheel(start);
    timer t;
    wheel.arm(t, start + 1s);
    wheel.disarm(t);
    CHECK(t.linked());
    CHECK_FALSE(wheel.empty());
    CHECK(expire(wheel, start + 2s).empty());
    CHECK_FALSE(t.linked());
    CHECK(wheel.empty());
    wheel.arm(t, start + 3s);
    CHECK(expire(wheel, start + 4s) == timers{&t});
}

TEST_CASE("timing wheel: arming with no deadline disarms, and links nothing") {
    timing_wheel wheel(start);
    timer fresh, armed;
    wheel.arm(fresh, no_deadline);
    CHECK_FALSE(fresh.linked());
    CHECK(wheel.empty());
    wheel.arm(armed, start + 1s);
    wheel.arm(armed, no_deadline);
    CHECK(expire(wheel, start + 2s).empty());
    CHECK(wheel.empty());
}

TEST_CASE(
    "timing wheel: remove unlinks, is well for a timer that is not linked, and frees it for another wheel") {
    timing_wheel wheel(start), other(start);
    timer t, neighbour;
    wheel.remove(t);
    wheel.arm(t, start + 1s);
    wheel.arm(neighbour, start + 1s);
    wheel.remove(t);
    CHECK_FALSE(t.linked());
    CHECK_FALSE(t.armed());
    wheel.remove(t);
    other.arm(t, start + 2s);
    CHECK(expire(wheel, start + 3s) == timers{&neighbour});
    CHECK(expire(other, start + 3s) == timers{&t});
    wheel.arm(t, start + 5s);
    wheel.remove(t);
    CHECK(wheel.empty());
    CHECK(wheel.next_expiry() == no_deadline);
}

TEST_CASE("timing wheel: a callback that arms its own timer for a passed time is called once per expire") {
    timing_wheel wheel(start);
    timer t;
    int calls = 0;
    wheel.arm(t, start);
    const auto again = [&](timer& expired) {
        ++calls;
        wheel.arm(expired, start);
    };
    wheel.expire(start + 1s, again);
    CHECK(calls == 1);
    wheel.expire(start + 1s, again);
    CHECK(calls == 2);
}

TEST_CASE(
    "timing wheel: a callback may remove, disarm, delay or hurry timers that are due in the same expire") {
    timing_wheel wheel(start);
    timer first, removed, disarmed, delayed, hurried, last;
    for (timer* t : {&first, &removed, &disarmed, &delayed, &last}) wheel.arm(*t, start + 1s);
    wheel.arm(hurried, start + 1h);
    timers expired;
    wheel.expire(start + 1s + tick, [&](timer& t) {
        expired.push_back(&t);
        if (&t != &first) return;
        wheel.remove(removed);
        wheel.disarm(disarmed);
        wheel.arm(delayed, start + 2s);
        wheel.arm(hurried, start + 1s);
        CHECK(wheel.next_expiry() <= start + 1s + tick);
        CHECK_FALSE(wheel.empty());
    });
    CHECK(expired == timers{&first, &last});
    CHECK(expire(wheel, start + 1s + tick) == timers{&hurried});
    CHECK(expire(wheel, start + 2s - 1ns).empty());
    CHECK(expire(wheel, start + 2s + tick) == timers{&delayed});
    CHECK(wheel.empty());
}

TEST_CASE("timing wheel: what a callback left unreported by throwing is reported by the next expire") {
    timing_wheel wheel(start);
    timer first, second;
    wheel.arm(first, start + 1s);
    wheel.arm(second, start + 1s);
    CHECK_THROWS(wheel.expire(start + 2s, [](timer&) { throw 1; }));
    CHECK(wheel.next_expiry() <= start + 2s);
    CHECK(expire(wheel, start + 2s) == timers{&second});
}

TEST_CASE("timing wheel: a jump over centuries visits occupied slots only") {
    timing_wheel wheel(time_point{});
    timer t;
    for (int i = 0; i < 1000; ++i) {  // tick by tick, one jump would take hours
        wheel.arm(t, start + i * 24h * 90);
        CHECK(expire(wheel, start + i * 24h * 90 + tick) == timers{&t});
    }
}

TEST_CASE("timing wheel: it agrees with a naive model over random operations") {
    const char* given = std::getenv("WEFT_TEST_SEED");
    const std::uint64_t seed = given ? std::stoull(given) : std::random_device{}();
    MESSAGE("WEFT_TEST_SEED=" << seed);
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    const auto below = [&](std::uint64_t bound) { return random() % bound; };
    // As often nanoseconds as years.
    const auto random_duration = [&](unsigned bits_max) {
        return duration(static_cast<std::int64_t>(random() & ((std::uint64_t{1} << below(bits_max)) - 1)));
    };

    for (int round = 0; round < 200; ++round) {
        time_point now = time_point{} + random_duration(57);
        timing_wheel wheel(now);
        constexpr std::size_t count = 40;
        const auto timers = std::make_unique<timer[]>(count);
        std::vector<time_point> due(count, no_deadline);  // the model
        const unsigned bits_max = 18 + static_cast<unsigned>(below(36));

        const auto set_somehow = [&](std::size_t i) {
            switch (below(4)) {
                case 0:
                    due[i] = no_deadline;
                    return wheel.disarm(timers[i]);
                case 1:
                    due[i] = no_deadline;
                    return wheel.remove(timers[i]);
                default:
                    due[i] = below(8) == 0 ? now - random_duration(40) : now + random_duration(bits_max);
                    return wheel.arm(timers[i], due[i]);
            }
        };

        for (int step = 0; step < 500; ++step) {
            for (auto changes = below(6); changes > 0; --changes) set_somehow(below(count));

            const auto earliest = *std::ranges::min_element(due);
            const auto next = wheel.next_expiry();
            if (earliest != no_deadline) {
                REQUIRE(next <= std::max(rounded_up(earliest), now));
                REQUIRE_FALSE(wheel.empty());
            }

            switch (below(3)) {
                case 0:
                    now += random_duration(bits_max);
                    break;
                case 1:
                    now += random_duration(22);
                    break;
                default:
                    if (next != no_deadline) now = std::max(now, next);
            }

            std::set<std::size_t> set_by_callback, for_the_next_expire;
            wheel.expire(now, [&](timer& expired) {
                const auto i = static_cast<std::size_t>(&expired - timers.get());
                REQUIRE(due[i] <= now);
                REQUIRE_FALSE(for_the_next_expire.contains(i));
                REQUIRE_FALSE(expired.armed());
                REQUIRE_FALSE(expired.linked());
                due[i] = no_deadline;
                if (below(4) != 0) return;
                const auto other = below(2) == 0 ? i : below(count);
                if (!timers[other].linked()) for_the_next_expire.insert(other);
                set_by_callback.insert(other);
                set_somehow(other);
            });
            for (std::size_t i = 0; i < count; ++i) {
                REQUIRE(timers[i].due == due[i]);
                if (due[i] != no_deadline && !set_by_callback.contains(i)) REQUIRE(rounded_up(due[i]) > now);
            }
        }
        for (std::size_t i = 0; i < count; ++i) wheel.remove(timers[i]);
        REQUIRE(wheel.empty());
    }
}
