// What a stack overflow says before the process dies of it. Internal.
#pragma once

#include <weft/runtime/arena.hpp>

namespace weft {

/// For as long as it lives, the calling thread has a second stack for signal handlers: a fiber that has used
/// up its own has no room for one.
class signal_stack {
  public:
    signal_stack() noexcept;
    signal_stack(const signal_stack&) = delete;
    signal_stack& operator=(const signal_stack&) = delete;
    ~signal_stack();

  private:
    reserved_memory memory_;
};

/// From now on a fault in the guard below a fiber's stack is reported on stderr, with the fiber's name, its
/// function, the bounds of its stack and the innermost calls, before the signal takes the course that it
/// would have taken without this. Once per process; nothing when a sanitizer watches already.
void report_stack_overflows() noexcept;

}  // namespace weft
