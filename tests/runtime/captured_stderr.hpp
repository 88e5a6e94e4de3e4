// What is written to stderr, kept for a test to look at.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>

#include <weft/runtime/log_level.hpp>

namespace weft::testing {

/// For as long as it lives, stderr goes to a file of its own.
class captured_stderr {
  public:
    captured_stderr() : file_(std::tmpfile()), before_(dup(STDERR_FILENO)) {
        REQUIRE(file_ != nullptr);
        dup2(fileno(file_), STDERR_FILENO);
    }
    captured_stderr(const captured_stderr&) = delete;
    captured_stderr& operator=(const captured_stderr&) = delete;
    ~captured_stderr() {
        flush_log();
        dup2(before_, STDERR_FILENO);
        close(before_);
        std::fclose(file_);
    }

    /// All so far, also what the log has not written yet.
    std::string text() const {
        flush_log();
        std::string all(static_cast<std::size_t>(lseek(fileno(file_), 0, SEEK_CUR)), '\0');
        all.resize(
            static_cast<std::size_t>(std::max(ssize_t{0}, pread(fileno(file_), all.data(), all.size(), 0))));
        return all;
    }

  private:
    std::FILE* file_;
    int before_;
};

inline unsigned count_of(std::string_view part, std::string_view text) {
    unsigned count = 0;
    for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++count;
    return count;
}

}  // namespace weft::testing
