#include <weft/runtime/result.hpp>

#include <string>

namespace weft {
namespace {

class weft_category final : public std::error_category {
  public:
    const char* name() const noexcept override { return "weft"; }

    std::string message(int code) const override {
        switch (static_cast<errc>(code)) {
            case errc::timed_out:
                return "timed out";
            case errc::cancelled:
                return "cancelled";
            case errc::closed:
                return "already closed";
            case errc::end_of_stream:
                return "the peer finished sending too early";
            case errc::address_invalid:
                return "not a valid address";
            case errc::no_such_fiber:
                return "no such fiber";
            case errc::too_many_fibers:
                return "too many fibers";
            case errc::reported:
                return "the log says why";
        }
        return "unknown error " + std::to_string(code);
    }

    // So that a caller may ask `error == std::errc::timed_out` without knowing which layer noticed.
    std::error_condition default_error_condition(int code) const noexcept override {
        switch (static_cast<errc>(code)) {
            case errc::timed_out:
                return std::errc::timed_out;
            case errc::cancelled:
                return std::errc::operation_canceled;
            default:
                return {code, *this};
        }
    }
};

}  // namespace

const std::error_category& error_category() noexcept {
    static const weft_category instance;
    return instance;
}

}  // namespace weft
