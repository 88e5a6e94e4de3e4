// Memory for a read, given only when there is something to put in it.
#pragma once

#include <cstddef>
#include <span>

namespace weft {

/// Where a read finds memory, asked for once there is something to read: until then the reader needs to hold
/// none. Refers to the function that it was made from, which must outlive the call that it is passed to.
class buffer_source {
  public:
    template <class Function>
    buffer_source(Function& function) noexcept
        : function_(const_cast<void*>(static_cast<const void*>(&function))),
          get_([](void* erased) -> std::span<std::byte> { return (*static_cast<Function*>(erased))(); }) {}
    std::span<std::byte> operator()() const { return get_(function_); }

  private:
    void* function_;
    std::span<std::byte> (*get_)(void*);
};

}  // namespace weft
