// The checker itself: it allows what C++ allows, forbids what it forbids, and notices what goes wrong. The
// shapes are the usual litmus tests.
#include <set>
#include <string>

#include "support.hpp"

namespace {

using std::memory_order_acquire;
using std::memory_order_relaxed;
using std::memory_order_release;

struct two_atomics {
    weft::atomic<int> x{0}, y{0};
    std::array<model::variable<int>, 4> read;
    two_atomics() {
        model::label(x, "x");
        model::label(y, "y");
        model::label(read, "read");
    }
};

using litmus = model::scenario<two_atomics>;

// All combinations of what the threads have noted in `read`.
std::set<std::string> results_of(litmus test) {
    std::set<std::string> results;
    test.look_at_end = [&](two_atomics& at_end) {
        std::string result;
        for (auto& each : at_end.read) result += std::to_string(each.read());
        results.insert(result);
    };
    CHECK(model::explore(test).passed());
    return results;
}

}  // namespace

TEST_CASE("model checker: what is published with release and found with acquire is all there") {
    const auto message = [](std::memory_order order_of_store, std::memory_order order_of_load) {
        return results_of({{
            {"writer",
             [=](two_atomics& s) {
                 s.x.store(1, memory_order_relaxed);
                 s.y.store(1, order_of_store);
             }},
            {"reader",
             [=](two_atomics& s) {
                 s.read[0].write(s.y.load(order_of_load));
                 s.read[1].write(s.x.load(memory_order_relaxed));
             }},
        }});
    };
    const std::set<std::string> ordered{"0000", "0100", "1100"};
    const std::set<std::string> all{"0000", "0100", "1000", "1100"};
    CHECK(message(memory_order_release, memory_order_acquire) == ordered);
    CHECK(message(memory_order_relaxed, memory_order_acquire) == all);
    CHECK(message(memory_order_release, memory_order_relaxed) == all);
}

TEST_CASE(
    "model checker: two threads that store and look at each other's may both look too early, unless both "
    "have fences") {
    const auto store_buffer = [](bool fence_in_left, bool fence_in_right) {
        const auto side = [](weft::atomic<int>& own, weft::atomic<int>& other, model::variable<int>& read,
                             bool fence) {
            own.store(1, memory_order_relaxed);
            if (fence) weft::full_fence();
            read.write(other.load(memory_order_relaxed));
        };
        return results_of({{
            {"left", [=](two_atomics& s) { side(s.x, s.y, s.read[0], fence_in_left); }},
            {"right", [=](two_atomics& s) { side(s.y, s.x, s.read[1], fence_in_right); }},
        }});
    };
    CHECK_FALSE(store_buffer(true, true).contains("0000"));
    CHECK(store_buffer(true, true).size() == 3);
    CHECK(store_buffer(false, true).contains("0000"));
    CHECK(store_buffer(true, false).contains("0000"));
}

TEST_CASE("model checker: a thread never reads an older value after a newer one") {
    const auto results = results_of({{
        {"writer",
         [](two_atomics& s) {
             s.x.store(1, memory_order_relaxed);
             s.x.store(2, memory_order_relaxed);
         }},
        {"reader",
         [](two_atomics& s) {
             s.read[0].write(s.x.load(memory_order_relaxed));
             s.read[1].write(s.x.load(memory_order_relaxed));
         }},
    }});
    CHECK(results == std::set<std::string>{"0000", "0100", "0200", "1100", "1200", "2200"});
}

TEST_CASE(
    "model checker: two readers may see two writers in different orders, unless fences keep them from it") {
    const auto readers = [](bool fences) {
        const auto reader = [=](weft::atomic<int>& first, weft::atomic<int>& second,
                                model::variable<int>& one, model::variable<int>& other) {
            one.write(first.load(memory_order_acquire));
            if (fences) weft::full_fence();
            other.write(second.load(memory_order_acquire));
        };
        return results_of({{
            {"writer x", [](two_atomics& s) { s.x.store(1, memory_order_release); }},
            {"writer y", [](two_atomics& s) { s.y.store(1, memory_order_release); }},
            {"reader xy", [=](two_atomics& s) { reader(s.x, s.y, s.read[0], s.read[1]); }},
            {"reader yx", [=](two_atomics& s) { reader(s.y, s.x, s.read[2], s.read[3]); }},
        }});
    };
    CHECK(readers(false).size() == 16);
    CHECK(readers(true).size() == 15);
    CHECK_FALSE(readers(true).contains("1010"));
}

