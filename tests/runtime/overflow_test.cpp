#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>

#include <doctest/doctest.h>

#include <weft/runtime/sanitizer.hpp>

#include "support.hpp"

// Outside of any namespace, so that the dynamic linker knows its name.
[[gnu::noipa]] int dive(int depth) {
    volatile char frame[512];
    frame[0] = static_cast<char>(depth);
    return depth == 0 ? 0 : dive(depth - 1) + frame[0];
}

namespace {

struct death {
    int signal = 0;
    std::string last_words;
};

// What a child says on stderr that does `act`, and what it dies of.
template <class Act>
death death_of(Act act) {
    std::array<int, 2> ends;
    REQUIRE(pipe(ends.data()) == 0);
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        signal(SIGSEGV, SIG_DFL);  // not doctest's
        act();
        _exit(0);
    }
    close(ends[1]);
    death seen;
    std::array<char, 256> bytes;
    for (ssize_t count; (count = read(ends[0], bytes.data(), bytes.size())) > 0;)
        seen.last_words.append(bytes.data(), static_cast<std::size_t>(count));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) seen.signal = WTERMSIG(status);
    return seen;
}

void in_fiber(int (*act)()) {
    const auto runtime = weft::testing::make_runtime(1, 64);
    runtime->spawn([act] { return act(); }, {.name = "diver"})->join();
}

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != text.npos;
}

}  // namespace

TEST_CASE("overflow: the process says which fiber overflowed which stack, and dies of the same signal") {
    if (weft::sanitizer::active) {
        MESSAGE("skipped: the sanitizer reports it in its own way");
        return;
    }
    const death seen = death_of([] { in_fiber([] { return dive(1'000'000); }); });
    CHECK(seen.signal == SIGSEGV);
    CAPTURE(seen.last_words);
    CHECK(contains(seen.last_words, "'diver' has overflown its stack of 65536 bytes"));
    CHECK(contains(seen.last_words, "in_fiber"));
    for (const char* frame : {"    #0 ", "    #1 ", "    #31 "}) {
        const std::string line =
            seen.last_words.substr(std::min(seen.last_words.find(frame), seen.last_words.size()));
        CHECK(contains(line.substr(0, line.find('\n')), "_Z4divei+"));
    }
    CHECK_FALSE(contains(seen.last_words, "    #32 "));
    CHECK(seen.last_words.ends_with("\n"));
}

TEST_CASE("overflow: any other fault in a fiber is none of its business") {
    if (weft::sanitizer::active) {
        MESSAGE("skipped: the sanitizer reports it in its own way");
        return;
    }
    const death seen = death_of([] {
        in_fiber([] {
            int* volatile nowhere = nullptr;
            return *nowhere;
        });
    });
    CHECK(seen.signal == SIGSEGV);
    CHECK_FALSE(contains(seen.last_words, "overflown"));
}
