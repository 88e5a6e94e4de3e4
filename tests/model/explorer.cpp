#include <model/explorer.hpp>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>

#include <switchers/switch.hpp>
#include <weft/runtime/assert.hpp>
#include <weft/runtime/sanitizer.hpp>

namespace model {
namespace {

namespace sanitizer = weft::sanitizer;

enum class action : std::uint8_t {
    load,
    store,
    modify,
    exchange_failed,
    fence,
    pause,
    block,
    notify,
    plain_read,
    plain_write,
    set,
    wait
};

constexpr const char* name_of(action what) {
    switch (what) {
        case action::load:
            return "load";
        case action::store:
            return "store";
        case action::modify:
            return "modify";
        case action::exchange_failed:
            return "exchange failed";
        case action::fence:
            return "fence";
        case action::pause:
            return "pause";
        case action::block:
            return "block";
        case action::notify:
            return "notify";
        case action::plain_read:
            return "plain read";
        case action::plain_write:
            return "plain write";
        case action::set:
            return "set";
        case action::wait:
            return "wait";
    }
    return "";
}

constexpr const char* name_of(std::memory_order order) {
    switch (order) {
        case std::memory_order_relaxed:
            return "relaxed";
        case std::memory_order_consume:
            return "consume";
        case std::memory_order_acquire:
            return "acquire";
        case std::memory_order_release:
            return "release";
        case std::memory_order_acq_rel:
            return "acq_rel";
        case std::memory_order_seq_cst:
            return "seq_cst";
    }
    return "";
}

/// What a thread is about to do: as much as tells which other steps it does not touch.
struct step {
    const void* address = nullptr;  // nullptr: a fence
    bool writes = false;
    enum class when : std::uint8_t { now, newer_store, notified, set } enabled = when::now;
    unsigned location = 0;       // for newer_store
    const bool* flag = nullptr;  // for set

    bool touches(const step& other) const { return address == other.address && (writes || other.writes); }
};

struct labelled {
    const std::byte* begin;
    std::size_t bytes;
    const char* name;
};

class explorer {
  public:
    explorer(const program& what, const exploration& how)
        : program_(what),
          how_(how),
          threads_count_(static_cast<unsigned>(what.threads.size()) + 1),
          random_(how.seed) {
        WEFT_ASSERT(threads_count_ <= threads_max,
                    "a scenario has more threads than the model checker has room for");
        for (unsigned n = 0; n < threads_count_; ++n) threads_[n].memory = std::make_unique<stack>();
    }

    outcome run();

    // --- what the atomics ask for, on the stack of the thread that runs

    // The thread's stack is left as it is: nothing on it may own memory.
    [[noreturn]] void fail(const char* sentence, const char* file = nullptr, unsigned line = 0) {
        outcome_.failure = sentence;
        if (file != nullptr) {
            std::array<char, 16> number;
            std::snprintf(number.data(), number.size(), ":%u)", line);
            outcome_.failure.append(" (").append(file).append(number.data());
        }
        for (;;) leave();
    }

    std::uint32_t create(void* address, std::uint64_t value) {
        if (memory_.full()) fail("a scenario has more atomics than the model checker has room for");
        return memory_.create(running_, address, value);
    }

    void destroy(const void* address, std::uint32_t location) {
        if (!memory_.lives(location, address)) fail("an atomic is destroyed that is not there");
        if (!memory_.destroy(running_, location))
            fail("an atomic is destroyed while another thread may still use it");
    }

    std::uint64_t load(const void* address, std::uint32_t location, std::memory_order order, place where) {
        begin({.address = address});
        order = order_of_access(order, where);
        check_use(address, location);
        // Newest first.
        const unsigned newest = memory_.stores(location) - 1;
        const unsigned age = choose(newest - memory_.oldest(running_, location) + 1);
        return finish_read(address, location, newest - age, action::load, order, where);
    }

    void store(const void* address, std::uint32_t location, std::uint64_t value, std::memory_order order,
               place where) {
        begin({.address = address, .writes = true});
        order = order_of_access(order, where);
        check_use(address, location);
        const unsigned previous = choose_previous(location);
        trace({.what = action::store,
               .order = order,
               .address = address,
               .written = value,
               .newer = memory_.stores(location) - 1 - previous,
               .where = where});
        check_room(location);
        memory_.write(running_, location, previous, value, order);
    }

