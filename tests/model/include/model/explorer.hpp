// The model checker: runs a few threads in every order of their steps, and with every value that their loads
// may read, and tells in words what went wrong.
//
//     struct handover { weft::atomic<bool> ready{false}; model::variable<int> data{0}; };
//     const auto outcome = model::explore<handover>({
//         {"writer", [](handover& h) { h.data.write(1); h.ready.store(true, std::memory_order_release); }},
//         {"reader", [](handover& h) {
//              if (h.ready.load(std::memory_order_acquire)) model::expect(h.data.read() == 1, "it is there");
//          }}});
//     CHECK_MESSAGE(outcome.passed(), outcome.report());
//
// A step is one operation on an atomic, and all that the thread does until its next one. A step is a turn of
// a coroutine, so everything happens on the thread that calls explore(), one exploration at a time. What
// threads share is an atomic, a model::variable or a model::signal; anything else would be hidden from the
// search.
//
// An execution fails by an expectation or an assertion that does not hold, by a data race, by the use of an
// atomic that is not there, when all threads that have not ended are blocked (a lost wake-up), and when it
// takes too many steps. It is then left where it is: neither the state nor what the threads had on their
// stacks is destroyed, so they should own nothing.
//
// The search is depth first over the choices. Without a bound on preemptions it leaves out orders that differ
// only in steps that do not touch each other (sleep sets: Godefroid, "Partial-Order Methods", 1996).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <model/machine.hpp>

namespace model {

/// A plain object that the threads share; accesses that race fail the execution. Each use is an access to the
/// whole.
template <class T>
class variable {
  public:
    variable() = default;
    explicit variable(T initial) : value_(initial) {}
    variable(const variable& other) : value_(other.read()) {}
    variable& operator=(const variable& other) {
        write(other.read());
        return *this;
    }

    T read(place where = place::current()) const {
        machine::read_plain(this, accesses_, where);
        return value_;
    }
    void write(T value, place where = place::current()) {
        machine::write_plain(this, accesses_, where);
        value_ = value;
    }

  private:
    T value_{};
    mutable access_record accesses_;
};

/// A wake that is kept until somebody waits for it, as an eventfd keeps it. It makes nothing visible: what
/// comes with it must be ordered by other means.
class signal {
  public:
    void set(place where = place::current()) { machine::signal_set(set_, where); }
    void wait(place where = place::current()) { machine::signal_wait(set_, where); }

  private:
    bool set_ = false;
};

/// Ends the execution when the condition does not hold.
void expect(bool condition, const char* sentence, place where = place::current());

/// Which thread of the scenario calls: 1 for the first.
unsigned this_thread();

/// What an object is called in reports, from now on in this execution.
void label(const void* object, std::size_t bytes, const char* name);
template <class T>
void label(const T& object, const char* name) {
    label(&object, sizeof object, name);
}

/// An order, or a fence (seq_cst), that some function of the code under test asks for.
struct asked_order {
    std::string function;  ///< As the compiler spells it.
    std::memory_order order;
    bool operator==(const asked_order&) const = default;
};

/// Runs the code as if the functions whose names contain `function` had asked for `to` wherever they ask for
/// `from`. A fence (seq_cst) that becomes relaxed is none.
struct weakening {
    std::string function;
    std::memory_order from;
    std::memory_order to;
};

struct exploration {
    std::optional<weakening> weakened = {};
    /// Only executions in which the scheduler takes the turn from a thread that could go on at most so often.
    std::optional<unsigned> preemptions_max = {};
    /// Instead of all executions so many that the seed chooses.
    std::uint64_t random_executions = 0;
    unsigned seed = 0;
    std::uint64_t executions_max = 20'000'000;
    /// Of one execution; more are taken for a loop without end.
    unsigned steps_max = 2'000;
};

struct outcome {
    std::string failure;           ///< What went wrong, with all steps up to there; empty when nothing did.
    bool complete = false;         ///< Every execution that was asked for has been seen.
    std::uint64_t executions = 0;  ///< That were run to their end.
    std::uint64_t left_out = 0;    ///< That were given up, because another one is the same.
    std::vector<asked_order> asked;

    bool passed() const { return failure.empty() && complete; }
    bool failed_with(std::string_view sentence) const { return failure.find(sentence) != std::string::npos; }
    std::string report() const;
};

struct program {
    struct thread {
        const char* name;
        std::function<void()> run;
    };
    std::function<void()> set_up;
    std::vector<thread> threads;
    std::function<void()> look_at_end;  ///< When all threads have ended; sees all that they did.
};

outcome explore(const program& what, const exploration& how = {});

/// The same for threads that share a `State`, which is made anew for each execution.
template <class State>
struct scenario {
    struct thread {
        const char* name;
        std::function<void(State&)> run;
    };
    std::vector<thread> threads;
    std::function<void(State&)> look_at_end = [](State&) {};
};

template <class State>
outcome explore(const scenario<State>& what, const exploration& how = {}) {
    alignas(State) std::array<std::byte, sizeof(State)> storage;
    State* state = nullptr;
    program untyped;
    untyped.set_up = [&] {
        state = new (storage.data()) State;
        label(*state, "state");  // what has no name of its own
    };
    for (const auto& each : what.threads)
        untyped.threads.push_back({each.name, [&state, &each] { each.run(*state); }});
    untyped.look_at_end = [&] {
        what.look_at_end(*state);
        state->~State();
    };
    return explore(untyped, how);
}

using exploring = std::function<outcome(const exploration&)>;

/// Of the orders for which the functions of a class ask, those of which a weaker one passes all the
/// explorations just as well: "end: relaxed would do for release".
std::vector<std::string> needless_orders(const std::string& class_name,
                                         const std::vector<exploring>& explorations);

}  // namespace model
