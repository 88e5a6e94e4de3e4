// Everything that fibers and threads of the host can do to fibers, at random and all at once. Every fiber is
// counted, and what it was born with must come back.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include <weft/runtime/worker.hpp>

#include "support.hpp"

using namespace std::chrono_literals;
using weft::fiber_affinity;
using weft::fiber_id;
using weft::fiber_priority;
using weft::placement;
using weft::testing::scaled;
namespace this_fiber = weft::this_fiber;

namespace {

// Small enough for every fiber to have one of its own, so that what it does follows from its seed.
class dice {
  public:
    explicit dice(std::uint64_t seed) : state_(seed) {}
    std::uint64_t next() {  // splitmix64
        state_ += 0x9e3779b97f4a7c15;
        std::uint64_t mixed = state_;
        mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
        mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
        return mixed ^ mixed >> 31;
    }
    unsigned below(unsigned bound) { return static_cast<unsigned>(next() % bound); }

  private:
    std::uint64_t state_;
};

// What the fibers of one round share. Outlives its runtime.
struct world {
    weft::scheduler* scheduler = nullptr;
    std::atomic<std::uint64_t> born{0}, ended{0};
    std::atomic<std::uint64_t> worth_born{0}, worth_ended{0};
    std::atomic<std::uint64_t> refused{0};
    std::atomic<const char*> wrong{nullptr};

    // Some fibers' names, of which many are out of date.
    static constexpr unsigned board_places = 64;
    std::array<std::atomic<std::uint64_t>, board_places> board{};

    void expect(bool holds, const char* otherwise) {
        if (!holds) wrong = otherwise;
    }
    // Of one that was made, for whoever made it; and of one that ends, for itself.
    void count_birth(std::uint64_t worth) {
        born.fetch_add(1);
        worth_born.fetch_add(worth);
    }
    void count_end(std::uint64_t worth) {
        worth_ended.fetch_add(worth);
        ended.fetch_add(1);
    }
};

weft::spawn_options any_options(dice& random, const world& in) {
    return {.where = static_cast<placement>(random.below(3)),
            .worker = random.below(in.scheduler->worker_count()),
            .affinity = static_cast<fiber_affinity>(random.below(4)),
            .priority = static_cast<fiber_priority>(random.below(3)),
            .keep_fp_control_words = random.below(4) == 0};
}

struct mishap {
    std::uint64_t worth;
};

// Whoever has children: a fiber, or a thread of the host.
class parent {
  public:
    parent(world& in, std::uint64_t seed) : world_(in), random_(seed) {}
    parent(const parent&) = delete;
    parent& operator=(const parent&) = delete;

    void bear(unsigned generations);
    void part_with_one();
    void keep_at_most(std::size_t children_max) {
        while (children_.size() > children_max) part_with_one();
    }

  protected:
    struct child {
        weft::fiber<std::uint64_t> handle;
        std::uint64_t worth;
        bool throws;
    };
    void join(child& leaving);

    world& world_;
    dice random_;
    std::vector<child> children_;
};

// What a fiber does between its birth and its end.
class life : parent {
  public:
    life(world& in, std::uint64_t seed, unsigned generations) : parent(in, seed), generations_(generations) {}

    void live() {
        put_on_board();
        for (unsigned steps = random_.below(6); steps > 0; --steps) step();
        keep_at_most(0);
    }

  private:
    void step() {
        switch (random_.below(8)) {
            case 0:
                return this_fiber::yield();
            case 1:
                return sleep();
            case 2:
            case 3:
                return be_handed_something();
            case 4:
                return cancel_a_sleeper();
            case 5:
                return bother_a_stranger();
            default:
                if (generations_ > 0) bear(generations_ - 1);
        }
    }

    void put_on_board() {
        const fiber_id self = this_fiber::id();
        world_.board[random_.below(world::board_places)] = std::uint64_t{self.index} << 32 | self.generation;
    }

    // Strangers wake it for nothing, or cancel it.
    void sleep() {
        const auto until = std::chrono::steady_clock::now() + 1us * random_.below(400);
        if (this_fiber::sleep_until(until))
            world_.expect(std::chrono::steady_clock::now() >= until, "a sleep was too short");
        else
            world_.expect(this_fiber::cancelled(), "a sleep failed, and nobody had cancelled it");
    }