    std::uint64_t modify(const void* address, std::uint32_t location, change how, std::memory_order order,
                         place where) {
        begin({.address = address, .writes = true});
        order = order_of_access(order, where);
        check_use(address, location);
        const unsigned previous = choose_previous(location);
        const std::uint64_t old = memory_.value(location, previous);
        finish_modify(address, location, previous, ((old & how.keep) + how.add) & how.mask, order, where);
        return old;
    }

    bool compare_exchange(const void* address, std::uint32_t location, std::uint64_t& expected,
                          std::uint64_t desired, exchange_orders orders, place where) {
        begin({.address = address, .writes = true});
        orders = {order_of_access(orders.success, where), order_of_access(orders.failure, where)};
        check_use(address, location);
        // It succeeds behind a store of the expected value, and fails by reading any other.
        std::array<std::uint8_t, stores_max> found;
        unsigned count = 0;
        for (unsigned n = memory_.stores(location); n-- > memory_.oldest(running_, location);)
            if (memory_.value(location, n) != expected || memory_.may_follow(location, n))
                found[count++] = static_cast<std::uint8_t>(n);
        const unsigned chosen = found[choose(count)];
        if (memory_.value(location, chosen) != expected) {
            expected = finish_read(address, location, chosen, action::exchange_failed, orders.failure, where);
            return false;
        }
        finish_modify(address, location, chosen, desired, orders.success, where);
        return true;
    }

    void wait(const void* address, std::uint32_t location, std::uint64_t old, std::memory_order order,
              place where) {
        while (load(address, location, order, where) == old) {
            // Whether to block is decided by the newest value, in one step with the look at it.
            begin({.address = address, .writes = true});
            check_use(address, location);
            const unsigned newest = memory_.stores(location) - 1;
            if (memory_.value(location, newest) != old) {
                if (memory_.oldest(running_, location) < newest) memory_.skip_oldest(running_, location);
                continue;
            }
            trace({.what = action::block, .address = address, .read = old, .where = where});
            threads_[running_].blocked_on = address;
            begin({.address = address, .writes = true, .enabled = step::when::notified});
        }
    }

    void notify(const void* address, place where) {
        begin({.address = address, .writes = true});
        trace({.what = action::notify, .address = address, .where = where});
        for (thread& each : threads_)
            if (each.blocked_on == address) {
                each.blocked_on = nullptr;
                return;
            }
    }

    void fence(place where) {
        begin({.writes = true});
        const std::memory_order order = asked(std::memory_order_seq_cst, where);
        trace({.what = action::fence, .where = where});
        if (order == std::memory_order_seq_cst) memory_.fence(running_);
    }

    // Who spins looks again and again at what it loaded last: it goes on when there is something new.
    void pause(place where) {
        const void* const address = threads_[running_].loaded_address;
        const unsigned location = threads_[running_].loaded_location;
        if (address == nullptr) fail("a pause without a load before it");
        begin({.address = address, .enabled = step::when::newer_store, .location = location});
        check_use(address, location);
        trace({.what = action::pause, .address = address, .where = where});
        memory_.skip_oldest(running_, location);
    }

    void read_plain(const void* address, access_record& object, place where) {
        trace({.what = action::plain_read, .address = address, .where = where});
        if (!memory_.read_plain(running_, object))
            fail("a data race: a read, and a write that did not happen before it");
    }

    void write_plain(const void* address, access_record& object, place where) {
        trace({.what = action::plain_write, .address = address, .where = where});
        if (!memory_.write_plain(running_, object))
            fail("a data race: a write, and an access that did not happen before it");
    }

    void signal_set(bool& set, place where) {
        begin({.address = &set, .writes = true});
        trace({.what = action::set, .address = &set, .where = where});
        set = true;
    }

    void signal_wait(bool& set, place where) {
        begin({.address = &set, .writes = true, .enabled = step::when::set, .flag = &set});
        trace({.what = action::wait, .address = &set, .where = where});
        set = false;
    }

