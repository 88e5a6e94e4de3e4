// The Date header's value, made once a second.
#pragma once

#include <array>
#include <ctime>
#include <string_view>

namespace weft::http {

/// `Tue, 24 Nov 2026 06:30:00 GMT` (IMF-fixdate, RFC 9110, section 5.6.7).
std::array<char, 29> format_date(std::time_t seconds) noexcept;

/// The present date. One per worker; only fibers of that worker use it.
class date_cache {
  public:
    /// Valid until the next call.
    std::string_view now() noexcept {
        timespec time;
        clock_gettime(CLOCK_REALTIME_COARSE, &time);  // no system call
        if (time.tv_sec != second_) [[unlikely]] {
            second_ = time.tv_sec;
            text_ = format_date(second_);
        }
        return {text_.data(), text_.size()};
    }

  private:
    std::time_t second_ = -1;
    std::array<char, 29> text_{};
};

}  // namespace weft::http
