// A fiber's word: parking, waking, and the next life in the same slot.
#include <weft/runtime/fiber_block.hpp>

#include "support.hpp"

using weft::fiber_state;
using weft::fiber_word;

namespace {

// A fiber that waits for two wake-ups. Whoever has the right to it plays its worker and the fiber.
struct woken_twice {
    fiber_word word;
    std::array<model::variable<int>, 2> data;     // written before each wake-up
    model::variable<unsigned> wakes_counted{0};   // these three are what the fiber keeps across a park:
    model::variable<unsigned> wakes_at_start{1};  // its registers
    model::variable<unsigned> ends{0};

    woken_twice() {
        model::label(word, "word");
        model::label(data, "data");
        model::label(wakes_counted, "wakes_counted");
        model::label(wakes_at_start, "wakes_at_start");
        word.launch();
    }

    void run() {
        // Whoever queues it looks at it, before its worker looks at the word.
        model::expect(wakes_at_start.read() <= 1, "registers of another fiber");
        for (;;) {
            const unsigned seen = word.look();
            wakes_counted.write(wakes_counted.read() + seen - wakes_at_start.read());
            if (wakes_counted.read() == data.size()) {
                for (auto& each : data)
                    model::expect(each.read() == 1, "what was written before a wake-up is not there");
                ends.write(ends.read() + 1);
                word.end(fiber_state::finished);
                return;
            }
            wakes_at_start.write(0);
            if (word.try_park(seen)) return;
            wakes_at_start.write(seen);
        }
    }
};

model::scenario<woken_twice> woken_by_two(bool by_handle) {
    const auto waker = [by_handle](unsigned number) {
        return [by_handle, number](woken_twice& fiber) {
            fiber.data[number].write(1);
            if (by_handle ? fiber.word.notify_if_live(0) == fiber_word::wake_result::queue_it
                          : fiber.word.notify())
                fiber.run();
        };
    };
    return {{{"worker", [](woken_twice& fiber) { fiber.run(); }},
             {"one waker", waker(0)},
             {"other waker", waker(1)}},
            [](woken_twice& fiber) {
                model::expect(fiber.word.load().state == fiber_state::finished, "a wake-up is lost");
                model::expect(fiber.ends.read() == 1, "a fiber ended twice");
            }};
}

// A fiber that waits to be cancelled; then another fiber lives in its slot, whom nobody cancels.
template <unsigned cancellers>
struct two_lives {
    fiber_word word;
    weft::fiber_requests requests;
    model::variable<unsigned> life{0};
    model::variable<int> reason;  // written by the one who cancels, if it is one

    two_lives() {
        model::label(word, "word");
        model::label(requests, "requests");
        model::label(life, "life");
        model::label(reason, "reason");
        requests.reset(0);
        word.launch();
    }

    void run() {
        for (;;) {
            const unsigned seen = word.look();
            const bool cancelled = requests.pending(weft::request_cancel);
            if (life.read() == 1) {
                model::expect(!cancelled, "a request for one fiber has reached another");
                model::expect(seen == 1, "a wake-up of one fiber has reached another");
            } else if (cancelled) {
                if (cancellers == 1) model::expect(reason.read() == 1, "another reason");
                begin_second_life();
                continue;
            }
            if (word.try_park(seen)) return;
        }
    }

    void begin_second_life() {
        word.end(fiber_state::finished);
        word.retire();
        life.write(1);
        requests.reset(word.generation());
        word.launch();
    }

    // By the handle of the first.
    void cancel() {
        if (cancellers == 1) reason.write(1);
        if (requests.add(0, weft::request_cancel)) wake();
    }
    void wake() {
        if (word.notify_if_live(0) == fiber_word::wake_result::queue_it) run();
    }
    // Without a handle, as worker::cancel_fibers_at_home().
    void find() {
        const fiber_word::value found = word.load();
        if (found.generation == 1 && weft::is_live(found.state))
            model::expect(requests.add(1, weft::request_end_input), "a live fiber is found half made");
    }
};

template <class Slot>
model::exploring exploring(typename model::scenario<Slot>::thread one,
                           typename model::scenario<Slot>::thread other) {
    return [=](const model::exploration& how) {
        const model::scenario<Slot> all{
            {{"worker", [](Slot& slot) { slot.run(); }}, one, other}, [](Slot& slot) {
                model::expect(slot.life.read() == 1, "a request to cancel is lost");
                model::expect(slot.word.load().state == fiber_state::parked, "the second fiber was woken");
            }};
        return explore(all, how);
    };
}

using cancelled_once = two_lives<1>;
using cancelled_twice = two_lives<2>;

const model::exploring two_wakers = [](const auto& how) { return explore(woken_by_two(false), how); };
const model::exploring two_wakers_by_handle = [](const auto& how) {
    return explore(woken_by_two(true), how);
};
const model::scenario<cancelled_once>::thread canceller{"canceller", [](auto& slot) { slot.cancel(); }};
const model::exploring canceller_and_waker =
    exploring<cancelled_once>(canceller, {"waker", [](auto& slot) { slot.wake(); }});
const model::exploring canceller_and_finder =
    exploring<cancelled_once>(canceller, {"finder", [](auto& slot) { slot.find(); }});
const model::exploring two_cancellers =
    exploring<cancelled_twice>({"one canceller", [](auto& slot) { slot.cancel(); }},
                               {"other canceller", [](auto& slot) { slot.cancel(); }});

}  // namespace

TEST_CASE(
    "fiber word: with two wakers no wake-up is lost, one of them queues the fiber, and all that they wrote "
    "is there") {
    check_passes("two wakers", two_wakers);
    check_passes("two wakers by handle", two_wakers_by_handle);
}

TEST_CASE("fiber word: a stale handle neither wakes nor cancels the next fiber in the slot") {
    check_passes("canceller and waker", canceller_and_waker);
    check_passes("canceller and finder", canceller_and_finder);
    check_passes_up_to(3, "two cancellers", two_cancellers);
    check_passes_by_chance(50'000, "two cancellers", two_cancellers);
}

TEST_CASE("fiber word: a park that does not release lets the next one see half-saved registers") {
    CHECK(fails_with("a data race",
                     two_wakers({.weakened = model::weakening{"try_park", std::memory_order_release,
                                                              std::memory_order_relaxed}})));
}

TEST_CASE("fiber word: every order is needed, but for those that tell nobody anything") {
    const std::vector<model::exploring> all{two_wakers, two_wakers_by_handle, canceller_and_finder};
    // Who waits for the end is told by joiner_word, and a wake-up that finds nobody tells nothing.
    check_needless_orders(
        "fiber_word::", all,
        {"end: relaxed would do for release", "notify_if_live: relaxed would do for acquire",
         "retire: relaxed would do for release"});
    check_needless_orders("fiber_requests::", all, {});
}