TEST_CASE(
    "model checker: of two that store to both atomics in opposite order, each may be overwritten by the "
    "other") {
    litmus test{{
        {"left",
         [](two_atomics& s) {
             s.x.store(1, memory_order_relaxed);
             s.y.store(2, memory_order_relaxed);
         }},
        {"right",
         [](two_atomics& s) {
             s.y.store(1, memory_order_relaxed);
             s.x.store(2, memory_order_relaxed);
         }},
    }};
    std::set<std::string> ends;
    test.look_at_end = [&](two_atomics& s) {
        ends.insert(std::to_string(s.x.load(memory_order_relaxed)) +
                    std::to_string(s.y.load(memory_order_relaxed)));
    };
    CHECK(model::explore(test).passed());
    CHECK(ends == std::set<std::string>{"11", "12", "21", "22"});
}

TEST_CASE("model checker: a read-modify-write carries on what was released before it, a store does not") {
    const auto through = [](bool modifies) {
        return results_of({{
            {"first",
             [](two_atomics& s) {
                 s.x.store(1, memory_order_relaxed);
                 s.y.store(1, memory_order_release);
             }},
            {"second",
             [=](two_atomics& s) {
                 int one = 1;
                 if (modifies)
                     s.y.compare_exchange_strong(one, 2, memory_order_relaxed, memory_order_relaxed);
                 else if (s.y.load(memory_order_relaxed) == 1)
                     s.y.store(2, memory_order_relaxed);
             }},
            {"third",
             [](two_atomics& s) {
                 s.read[0].write(s.y.load(memory_order_acquire));
                 s.read[1].write(s.x.load(memory_order_relaxed));
             }},
        }});
    };
    CHECK_FALSE(through(true).contains("2000"));
    CHECK(through(true).contains("2100"));
    CHECK(through(false).contains("2000"));
}

TEST_CASE("model checker: fences carry what relaxed accesses publish and find") {
    const auto message = [](bool fence_of_writer, bool fence_of_reader) {
        return results_of({{
            {"writer",
             [=](two_atomics& s) {
                 s.x.store(1, memory_order_relaxed);
                 if (fence_of_writer) weft::full_fence();
                 s.y.store(1, memory_order_relaxed);
             }},
            {"reader",
             [=](two_atomics& s) {
                 s.read[0].write(s.y.load(memory_order_relaxed));
                 if (fence_of_reader) weft::full_fence();
                 s.read[1].write(s.x.load(memory_order_relaxed));
             }},
        }});
    };
    CHECK_FALSE(message(true, true).contains("1000"));
    CHECK(message(true, false).contains("1000"));
    CHECK(message(false, true).contains("1000"));
}

TEST_CASE("model checker: counting loses nothing, and reading and storing apart does") {
    const auto count = [](bool in_one_step) {
        const auto counter = [=](two_atomics& s) {
            if (in_one_step)
                s.x.fetch_add(1, memory_order_relaxed);
            else
                s.x.store(s.x.load(memory_order_relaxed) + 1, memory_order_relaxed);
        };
        const litmus test{{{"one", counter}, {"two", counter}, {"three", counter}}, [](two_atomics& s) {
                              model::expect(s.x.load(memory_order_relaxed) == 3, "a count is lost");
                          }};
        return model::explore(test);
    };
    CHECK(count(true).passed());
    CHECK(count(false).failed_with("a count is lost"));
}

TEST_CASE(
    "model checker: every order of steps that touch each other is seen once, and one of those that do not") {
    const auto orders = [](auto step, std::optional<unsigned> preemptions_max) {
        const auto twice = [=](two_atomics& s) {
            step(s);
            step(s);
        };
        const auto seen = model::explore(litmus{{{"one", twice}, {"two", twice}, {"three", twice}}},
                                         {.preemptions_max = preemptions_max});
        CHECK(seen.passed());
        return seen.executions;
    };
    const auto fence = [](two_atomics&) { weft::full_fence(); };
    const auto look = [](two_atomics& s) { s.x.load(memory_order_relaxed); };
    CHECK(orders(fence, std::nullopt) == 90);  // 6! / 2!³
    CHECK(orders(fence, 0) == 6);              // 3!
    CHECK(orders(fence, 1) == 24);  // and one thread's two steps around those of one or both others
    CHECK(orders(look, std::nullopt) == 1);
}