    void label(const void* object, std::size_t bytes, const char* name) {
        labels_.push_back({static_cast<const std::byte*>(object), bytes, name});
    }

    unsigned this_thread() const { return running_; }

  private:
    static constexpr std::size_t stack_bytes = 256 * 1024;
    struct alignas(64) stack {
        std::array<std::byte, stack_bytes> bytes;
    };
    struct thread {
        std::unique_ptr<stack> memory;
        void* context;
        sanitizer::left_context left;
        bool ended;
        step next;
        const void* blocked_on;      // while it waits to be notified
        const void* loaded_address;  // by its last load: what it spins on when it pauses
        unsigned loaded_location;
    };
    struct choice {
        std::uint8_t chosen;
        std::uint8_t count;
    };
    struct known_order {
        const char* function;
        std::memory_order asked, given;
    };

    // --- switching

    static void thread_main(void* self) noexcept { static_cast<explorer*>(self)->run_thread(); }

    void run_thread() {
        sanitizer::left_context fresh;
        sanitizer::after_switch(fresh, &loop_stack_bottom_, &loop_stack_bytes_);
        if (running_ == 0) {
            program_.set_up();
            leave();
            program_.look_at_end();
        } else {
            program_.threads[running_ - 1].run();
        }
        threads_[running_].ended = true;
        for (;;) leave();
    }

    // Back to the explorer's loop; returns when the thread is to make its next step.
    void leave() {
        thread& self = threads_[running_];
        sanitizer::before_switch(self.left, nullptr, loop_stack_bottom_, loop_stack_bytes_);
        weft_switch_same_thread(&self.context, loop_context_);
        sanitizer::after_switch(self.left);
    }

    void resume(unsigned number) {
        thread& entered = threads_[number];
        running_ = number;
        sanitizer::left_context left;
        sanitizer::before_switch(left, nullptr, entered.memory->bytes.data(), stack_bytes);
        weft_switch_same_thread(&loop_context_, entered.context);
        sanitizer::after_switch(left);
    }

    // Lets a thread run up to its first step.
    void start(unsigned number) {
        thread& started = threads_[number];
        // What an execution that was given up has left there.
        sanitizer::forget_frames(started.memory->bytes.data(), stack_bytes);
        started.context =
            weft::switchers::make_context(started.memory->bytes.data() + stack_bytes, thread_main, this);
        started.ended = false;
        started.blocked_on = nullptr;
        started.loaded_address = nullptr;
        resume(number);
    }

    void begin(const step& next) {
        if (running_ == 0) return;  // there are no others yet, or no more
        threads_[running_].next = next;
        leave();
    }

    // --- the search

    unsigned choose(unsigned count) {
        if (count == 1) return 0;
        if (how_.random_executions != 0) return static_cast<unsigned>(random_()) % count;
        if (depth_ == path_.size()) path_.push_back({0, static_cast<std::uint8_t>(count)});
        return path_[depth_++].chosen;
    }

    // To the next path that has not been walked. False: there is none.
    bool advance() {
        if (how_.random_executions != 0) return outcome_.executions < how_.random_executions;
        while (!path_.empty() && path_.back().chosen + 1 == path_.back().count) path_.pop_back();
        if (path_.empty()) return false;
        ++path_.back().chosen;
        return true;
    }

    bool enabled(unsigned number) const {
        const thread& each = threads_[number];
        if (each.ended) return false;
        switch (each.next.enabled) {
            case step::when::now:
                return true;
            case step::when::newer_store:
                // One that is gone is found out by the step itself.
                return !memory_.lives(each.next.location, each.next.address) ||
                       memory_.oldest(number, each.next.location) + 1 < memory_.stores(each.next.location);
            case step::when::notified:
                return each.blocked_on == nullptr;
            case step::when::set:
                return *each.next.flag;
        }
        return false;
    }

