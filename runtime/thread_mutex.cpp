#include <weft/runtime/thread_mutex.hpp>

namespace weft::detail {
namespace {

thread_local int locks_held = 0;

}  // namespace

// Functions that the compiler cannot look into, as worker::current().

[[gnu::noipa]] int thread_locks_held() noexcept {
    return locks_held;
}

[[gnu::noipa]] void count_thread_locks(int more) noexcept {
    locks_held += more;
}

}  // namespace weft::detail