    // Parks until another fiber says so. That one wakes it by name: it may have gone on already, or ended.
    void be_handed_something() {
        std::atomic<bool> given{false};
        weft::fiber_block& self = weft::current_fiber();
        const auto give = [&in = world_, &given, &self, generation = self.word.generation(),
                           yields = random_.below(3)] {
            for (unsigned n = 0; n < yields; ++n) this_fiber::yield();
            in.count_end(1);
            given.store(true, std::memory_order_release);
            weft::scheduler::wake_if_live(self, generation);
        };
        if (!weft::spawn_detached(give, any_options(random_, world_))) {
            ++world_.refused;
            return;
        }
        world_.count_birth(1);
        while (!given.load(std::memory_order_acquire)) weft::park();
    }

    // One whose only way to end is to hear of it.
    void cancel_a_sleeper() {
        auto sleeper = weft::spawn(
            [&in = world_] {
                const auto slept = this_fiber::sleep_for(1h);
                in.count_end(1);
                return !slept && slept.error() == weft::errc::cancelled && this_fiber::cancelled();
            },
            any_options(random_, world_));
        if (!sleeper) {
            ++world_.refused;
            return;
        }
        world_.count_birth(1);
        for (unsigned yields = random_.below(3); yields > 0; --yields) this_fiber::yield();
        if (random_.below(2) == 0)
            sleeper->cancel();
        else
            (void)weft::cancel(sleeper->id());  // it may have ended already, when the runtime closes
        world_.expect(sleeper->join(), "a sleeper that was cancelled did not hear of it");
    }

    void bother_a_stranger() {
        const std::uint64_t name = world_.board[random_.below(world::board_places)];
        const fiber_id stranger{static_cast<std::uint32_t>(name >> 32), static_cast<std::uint32_t>(name)};
        if (random_.below(2) == 0)
            (void)weft::cancel(stranger);
        else
            weft::scheduler::wake_if_live(world_.scheduler->fibers().block(stranger.index),
                                          stranger.generation);
    }

