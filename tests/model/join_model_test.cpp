// The end of a fiber: the worker that ends it meets the handle that joins or detaches it. joiner.hpp and
// waiter.cpp are the real ones; what worker::end(), detail::wait_for_end(), park() and the queues do around
// them is done here in small.
#include <weft/runtime/inbox.hpp>
#include <weft/runtime/joiner.hpp>
#include <weft/runtime/scheduler.hpp>
#include <weft/runtime/waiter.hpp>
#include <weft/runtime/worker.hpp>

#include "support.hpp"

using weft::fiber_state;

namespace {

struct ending_fiber {
    weft::fiber_word word;
    weft::joiner_word joiner;
    weft::fiber_requests requests;
    model::variable<int> name{1};  // written by the spawner, again when the block is used again
    model::variable<int> result{0};
    model::variable<unsigned> discarded{0};

    weft::worker worker;  // of the fiber that joins
    weft::inbox in;       // of that worker

    explicit ending_fiber() {
        model::label(word, "word");
        model::label(joiner, "joiner");
        model::label(name, "name");
        model::label(result, "result");
        model::label(in, "inbox");
        requests.reset(0);
        joiner.reset(true);
        word.launch();
    }

    // As in worker::end().
    void end() {
        result.write(7);
        word.end(fiber_state::finished);
        const auto [nobody_wants_it, waits_for_it] = joiner.end();
        if (nobody_wants_it)
            discard();
        else if (waits_for_it != nullptr)
            waits_for_it->wake();
    }

    // The next fiber begins in the block at once.
    void discard() {
        model::expect(result.read() == 7, "a fiber is discarded before it has ended");
        discarded.write(discarded.read() + 1);
        word.retire();
        name.write(2);
        requests.reset(word.generation());
        word.launch();
    }

    // As in detail::wait_for_end() and fiber::join().
    void join() {
        if (!joiner.ended()) {
            weft::waiter self("the end of a fiber");
            model::label(self, "waiter");
            if (joiner.wait_with(self)) self.wait();
        }
        discard();
    }

    // As ~fiber().
    void let_go() {
        model::expect(name.read() == 1, "the handle's fiber is another one");
        if (requests.add(0, weft::request_cancel)) word.notify_if_live(0);
        if (joiner.detach()) discard();
    }
};

// The one that joins is a fiber if this is set, which is parked through its own word. One scenario at a time.
ending_fiber* present = nullptr;
constexpr unsigned joining_thread = 2;

model::scenario<ending_fiber> end_and(std::function<void(ending_fiber&)> what) {
    return {{{"worker", [](ending_fiber& f) { f.end(); }}, {"handle", std::move(what)}}, [](ending_fiber& f) {
                model::expect(f.discarded.read() == 1, "the block is lost");
                model::expect(f.word.look() == 1, "the next fiber was woken");
                model::expect(!f.requests.pending(weft::request_cancel), "the next fiber was cancelled");
            }};
}

model::scenario<ending_fiber> end_and_join_by_fiber() {
    return end_and([](ending_fiber& f) {
        present = &f;
        // Its block is gone as soon as it has ended, as when its runtime is.
        weft::fiber_block self;
        model::label(self, "self");
        self.word.launch();
        self.wakes_seen = self.word.look();
        f.worker.run(&self);
        f.join();
        f.worker.run(nullptr);
        self.word.end(fiber_state::finished);
    });
}

const model::exploring join_by_thread = [](const auto& how) {
    return explore(end_and([](ending_fiber& f) {
                       present = nullptr;
                       f.join();
                   }),
                   how);
};
const model::exploring join_by_fiber = [](const auto& how) { return explore(end_and_join_by_fiber(), how); };
const model::exploring let_go = [](const auto& how) {
    return explore(end_and([](ending_fiber& f) { f.let_go(); }), how);
};

}  // namespace

namespace weft {

worker* worker::current() noexcept {
    return present != nullptr && model::this_thread() == joining_thread ? &present->worker : nullptr;
}

void scheduler::wake_if_live(fiber_block& fiber, std::uint32_t generation) noexcept {
    if (fiber.word.notify_if_live(generation) == fiber_word::wake_result::queue_it) present->in.push(fiber);
}

void park() noexcept {
    fiber_block& fiber = *worker::current()->running();
    const std::uint32_t wakes = fiber.word.look();
    if (wakes == fiber.wakes_seen && fiber.word.try_park(fiber.wakes_seen)) {
        while (present->in.empty()) pause_in_spin();
        present->in.take_all([](fiber_block&) {});
    }
    fiber.wakes_seen = fiber.word.look();
}

void yield() noexcept {
    pause_in_spin();
    fiber_block& fiber = *worker::current()->running();
    fiber.wakes_seen = fiber.word.look();
}

}  // namespace weft

TEST_CASE("join: a thread that waits for a fiber's end is woken, and finds the result") {
    check_passes("join by a thread", join_by_thread);
}

TEST_CASE("join: a fiber that waits for another's end is woken, and its block is let go before it ends") {
    check_passes("join by a fiber", join_by_fiber);
}

TEST_CASE("join: a fiber that ends while its handle lets go of it is discarded once") {
    check_passes("let go", let_go);
}

TEST_CASE("join: every order is needed, of a waiter's two looks one") {
    const std::vector<model::exploring> all{join_by_thread, join_by_fiber, let_go};
    check_needless_orders("joiner_word", all, {});
    check_needless_orders(
        "waiter", all,
        {"wait_as_thread: relaxed would do for acquire", "woken: relaxed would do for acquire"});
    CHECK(fails_with("while another thread may still use it",
                     join_by_thread({.weakened = model::weakening{"waiter::w", std::memory_order_acquire,
                                                                  std::memory_order_relaxed}})));
}
