#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include <weft/runtime/hardware.hpp>

#include "support.hpp"

using weft::cpu_features;
using weft::hardware_help;
using weft::spin_method;
using weft::testing::watchdog;

namespace {

// What /proc/cpuinfo names for the first CPU.
std::set<std::string> features_in_cpuinfo() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        if (!line.starts_with("flags") && !line.starts_with("Features")) continue;
        std::istringstream words(line.substr(line.find(':') + 1));
        std::set<std::string> found;
        for (std::string word; words >> word;) found.insert(word);
        return found;
    }
    return {};
}

constexpr cpu_features everything{
    .waitpkg = true, .monitorx = true, .cldemote = true, .wfet = true, .event_stream = true};

spin_method method_with(const cpu_features& features) {
    return hardware_help(features, true, true).method();
}

alignas(64) const std::uint64_t quiet_line[8] = {};

void check_that_waits_end(const hardware_help& help) {
    const watchdog watch("a wait for a line that nobody writes to did not end");
    for (int n = 0; n < 1'000; ++n) {
        help.watch(quiet_line);
        help.wait();
        help.demote(quiet_line);
    }
}

}  // namespace

TEST_CASE("hardware help: what is found agrees with /proc/cpuinfo" *
          doctest::skip(weft::testing::emulated)) {  // the file is the host's there
    const std::set<std::string> named = features_in_cpuinfo();
    const cpu_features found = weft::read_cpu_features();
    CHECK(found.waitpkg == named.contains("waitpkg"));
    CHECK(found.monitorx == named.contains("mwaitx"));
    CHECK(found.cldemote == named.contains("cldemote"));
    CHECK(found.wfet == named.contains("wfxt"));
    CHECK(found.event_stream == named.contains("evtstrm"));
}

#if defined(__x86_64__)
TEST_CASE("hardware help: each feature is one bit of CPUID, and no other bit") {
    const auto with = [](auto features, bool cpu_features::* member) {
        features.*member = true;
        return features;
    };
    for (unsigned bit = 0; bit < 32; ++bit) {
        CAPTURE(bit);
        const cpu_features none;
        CHECK(weft::features_from_cpuid(1u << bit, 0) == (bit == 5    ? with(none, &cpu_features::waitpkg)
                                                          : bit == 25 ? with(none, &cpu_features::cldemote)
                                                                      : none));
        CHECK(weft::features_from_cpuid(0, 1u << bit) ==
              (bit == 29 ? with(none, &cpu_features::monitorx) : none));
    }
}
#endif

TEST_CASE("hardware help: without being asked for, nothing but pause is used on a CPU that has everything") {
    CHECK(hardware_help().method() == spin_method::pause);
    CHECK_FALSE(hardware_help().demotes());
    const weft::runtime_options by_default;
    const hardware_help help(everything, by_default.hardware_wait, by_default.hardware_demote);
    CHECK(help.method() == spin_method::pause);
    CHECK_FALSE(help.demotes());
}

TEST_CASE("hardware help: asked for, it is used only where the CPU has it") {
    CHECK(method_with({}) == spin_method::pause);
    CHECK(method_with({.cldemote = true}) == spin_method::pause);
    CHECK(method_with({.waitpkg = true}) == spin_method::umwait);
    CHECK(method_with({.monitorx = true}) == spin_method::mwaitx);
    CHECK(method_with({.event_stream = true}) == spin_method::wfe);
    CHECK(method_with({.wfet = true, .event_stream = true}) == spin_method::wfet);
    CHECK_FALSE(hardware_help({.waitpkg = true}, true, true).demotes());
    CHECK(hardware_help({.cldemote = true}, true, true).demotes());
    CHECK_FALSE(hardware_help({.cldemote = true}, true, false).demotes());
}

TEST_CASE("hardware help: the log is told what was found and what of it is used") {
    CHECK(hardware_help({}, true, true).description() == "spinning with pause (the CPU offers nothing else)");
    CHECK(hardware_help({.waitpkg = true, .cldemote = true}, false, false).description() ==
          "spinning with pause (the CPU offers umwait cldemote)");
    CHECK(hardware_help({.waitpkg = true, .cldemote = true}, true, true).description() ==
          "spinning with umwait and cldemote (the CPU offers umwait cldemote)");
}

TEST_CASE("hardware help: a wait for a line that nobody writes to ends, with what this CPU has") {
    check_that_waits_end(hardware_help(weft::read_cpu_features(), true, true));
}

#if defined(__aarch64__)
TEST_CASE("hardware help: a wait by wfe ends in an emulator, which takes it for a hint" *
          doctest::skip(!weft::testing::emulated)) {
    check_that_waits_end(hardware_help({.event_stream = true}, true, false));
}
#elif defined(__x86_64__)
TEST_CASE("hardware help: cldemote is no more than a hint, also to a CPU that does not know it") {
    check_that_waits_end(hardware_help({.cldemote = true}, false, true));
}
#endif
