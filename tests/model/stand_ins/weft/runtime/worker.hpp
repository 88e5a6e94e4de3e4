// What waiter.cpp needs of a worker, for the model checker; the test defines it.
#pragma once

#include <weft/runtime/fiber_block.hpp>

namespace weft {

class worker {
  public:
    static worker* current() noexcept;
    fiber_block* running() noexcept { return running_; }
    time_point now() const noexcept { return {}; }
    void run(fiber_block* fiber) noexcept { running_ = fiber; }

  private:
    fiber_block* running_ = nullptr;
};

}  // namespace weft
