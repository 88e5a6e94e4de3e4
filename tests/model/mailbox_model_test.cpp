#include <weft/runtime/mailbox.hpp>

#include "support.hpp"

namespace {

constexpr int chunks = 4;

struct small_mailbox {
    weft::mailbox_of<model::variable<int>, 2> box;  // full after two
    small_mailbox() { model::label(box, "mailbox"); }
};

model::scenario<small_mailbox> handover() {
    return {{{"producer",
              [](small_mailbox& s) {
                  for (int n = 1; n <= chunks; ++n)
                      while (!s.box.push(model::variable<int>(n))) weft::pause_in_spin();
              }},
             {"consumer",
              [](small_mailbox& s) {
                  model::variable<int> popped;
                  for (int n = 1; n <= chunks; ++n) {
                      while (!s.box.pop(popped)) weft::pause_in_spin();
                      model::expect(popped.read() == n, "a chunk is lost, doubled or out of order");
                  }
              }}},
            [](small_mailbox& s) { model::expect(s.box.empty(), "a chunk too many"); }};
}

const model::exploring explore_handover = [](const auto& how) { return explore(handover(), how); };

}  // namespace

TEST_CASE("mailbox: chunks come whole, in order and once, also when it is full in between") {
    check_passes("mailbox", explore_handover);
}

TEST_CASE("mailbox: a chunk that is counted before it is written is found") {
    CHECK(fails_with("a data race",
                     explore_handover({.weakened = model::weakening{"::push", std::memory_order_release,
                                                                    std::memory_order_relaxed}})));
}

TEST_CASE("mailbox: every order is needed") {
    check_needless_orders("mailbox_of", {explore_handover}, {});
}
