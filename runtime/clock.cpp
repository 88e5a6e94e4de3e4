#include <weft/runtime/assert.hpp>
#include <weft/runtime/clock.hpp>

namespace weft {
namespace {

class system_monotonic_clock final : public clock {
  public:
    time_point now() const noexcept override { return std::chrono::steady_clock::now(); }
};

}  // namespace

const clock& monotonic_clock() noexcept {
    static const system_monotonic_clock instance;
    return instance;
}

void manual_clock::advance(duration step) noexcept {
    WEFT_ASSERT(step >= duration::zero(), "a clock was advanced by a negative step: it would go back");
    now_ns_.fetch_add(step.count(), std::memory_order_acq_rel);
}

}  // namespace weft
