// In place of ring.cpp in a build without io_uring.
#include <cerrno>

#include <weft/runtime/ring.hpp>

namespace weft {

result<std::unique_ptr<engine>> make_ring(const ring_options&) {
    return failure(ring_setup_error(EOPNOTSUPP));
}

result<std::unique_ptr<engine>> make_default_ring() {
    return make_ring({});
}

}  // namespace weft
