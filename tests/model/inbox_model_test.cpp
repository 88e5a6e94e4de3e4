#include <weft/runtime/inbox.hpp>

#include "support.hpp"

namespace {

constexpr unsigned fibers_count = 3;

struct shared_inbox {
    weft::inbox in;
    std::array<weft::fiber_block, fibers_count> fibers;
    std::array<model::variable<int>, fibers_count> data;  // what each producer writes to its fiber
    shared_inbox() {
        model::label(in, "inbox");
        model::label(fibers, "fibers");
        model::label(data, "data");
        for (unsigned n = 0; n < fibers_count; ++n) fibers[n].index = n;
    }
    void send(unsigned which) {
        data[which].write(1);
        in.push(fibers[which]);
    }
};

model::scenario<shared_inbox> two_producers(unsigned fibers_sent) {
    return {{{"one producer",
              [=](shared_inbox& s) {
                  for (unsigned n = 0; n + 1 < fibers_sent; ++n) s.send(n);
              }},
             {"other producer", [](shared_inbox& s) { s.send(2); }},
             {"consumer",
              [=](shared_inbox& s) {
                  std::array<unsigned, fibers_count> times{};
                  for (unsigned taken = 0; taken < fibers_sent;) {
                      while (s.in.empty()) weft::pause_in_spin();
                      s.in.take_all([&](weft::fiber_block& fiber) {
                          model::expect(s.data[fiber.index].read() == 1,
                                        "what the producer wrote is not there");
                          model::expect(++times[fiber.index] == 1, "a fiber came twice");
                          model::expect(fiber.index != 1 || times[0] == 1,
                                        "two of one producer are out of order");
                          ++taken;
                      });
                  }
              }}},
            [](shared_inbox& s) { model::expect(s.in.empty(), "a fiber too many"); }};
}

const model::exploring two_fibers = [](const auto& how) { return explore(two_producers(2), how); };
const model::exploring three_fibers = [](const auto& how) { return explore(two_producers(3), how); };

}  // namespace

TEST_CASE("inbox: what two threads push comes once, in the order of each, with what they wrote") {
    check_passes("two fibers", two_fibers);
    check_passes("three fibers", three_fibers);
}

TEST_CASE("inbox: every order is needed") {
    check_needless_orders("inbox", {two_fibers}, {});
}
