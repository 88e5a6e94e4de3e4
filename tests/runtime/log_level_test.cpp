#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include <weft/runtime/log.hpp>
#include <weft/runtime/log_level.hpp>

namespace {

// What reaches stderr while `act` runs and the log is flushed.
template <class Act>
std::string written_to_stderr(Act act) {
    char name[] = "/tmp/weft-log-XXXXXX";
    const int file = mkstemp(name);
    REQUIRE(file >= 0);
    unlink(name);
    weft::flush_log();
    const int before = dup(STDERR_FILENO);
    dup2(file, STDERR_FILENO);
    act();
    weft::flush_log();
    dup2(before, STDERR_FILENO);
    close(before);
    std::string text(static_cast<std::size_t>(lseek(file, 0, SEEK_END)), '\0');
    REQUIRE(pread(file, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
    close(file);
    return text;
}

bool contains(const std::string& text, const char* what) {
    return text.find(what) != std::string::npos;
}

}  // namespace

TEST_CASE("log level: every name that is documented is taken, and nothing else") {
    for (const char* name : {"trace", "debug", "info", "warn", "error", "off"}) {
        CAPTURE(name);
        CHECK(weft::set_log_level(name));
    }
    for (const char* name : {"", "loud", "WARN", "info ", "3"}) {
        CAPTURE(name);
        CHECK(weft::set_log_level(name).error() == std::errc::invalid_argument);
    }
    CHECK(weft::set_log_level("warn"));
}

TEST_CASE("log level: what is below the level is not written, what is at or above it is") {
    const auto lines_at = [](const char* level) {
        REQUIRE(weft::set_log_level(level));
        return written_to_stderr([] {
            weft::log::debug("a {} line", "debug");
            weft::log::info("an {} line", "info");
            weft::log::warn("a {} line", "warn");
            weft::log::error("an {} line", "error");
        });
    };
    const std::string at_info = lines_at("info");
    CHECK_FALSE(contains(at_info, "a debug line"));
    CHECK(contains(at_info, "an info line"));
    CHECK(contains(at_info, "a warn line"));
    CHECK(contains(at_info, "an error line"));
    const std::string at_error = lines_at("error");
    CHECK_FALSE(contains(at_error, "a warn line"));
    CHECK(contains(at_error, "an error line"));
    CHECK(lines_at("off").empty());
    REQUIRE(weft::set_log_level("warn"));
}

TEST_CASE("log level: flushing waits until all that was logged before has been written") {
    constexpr int lines = 2000;
    for (int round = 0; round < 5; ++round) {
        const std::string text = written_to_stderr([] {
            for (int n = 0; n < lines; ++n) weft::log::warn("line {}", n);
        });
        CHECK(std::count(text.begin(), text.end(), '\n') == lines);
        CHECK(contains(text, "line 1999"));
    }
}