    // One execution. False: it was given up, because it is like one that has been seen.
    bool execute() {
        memory_.reset();
        labels_.clear();
        trace_.clear();
        depth_ = 0;
        start(0);
        for (unsigned n = 1; n < threads_count_ && outcome_.failure.empty(); ++n) {
            memory_.start(n);
            start(n);
        }
        std::uint32_t asleep = 0;  // threads whose next step here leads to what has been seen
        unsigned last = 0, preemptions = 0;
        for (unsigned steps = 0; outcome_.failure.empty(); ++steps) {
            std::array<unsigned, threads_max> candidates;
            unsigned count = 0, candidates_asleep = 0;
            const auto consider = [&](unsigned number) {
                if (!enabled(number)) return;
                if (asleep >> number & 1)
                    ++candidates_asleep;
                else
                    candidates[count++] = number;
            };
            // First, so that the first failure that is found changes threads rarely.
            if (last != 0) consider(last);
            const bool last_can_go_on = count != 0;
            if (!last_can_go_on || preemptions != how_.preemptions_max)
                for (unsigned n = 1; n < threads_count_; ++n)
                    if (n != last) consider(n);
            if (count == 0 && candidates_asleep != 0) return false;
            if (count == 0) break;
            if (steps == how_.steps_max) {
                outcome_.failure = "a loop does not end";
                return true;
            }
            const unsigned chosen = choose(count);
            if (last_can_go_on && chosen != 0) ++preemptions;
            last = candidates[chosen];
            if (how_.random_executions == 0 && !how_.preemptions_max) {
                for (unsigned n = 0; n < chosen; ++n) asleep |= 1u << candidates[n];
                for (unsigned n = 1; n < threads_count_; ++n)
                    if (threads_[n].next.touches(threads_[last].next)) asleep &= ~(1u << n);
            }
            resume(last);
        }
        if (!outcome_.failure.empty()) return true;
        for (unsigned n = 1; n < threads_count_; ++n)
            if (!threads_[n].ended)
                outcome_.failure += std::string(outcome_.failure.empty() ? "blocked for ever: " : ", ") +
                                    program_.threads[n - 1].name;
        if (!outcome_.failure.empty()) return true;
        memory_.join_all(threads_count_);
        resume(0);
        return true;
    }

    // --- steps

    // What the place gets for the order that it asks for.
    std::memory_order asked(std::memory_order order, place where) {
        if (order == std::memory_order_relaxed) return order;
        for (const known_order& each : known_orders_)
            if (each.function == where.function_name() && each.asked == order) return each.given;
        const auto& weakened = how_.weakened;
        const bool weaken =
            weakened && weakened->from == order &&
            std::string_view(where.function_name()).find(weakened->function) != std::string_view::npos;
        known_orders_.push_back({where.function_name(), order, weaken ? weakened->to : order});
        return known_orders_.back().given;
    }

    std::memory_order order_of_access(std::memory_order order, place where) {
        if (order == std::memory_order_seq_cst)
            fail("the model checker knows seq_cst fences, and no other accesses of that order");
        return asked(order, where);
    }

    void check_use(const void* address, unsigned location) {
        if (!memory_.lives(location, address)) fail("an atomic is used that is not there (any more)");
        if (!memory_.use(running_, location))
            fail("an atomic is used by a thread that has not been told that it is there");
    }

    std::uint64_t finish_read(const void* address, unsigned location, unsigned store, action what,
                              std::memory_order order, place where) {
        const std::uint64_t value = memory_.value(location, store);
        trace({.what = what,
               .order = order,
               .address = address,
               .read = value,
               .newer = memory_.stores(location) - 1 - store,
               .where = where});
        memory_.read(running_, location, store, order);
        threads_[running_].loaded_address = address;
        threads_[running_].loaded_location = location;
        return value;
    }

    void finish_modify(const void* address, unsigned location, unsigned previous, std::uint64_t value,
                       std::memory_order order, place where) {
        trace({.what = action::modify,
               .order = order,
               .address = address,
               .read = memory_.value(location, previous),
               .written = value,
               .newer = memory_.stores(location) - 1 - previous,
               .where = where});
        check_room(location);
        memory_.modify(running_, location, previous, value, order);
    }

    void check_room(unsigned location) {
        if (memory_.stores(location) == stores_max)
            fail("an atomic has more stores than the model checker has room for");
    }

