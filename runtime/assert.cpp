#include <weft/runtime/assert.hpp>

#include <cstdio>
#include <cstdlib>

namespace weft::detail {

void assertion_failed(const char* sentence, const char* file, int line) noexcept {
    std::fprintf(stderr, "weft: %s (%s:%d)\n", sentence, file, line);
    std::abort();
}

}  // namespace weft::detail
