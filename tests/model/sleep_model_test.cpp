// A worker that falls asleep, and those who send to it: worker::wait_for_work() in small.
#include <weft/runtime/inbox.hpp>
#include <weft/runtime/mailbox.hpp>
#include <weft/runtime/sleep_gate.hpp>

#include "support.hpp"

namespace {

struct sleeper {
    weft::mailbox_of<model::variable<int>, 2> box;
    weft::inbox in;
    weft::atomic<bool> closing{false};
    weft::sleep_gate gate;
    model::signal engine;  // keeps a wake that comes before the sleep
    std::array<weft::fiber_block, 2> fibers;
    std::array<model::variable<unsigned>, model::threads_max> wakes;  // that each thread has paid for
    model::variable<unsigned> announced{0};                           // times that the worker meant to sleep

    sleeper() {
        model::label(box, "mailbox");
        model::label(in, "inbox");
        model::label(closing, "closing");
        model::label(gate, "gate");
        model::label(engine, "engine");
        model::label(fibers, "fibers");
    }

    void wake_if_sleeping() {
        if (!gate.claim_wake()) return;
        auto& own = wakes[model::this_thread()];
        own.write(own.read() + 1);
        engine.set();
    }
    void send_by_mailbox(int what) {
        model::expect(box.push(model::variable<int>(what)), "the mailbox has room");
        wake_if_sleeping();
    }
    void send_by_inbox(unsigned which) {
        in.push(fibers[which]);
        wake_if_sleeping();
    }
    void close() {
        closing.store(true, std::memory_order_release);
        wake_if_sleeping();
    }

    void expect_one_wake_per_sleep() {
        unsigned paid = 0;
        for (auto& each : wakes) paid += each.read();
        model::expect(paid <= announced.read(), "two senders have paid for one wake");
    }

    // The worker's loop, until so much has come.
    void work(unsigned inputs) {
        bool knows_of_closing = false;
        for (;;) {
            model::variable<int> popped;
            while (!box.empty() && box.pop(popped)) --inputs;
            in.take_all([&](weft::fiber_block&) { --inputs; });
            if (!knows_of_closing && closing.load(std::memory_order_acquire)) {
                knows_of_closing = true;
                --inputs;
            }
            if (inputs == 0) return;
            gate.announce();
            announced.write(announced.read() + 1);
            const bool is_closing = closing.load(std::memory_order_acquire);
            if (in.empty() && box.empty() && is_closing == knows_of_closing) engine.wait();
            gate.withdraw();
        }
    }
};

using thread = model::scenario<sleeper>::thread;

thread worker(unsigned inputs) {
    return {"worker", [inputs](sleeper& s) { s.work(inputs); }};
}
thread neighbour(unsigned chunks) {
    return {"neighbour", [chunks](sleeper& s) {
                for (unsigned n = 0; n < chunks; ++n) s.send_by_mailbox(1);
            }};
}
thread outsider(unsigned fiber) {
    return {"outsider", [fiber](sleeper& s) { s.send_by_inbox(fiber); }};
}

model::exploring exploring(std::vector<thread> threads) {
    return [threads](const auto& how) {
        return explore(model::scenario<sleeper>{threads, [](sleeper& s) { s.expect_one_wake_per_sleep(); }},
                       how);
    };
}

const model::exploring one_by_mailbox = exploring({worker(1), neighbour(1)});
const model::exploring one_by_inbox = exploring({worker(1), outsider(0)});

}  // namespace

TEST_CASE("sleep: a worker never sleeps with something in a mailbox and no wake on its way") {
    check_passes("one chunk", one_by_mailbox);
    check_passes("two chunks", exploring({worker(2), neighbour(2)}));
}

TEST_CASE("sleep: a worker never sleeps with something in its inbox and no wake on its way") {
    check_passes("one fiber", one_by_inbox);
    check_passes_up_to(3, "two fibers from two threads", exploring({worker(2), outsider(0), outsider(1)}));
}

TEST_CASE(
    "sleep: two senders in different ways, and the end of the runtime, are all noticed, and one pays for a "
    "wake") {
    const thread closer{"closer", [](sleeper& s) { s.close(); }};
    check_passes_up_to(3, "mailbox and inbox", exploring({worker(2), neighbour(1), outsider(0)}));
    check_passes_up_to(3, "inbox and closing", exploring({worker(2), outsider(0), closer}));
    check_passes_by_chance(50'000, "all three", exploring({worker(4), neighbour(2), outsider(0), closer}));
}

TEST_CASE("sleep: without either of the two fences a wake is lost, and the checker finds it") {
    for (const char* function : {"sleep_gate::announce", "sleep_gate::claim_wake"}) {
        CAPTURE(function);
        const model::exploration without_fence{
            .weakened = model::weakening{function, std::memory_order_seq_cst, std::memory_order_relaxed}};
        CHECK(fails_with("blocked for ever: worker", one_by_mailbox(without_fence)));
        CHECK(fails_with("blocked for ever: worker", one_by_inbox(without_fence)));
    }
}