    unsigned generations_;
};

void parent::bear(unsigned generations) {
    const std::uint64_t seed = random_.next();
    const std::uint64_t worth = seed % 1000;
    const unsigned fate = random_.below(8);
    const bool is_joined = fate < 5;  // the others' exceptions would be logged
    const bool throws = is_joined && random_.below(4) == 0;
    const auto function = [&in = world_, seed, worth, generations, throws] {
        life(in, seed, generations).live();
        in.count_end(worth);
        if (throws) throw mishap{worth};
        return worth;
    };
    const auto options = any_options(random_, world_);
    if (fate == 7) {
        if (weft::detail::spawn(*world_.scheduler, function, options, false) != nullptr)
            world_.count_birth(worth);
        else
            ++world_.refused;
        return;
    }
    auto made = weft::spawn_on(*world_.scheduler, function, options);
    if (!made) {
        ++world_.refused;
        return;
    }
    world_.count_birth(worth);
    if (is_joined)
        children_.push_back({std::move(*made), worth, throws});
    else if (fate == 5)
        made->detach();
    // Else the handle is dropped, which cancels.
}

void parent::part_with_one() {
    std::swap(children_[random_.below(static_cast<unsigned>(children_.size()))], children_.back());
    child leaving = std::move(children_.back());
    children_.pop_back();
    if (random_.below(4) == 0) leaving.handle.cancel();
    join(leaving);
}

void parent::join(child& leaving) {
    try {
        world_.expect(leaving.handle.join() == leaving.worth, "a fiber returned what is another's");
        world_.expect(!leaving.throws, "an exception was lost");
    } catch (const mishap& thrown) {
        world_.expect(leaving.throws && thrown.worth == leaving.worth, "an exception came from another");
    }
}

// A thread of the host.
void be_a_host(world& in, std::uint64_t seed, unsigned fibers) {
    parent host(in, seed);
    for (unsigned n = 0; n < fibers; ++n) {
        host.bear(3);
        host.keep_at_most(16);
    }
    host.keep_at_most(0);
}

// Keeps one worker above its threshold for some turns, so that it passes mobile fibers on.
void overload(weft::runtime& runtime, unsigned worker, unsigned turns) {
    std::vector<weft::fiber<void>> busy;
    for (int n = 0; n < 8; ++n)
        if (auto made = runtime.spawn(
                [turns] {
                    for (unsigned turn = 0; turn < turns && !this_fiber::cancelled(); ++turn) {
                        const auto until = std::chrono::steady_clock::now() + 200us;
                        while (std::chrono::steady_clock::now() < until);
                        this_fiber::yield();
                    }
                },
                {.where = placement::fixed, .worker = worker}))
            busy.push_back(std::move(*made));
    for (auto& each : busy) each.join();
}

struct totals {
    std::uint64_t born = 0, refused = 0, deflected = 0, born_away = 0;
};

// One runtime's life. Sometimes it is ended while fibers are still at work.
void play_round(unsigned workers, std::uint64_t seed, totals& sum) {
    const weft::testing::watchdog watch("a fiber of the stress test waits for ever");
    constexpr unsigned hosts_count = 2;
    dice random(seed);
    world around;
    auto runtime = weft::testing::make_runtime(
        {.workers = workers, .mesh = weft::mesh_reach::all, .fibers_max = 40 + random.below(1000)});
    around.scheduler = &weft::detail::scheduler_of(*runtime);
    {
        std::vector<std::jthread> hosts;
        hosts.reserve(hosts_count);
        for (unsigned n = 0; n < hosts_count; ++n)
            hosts.emplace_back(be_a_host, std::ref(around), random.next(), scaled(1'000, 300));
        if (random.below(2) == 0) overload(*runtime, random.below(workers), 40);
    }
    if (random.below(2) == 0) {
        while (runtime->counters().fibers_ended < runtime->counters().fibers_born) std::this_thread::yield();
        const auto counted = runtime->counters();
        CHECK(counted.deflected_in == counted.deflected_out);
        sum.deflected += counted.deflected_out;
        sum.born_away += counted.fibers_born_away;
    }
    runtime.reset();

    CHECK(around.ended == around.born);
    CHECK(around.worth_ended == around.worth_born);
    const char* wrong = around.wrong;
    CHECK_MESSAGE(wrong == nullptr, std::string(wrong == nullptr ? "" : wrong));
    sum.born += around.born;
    sum.refused += around.refused;
}

// WEFT_TEST_LONG=1: for ten minutes (start the program itself, for Meson's patience ends before).
bool is_long() {
    const char* asked = std::getenv("WEFT_TEST_LONG");
    return asked != nullptr && std::strcmp(asked, "1") == 0;
}

void stress(unsigned workers) {
    weft::testing::seeded_random random;
    // Said in advance, for a crash or the watchdog would say nothing.
    std::fprintf(stderr, "stress on %u workers: WEFT_TEST_SEED=%u\n", workers, random.seed());
    const auto end = std::chrono::steady_clock::now() + 10min;
    const unsigned rounds_min = scaled(24, 4);
    totals sum;
    unsigned rounds = 0;
    // Without a fiber that was passed on, not everything has been tried.
    while (is_long() ? std::chrono::steady_clock::now() < end : rounds < rounds_min || sum.deflected == 0) {
        play_round(workers, random(), sum);
        ++rounds;
    }
    CHECK(sum.born_away > 0);
    std::fprintf(stderr, "  %u rounds, %llu fibers, %llu refused, %llu born away, %llu deflected\n", rounds,
                 static_cast<unsigned long long>(sum.born), static_cast<unsigned long long>(sum.refused),
                 static_cast<unsigned long long>(sum.born_away),
                 static_cast<unsigned long long>(sum.deflected));
}

}  // namespace

TEST_CASE("stress: on 2 workers no fiber is lost, whatever fibers and threads do to each other") {
    stress(2);
}

TEST_CASE("stress: on 8 workers no fiber is lost, whatever fibers and threads do to each other") {
    stress(8);
}
