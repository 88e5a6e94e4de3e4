// The runtimes of this process: where a debugger, and a list of all fibers, begins. Internal.
#pragma once

#include <functional>

namespace weft {

class scheduler;

/// For as long as it lives, `registered` is found. It is complete when this begins, and still is when it
/// ends.
class registration {
  public:
    explicit registration(scheduler& registered) noexcept;
    registration(const registration&) = delete;
    registration& operator=(const registration&) = delete;
    ~registration();

    scheduler& registered;
    registration* next = nullptr;
};

namespace detail {
/// The latest first, linked through `next`. Debuggers look here (tools/weft-gdb.py); others call
/// for_each_runtime().
extern registration* all_runtimes;
}  // namespace detail

/// Calls `act` with each; none of them ends meanwhile, and `act` must neither make nor end one. Any thread.
void for_each_runtime(const std::function<void(scheduler&)>& act);

}  // namespace weft
