#include <weft/runtime/free_list.hpp>

#include "support.hpp"

using weft::no_slot;

namespace {

constexpr unsigned slots = 2;

// The mistake that the tag is there for.
class free_list_without_tag {
  public:
    explicit free_list_without_tag(weft::atomic<std::uint32_t>* links) : links_(links) {}
    void push(std::uint32_t slot) {
        std::uint32_t head = head_.load(std::memory_order_relaxed);
        do links_[slot].store(head, std::memory_order_relaxed);
        while (
            !head_.compare_exchange_weak(head, slot, std::memory_order_release, std::memory_order_relaxed));
    }
    std::uint32_t pop() {
        std::uint32_t head = head_.load(std::memory_order_acquire);
        while (head != no_slot) {
            const std::uint32_t next = links_[head].load(std::memory_order_relaxed);
            if (head_.compare_exchange_weak(head, next, std::memory_order_acquire, std::memory_order_acquire))
                break;
        }
        return head;
    }

  private:
    weft::atomic<std::uint32_t>* links_;
    weft::atomic<std::uint32_t> head_{no_slot};
};

template <class List>
struct slots_in_list {
    std::array<weft::atomic<std::uint32_t>, slots> links;
    std::array<model::variable<unsigned>, slots> uses;  // two owners at once are a race
    List list{links.data()};

    slots_in_list() {
        model::label(links, "links");
        model::label(uses, "uses");
        model::label(list, "list");
        for (std::uint32_t slot = 0; slot < slots; ++slot) list.push(slot);
    }

    std::uint32_t take() {
        const std::uint32_t slot = list.pop();
        if (slot != no_slot) uses[slot].write(uses[slot].read() + 1);
        return slot;
    }
    void give_back(std::uint32_t slot) {
        if (slot == no_slot) return;
        uses[slot].write(uses[slot].read() + 1);
        list.push(slot);
    }
    void take_and_give_back() { give_back(take()); }
    void expect_all_there() {
        std::array<bool, slots> there{};
        for (unsigned n = 0; n < slots; ++n) {
            const std::uint32_t slot = list.pop();
            model::expect(slot < slots, "a slot is lost");
            model::expect(!there[slot], "a slot is there twice");
            there[slot] = true;
        }
        model::expect(list.pop() == no_slot, "a slot too many");
    }
};

// One is between its look at the link and its exchange while the other takes both and gives back the first.
template <class List>
model::scenario<slots_in_list<List>> two_threads() {
    using state = slots_in_list<List>;
    return {{{"one",
              [](state& s) {
                  const std::uint32_t first = s.take(), second = s.take();
                  s.give_back(first);
                  s.give_back(second);
              }},
             {"other",
              [](state& s) {
                  const std::uint32_t first = s.take(), second = s.take();
                  s.give_back(first);
                  s.give_back(second);
              }}},
            [](state& s) { s.expect_all_there(); }};
}

model::scenario<slots_in_list<weft::free_list>> three_threads() {
    const auto turn = [](auto& s) { s.take_and_give_back(); };
    return {{{"one", turn}, {"two", turn}, {"three", turn}}, [](auto& s) { s.expect_all_there(); }};
}

const model::exploring explore_two = [](const auto& how) {
    return explore(two_threads<weft::free_list>(), how);
};
const model::exploring explore_three = [](const auto& how) { return explore(three_threads(), how); };

}  // namespace

TEST_CASE("free list: a slot has one owner at most, and none gets lost") {
    check_passes("two threads", explore_two);
    check_passes_up_to(3, "three threads", explore_three);
    check_passes_by_chance(50'000, "three threads", explore_three);
}

TEST_CASE("free list: without its tag a slot gets two owners, and the checker finds it") {
    const auto found = explore(two_threads<free_list_without_tag>());
    CHECK_FALSE(found.failure.empty());
}

TEST_CASE("free list: every order is needed") {
    check_needless_orders("weft::free_list::", {explore_two}, {});
}
