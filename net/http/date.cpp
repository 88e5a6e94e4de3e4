#include <weft/net/http/date.hpp>

#include <cstdio>

namespace weft::http {

std::array<char, 29> format_date(std::time_t seconds) noexcept {
    // Not strftime: its names follow the locale.
    static constexpr std::array<const char*, 7> days{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static constexpr std::array<const char*, 12> months{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    std::tm utc{};
    gmtime_r(&seconds, &utc);
    std::array<char, 64> text;
    std::snprintf(text.data(), text.size(), "%s, %02d %s %04d %02d:%02d:%02d GMT",
                  days[static_cast<std::size_t>(utc.tm_wday)], utc.tm_mday,
                  months[static_cast<std::size_t>(utc.tm_mon)], utc.tm_year + 1900, utc.tm_hour, utc.tm_min,
                  utc.tm_sec);
    std::array<char, 29> date;
    for (std::size_t n = 0; n < date.size(); ++n) date[n] = text[n];
    return date;
}

}  // namespace weft::http
