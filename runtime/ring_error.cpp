#include <cerrno>
#include <fstream>
#include <string>

#include <weft/runtime/ring.hpp>

namespace weft {
namespace {

enum class setup_error { no_kernel_support = 1, disabled_by_sysctl, forbidden, no_memory, not_built };

class setup_error_category final : public std::error_category {
  public:
    const char* name() const noexcept override { return "io_uring"; }
    std::string message(int code) const override {
        switch (static_cast<setup_error>(code)) {
            case setup_error::no_kernel_support:
                return "io_uring is not there: this kernel was built without it or is older than Linux 6.1; "
                       "run a newer one";
            case setup_error::disabled_by_sysctl:
                return "io_uring is switched off by the sysctl kernel.io_uring_disabled; set it to 0";
            case setup_error::forbidden:
                return "io_uring is forbidden, most likely by a container's seccomp filter; allow "
                       "io_uring_setup, "
                       "io_uring_enter and io_uring_register in it";
            case setup_error::no_memory:
                return "io_uring got no memory; raise the limit of locked memory (ulimit -l) or the "
                       "container's memory";
            case setup_error::not_built:
                return "this weft was built without io_uring (the build's option io_uring); "
                       "runtime_options::make_engine must name another engine";
        }
        return "io_uring cannot be set up";
    }
};

std::error_code make(setup_error error) {
    static const setup_error_category category;
    return {static_cast<int>(error), category};
}

int io_uring_disabled_sysctl() {
    int value = 0;
    std::ifstream("/proc/sys/kernel/io_uring_disabled") >> value;
    return value;
}

}  // namespace

std::error_code ring_setup_error(int errno_value) {
    switch (errno_value) {
        case ENOSYS:
        case EINVAL:
            return make(setup_error::no_kernel_support);
        case EPERM:
        case EACCES:
            return make(io_uring_disabled_sysctl() > 0 ? setup_error::disabled_by_sysctl
                                                       : setup_error::forbidden);
        case ENOMEM:
            return make(setup_error::no_memory);
        case EOPNOTSUPP:
            return make(setup_error::not_built);
        default:
            return system_error(errno_value);
    }
}

}  // namespace weft