    // Behind which store a new one goes: any that the thread has not seen to be overwritten. Newest first.
    unsigned choose_previous(unsigned location) {
        std::array<std::uint8_t, stores_max> found;
        unsigned count = 0;
        for (unsigned n = memory_.stores(location); n-- > memory_.oldest(running_, location);)
            if (memory_.may_follow(location, n)) found[count++] = static_cast<std::uint8_t>(n);
        return found[choose(count)];
    }

    // --- reports

    struct trace_entry {
        unsigned thread = 0;
        action what;
        std::memory_order order = std::memory_order_relaxed;
        const void* address = nullptr;
        std::uint64_t read = 0, written = 0;
        unsigned newer = 0;  // stores there are behind the one that was read or replaced
        place where;
    };

    void trace(trace_entry entry) {
        entry.thread = running_;
        trace_.push_back(entry);
    }

    std::string name_of_object(const void* address) const {
        if (address == nullptr) return "";
        const auto* byte = static_cast<const std::byte*>(address);
        for (const labelled& each : labels_)
            if (byte >= each.begin && byte < each.begin + each.bytes)
                return byte == each.begin ? each.name : each.name + ("+" + std::to_string(byte - each.begin));
        std::array<char, 32> text;
        std::snprintf(text.data(), text.size(), "%p", address);
        return text.data();
    }

    std::string describe(const trace_entry& entry) const {
        std::string_view file = entry.where.file_name();
        file.remove_prefix(file.rfind('/') + 1);
        const bool atomic = entry.what <= action::exchange_failed;
        std::array<char, 256> text;
        std::snprintf(text.data(), text.size(), "  %-12s %22.*s:%-4u %-15s %-8s %s",
                      entry.thread == 0 ? "(set-up)" : program_.threads[entry.thread - 1].name,
                      static_cast<int>(file.size()), file.data(), static_cast<unsigned>(entry.where.line()),
                      name_of(entry.what), atomic ? name_of(entry.order) : "",
                      name_of_object(entry.address).c_str());
        std::string line = text.data();
        if (!atomic) return line + "\n";
        line += ": ";
        if (entry.what != action::store) line += value_text(entry.read);
        if (entry.what == action::modify) line += " -> ";
        if (entry.what == action::store || entry.what == action::modify) line += value_text(entry.written);
        if (entry.newer != 0) line += ", with " + std::to_string(entry.newer) + " newer";
        return line + "\n";
    }

    static std::string value_text(std::uint64_t value) {
        std::array<char, 32> text;
        std::snprintf(text.data(), text.size(), value < 1'000'000 ? "%" PRIu64 : "0x%" PRIx64, value);
        return text.data();
    }

    const program& program_;
    const exploration& how_;
    outcome outcome_;
    model::memory memory_;
    std::array<thread, threads_max> threads_;
    const unsigned threads_count_;
    unsigned running_ = 0;
    void* loop_context_ = nullptr;
    const void* loop_stack_bottom_ = nullptr;
    std::size_t loop_stack_bytes_ = 0;

