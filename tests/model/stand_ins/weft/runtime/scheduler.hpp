// What waiter.cpp needs of the scheduler, for the model checker; the test defines it.
#pragma once

#include <weft/runtime/fiber_block.hpp>

namespace weft {

class scheduler {
  public:
    static void wake_if_live(fiber_block& fiber, std::uint32_t generation) noexcept;
};

}  // namespace weft