TEST_CASE("model checker: a plain variable that is handed over is no race, one that is not is one") {
    const auto handover = [](std::memory_order order) {
        return model::explore<two_atomics>({{
            {"writer",
             [=](two_atomics& s) {
                 s.read[0].write(7);
                 s.x.store(1, order);
             }},
            {"reader",
             [](two_atomics& s) {
                 if (s.x.load(memory_order_acquire) == 1)
                     model::expect(s.read[0].read() == 7, "another value");
             }},
        }});
    };
    CHECK(handover(memory_order_release).passed());
    const auto race = handover(memory_order_relaxed);
    CHECK(race.failed_with("a data race"));
    // The steps up to there, in words.
    for (const char* part : {"writer", "memory_model_test.cpp", "plain write", "read", "relaxed", "x: 1"})
        CHECK_MESSAGE(race.failed_with(part), race.failure);
}

TEST_CASE("model checker: a wake that is not sent, and a loop that does not end, are found") {
    struct sleeper {
        weft::atomic<int> x{0};
        model::signal wake;
    };
    const auto sleeps = [](bool is_woken) {
        return model::explore<sleeper>({{
            {"sleeper", [](sleeper& s) { s.wake.wait(); }},
            {"waker",
             [=](sleeper& s) {
                 if (is_woken) s.wake.set();
             }},
        }});
    };
    CHECK(sleeps(true).passed());
    CHECK(sleeps(false).failed_with("blocked for ever: sleeper"));

    const auto loops = [](bool pauses, bool ends) {
        return model::explore<sleeper>({{
            {"looks",
             [=](sleeper& s) {
                 while (s.x.load(memory_order_relaxed) == 0)
                     if (pauses) weft::pause_in_spin();
             }},
            {"other",
             [=](sleeper& s) {
                 if (ends) s.x.store(1, memory_order_relaxed);
             }},
        }});
    };
    CHECK(loops(false, false).failed_with("a loop does not end"));
    CHECK(loops(true, false).failed_with("blocked for ever: looks"));
    CHECK(loops(true, true).passed());
}

TEST_CASE("model checker: who waits for a value is woken only by one who says so") {
    const auto waits = [](bool notifies) {
        return model::explore<two_atomics>({{
            {"waits",
             [](two_atomics& s) {
                 s.x.wait(0, memory_order_acquire);
                 model::expect(s.x.load(memory_order_relaxed) == 1, "woken too early");
             }},
            {"other",
             [=](two_atomics& s) {
                 s.x.store(1, memory_order_release);
                 if (notifies) s.x.notify_one();
             }},
        }});
    };
    CHECK(waits(true).passed());
    CHECK(waits(false).failed_with("blocked for ever: waits"));
}

TEST_CASE("model checker: an atomic that is destroyed while another thread may still use it is found") {
    struct on_a_stack {
        weft::atomic<weft::atomic<int>*> published{nullptr};
    };
    const auto lends = [](std::memory_order order_of_return) {
        return model::explore<on_a_stack>({{
            {"lender",
             [](on_a_stack& s) {
                 weft::atomic<int> lent{0};
                 s.published.store(&lent, memory_order_release);
                 while (lent.load(memory_order_acquire) == 0) weft::pause_in_spin();
             }},
            {"borrower",
             [=](on_a_stack& s) {
                 weft::atomic<int>* lent;
                 while ((lent = s.published.load(memory_order_acquire)) == nullptr) weft::pause_in_spin();
                 lent->store(1, order_of_return);
             }},
        }});
    };
    CHECK(lends(memory_order_release).passed());
    CHECK(lends(memory_order_relaxed).failed_with("destroyed while another thread may still use it"));
}

TEST_CASE("model checker: a search by chance finds what the whole search finds, and the same seed the same") {
    const litmus race{{
        {"writer",
         [](two_atomics& s) {
             s.read[0].write(1);
             s.x.store(1, memory_order_relaxed);
         }},
        {"reader",
         [](two_atomics& s) {
             if (s.x.load(memory_order_acquire) == 1) s.read[0].read();
         }},
    }};
    const auto found = model::explore(race, {.random_executions = 10'000, .seed = 1});
    CHECK(found.failed_with("a data race"));
    CHECK(model::explore(race, {.random_executions = 10'000, .seed = 1}).executions == found.executions);
}