    std::vector<choice> path_;  // all choices that have more than one answer
    std::size_t depth_ = 0;     // of them have been taken in this execution
    std::mt19937 random_;
    std::vector<known_order> known_orders_;
    std::vector<labelled> labels_;
    std::vector<trace_entry> trace_;
};

explorer* present = nullptr;

explorer& here() {
    WEFT_ASSERT(present != nullptr, "the model's atomics exist only while a scenario is explored");
    return *present;
}

outcome explorer::run() {
    present = this;
    do {
        if (execute())
            ++outcome_.executions;
        else
            ++outcome_.left_out;
        outcome_.complete = !advance();
    } while (outcome_.failure.empty() && !outcome_.complete && outcome_.executions < how_.executions_max);
    present = nullptr;
    if (!outcome_.failure.empty()) {
        outcome_.failure += "\n";
        for (const trace_entry& each : trace_) outcome_.failure += describe(each);
    }
    for (const known_order& each : known_orders_) {
        asked_order order{each.function, each.asked};
        if (std::find(outcome_.asked.begin(), outcome_.asked.end(), order) == outcome_.asked.end())
            outcome_.asked.push_back(std::move(order));
    }
    return std::move(outcome_);
}

// "bool weft::mailbox_of<Chunk>::empty() const [with ...]": "empty".
std::string short_name(const std::string& function) {
    const std::size_t end = function.find('(');
    const std::size_t begin = function.rfind(':', end) + 1;
    return function.substr(begin, end - begin);
}

std::vector<std::memory_order> weaker_than(std::memory_order order) {
    if (order == std::memory_order_acq_rel) return {std::memory_order_acquire, std::memory_order_release};
    return {std::memory_order_relaxed};
}

}  // namespace

namespace machine {

std::uint32_t create(void* address, std::uint64_t value) {
    return here().create(address, value);
}
void destroy(const void* address, std::uint32_t location) {
    here().destroy(address, location);
}
std::uint64_t load(const void* address, std::uint32_t location, std::memory_order order, place where) {
    return here().load(address, location, order, where);
}
void store(const void* address, std::uint32_t location, std::uint64_t value, std::memory_order order,
           place where) {
    here().store(address, location, value, order, where);
}
std::uint64_t modify(const void* address, std::uint32_t location, change how, std::memory_order order,
                     place where) {
    return here().modify(address, location, how, order, where);
}
bool compare_exchange(const void* address, std::uint32_t location, std::uint64_t& expected,
                      std::uint64_t desired, exchange_orders orders, place where) {
    return here().compare_exchange(address, location, expected, desired, orders, where);
}
void wait(const void* address, std::uint32_t location, std::uint64_t old, std::memory_order order,
          place where) {
    here().wait(address, location, old, order, where);
}
void notify(const void* address, place where) {
    here().notify(address, where);
}
void fence(place where) {
    here().fence(where);
}
void pause(place where) {
    here().pause(where);
}
void read_plain(const void* address, access_record& object, place where) {
    here().read_plain(address, object, where);
}
void write_plain(const void* address, access_record& object, place where) {
    here().write_plain(address, object, where);
}
void signal_set(bool& set, place where) {
    here().signal_set(set, where);
}
void signal_wait(bool& set, place where) {
    here().signal_wait(set, where);
}

}  // namespace machine

void expect(bool condition, const char* sentence, place where) {
    if (!condition) here().fail(sentence, where.file_name(), where.line());
}

unsigned this_thread() {
    return here().this_thread();
}

void label(const void* object, std::size_t bytes, const char* name) {
    here().label(object, bytes, name);
}

outcome explore(const program& what, const exploration& how) {
    return explorer(what, how).run();
}

std::string outcome::report() const {
    return std::to_string(executions) + " executions" + (complete ? "" : ", not all") + ", " +
           std::to_string(left_out) + " left out" + (failure.empty() ? "" : "\n" + failure);
}

std::vector<std::string> needless_orders(const std::string& class_name,
                                         const std::vector<exploring>& explorations) {
    std::vector<asked_order> all_asked;
    for (const exploring& explore_one : explorations)
        for (asked_order& each : explore_one({}).asked)
            if (each.function.find(class_name) != std::string::npos &&
                std::find(all_asked.begin(), all_asked.end(), each) == all_asked.end())
                all_asked.push_back(std::move(each));
    std::vector<std::string> needless;
    for (const asked_order& asked : all_asked)
        for (const std::memory_order weaker : weaker_than(asked.order)) {
            const exploration how{.weakened = weakening{asked.function, asked.order, weaker}};
            const bool passes = std::all_of(explorations.begin(), explorations.end(),
                                            [&](const exploring& one) { return one(how).passed(); });
            if (passes)
                needless.push_back(short_name(asked.function) + ": " + name_of(weaker) + " would do for " +
                                   name_of(asked.order));
        }
    std::sort(needless.begin(), needless.end());
    return needless;
}

}  // namespace model

namespace weft::detail {

// In place of the one in runtime/assert.cpp: an assertion that fails is what the explorer looks for.
void assertion_failed(const char* sentence, const char* file, int line) noexcept {
    if (model::present != nullptr) model::present->fail(sentence, file, static_cast<unsigned>(line));
    std::fprintf(stderr, "weft: %s (%s:%d)\n", sentence, file, line);
    std::abort();
}

}  // namespace weft::detail
