#include <doctest/doctest.h>

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <sched.h>

#include <weft/runtime/topology.hpp>

#include "fake_machine.hpp"

using weft::cpu;
using weft::parse_cpu_list;
using weft::topology;
using weft::testing::fake_machine;
using weft::testing::make_two_l3_groups;
using namespace std::string_view_literals;

namespace {

std::vector<cpu> cpus(const topology& machine) {
    return {machine.cpus().begin(), machine.cpus().end()};
}

using ids = std::vector<int>;

}  // namespace

TEST_CASE("topology: two L3 caches on one socket are two groups, and siblings share a core") {
    fake_machine machine;
    make_two_l3_groups(machine);
    CHECK(cpus(machine.read({0, 1, 2, 3, 4, 5, 6, 7})) == std::vector<cpu>{{0, 0, 0, 0},
                                                                           {1, 1, 0, 0},
                                                                           {2, 2, 1, 0},
                                                                           {3, 3, 1, 0},
                                                                           {4, 0, 0, 0},
                                                                           {5, 1, 0, 0},
                                                                           {6, 2, 1, 0},
                                                                           {7, 3, 1, 0}});
}

TEST_CASE("topology: neighbours come nearest first, and a sibling after the other cores under the same L3") {
    fake_machine machine;
    make_two_l3_groups(machine);
    const auto read = machine.read({0, 1, 2, 3, 4, 5, 6, 7});
    CHECK(read.neighbours(0) == ids{1, 5, 4, 2, 3, 6, 7});
    CHECK(read.neighbours(6) == ids{3, 7, 2, 0, 1, 4, 5});
}

TEST_CASE("topology: neighbours on the same node come before those on another") {
    fake_machine machine;
    for (const int id : {0, 1, 2, 3, 4, 5})
        machine.cpu_with(id, std::to_string(id), id % 2 ? "1,3,5" : "0,2,4", "0");
    machine.cpu_with(4, "4", "4", "0");
    machine.write("devices/system/node/online", "0,8");
    machine.node(0, "1,3,5");
    machine.node(8, "0,2,4");
    const auto read = machine.read({0, 1, 2, 3, 4, 5});
    CHECK(read.cpus()[0].numa_node == 8);
    CHECK(read.cpus()[1].numa_node == 0);
    CHECK(read.neighbours(0) == ids{2, 4, 1, 3, 5});
    CHECK(read.neighbours(4) == ids{0, 2, 1, 3, 5});
}

TEST_CASE("topology: an L3 group ends where the node does, whatever the kernel tells of the cache") {
    for (const auto l3_shared : {"0-3"sv, ""sv}) {
        CAPTURE(std::string(l3_shared));
        fake_machine machine;
        for (const int id : {0, 1, 2, 3}) machine.cpu_with(id, std::to_string(id), l3_shared, "0");
        machine.write("devices/system/node/online", "0-1");
        machine.node(0, "0,2");
        machine.node(1, "1,3");
        const auto read = machine.read({0, 1, 2, 3});
        CHECK(cpus(read) == std::vector<cpu>{{0, 0, 0, 0}, {1, 1, 1, 1}, {2, 2, 0, 0}, {3, 3, 1, 1}});
        CHECK(read.neighbours(0) == ids{2, 1, 3});
    }
}

TEST_CASE("topology: a node without CPUs is no trouble") {
    fake_machine machine;
    machine.write("devices/system/node/online", "0-1");
    machine.node(0, "0-1");
    machine.node(1, "");
    CHECK(machine.read({0, 1}).cpus()[1].numa_node == 0);
}

TEST_CASE("topology: without cache folders each package is a group") {
    fake_machine machine;
    for (const int id : {0, 1, 2, 3}) machine.cpu_with(id, std::to_string(id), "", id < 2 ? "0" : "1");
    CHECK(cpus(machine.read({0, 1, 2, 3})) ==
          std::vector<cpu>{{0, 0, 0, 0}, {1, 1, 0, 0}, {2, 2, 1, 0}, {3, 3, 1, 0}});
}

TEST_CASE("topology: without any files each CPU is a core and all are one group on node 0") {
    fake_machine machine;
    const auto read = machine.read({0, 1, 2});
    CHECK(cpus(read) == std::vector<cpu>{{0, 0, 0, 0}, {1, 1, 0, 0}, {2, 2, 0, 0}});
    CHECK(read.usable_cpus() == 3);
}

TEST_CASE("topology: CPUs outside the affinity mask do not appear, and groups are counted without them") {
    fake_machine machine;
    make_two_l3_groups(machine);
    const auto read = machine.read({7, 2, 3});
    CHECK(cpus(read) == std::vector<cpu>{{2, 0, 0, 0}, {3, 1, 0, 0}, {7, 1, 0, 0}});
    CHECK(read.neighbours(3) == ids{2, 7});
    CHECK(read.usable_cpus() == 3);
}

TEST_CASE("topology: a cgroup v2 quota is rounded up and limits the usable CPUs") {
    struct {
        std::string_view cpu_max;
        int usable;
    } const cases[] = {
        {"max 100000", 8},
        {"max", 8},
        {"200000 100000", 2},
        {"200001 100000", 3},  //
        {"1000 100000", 1},
        {"150000 50000", 3},
        {"9900000 100000", 8},
        {"", 8},
        {"garbage 100000", 8},
        {"100000 0", 8},
        {"-1 100000", 8},
        {"100000 garbage", 8},
        {"9223372036854775807 1", 8},
    };
    for (const auto& expected : cases) {
        CAPTURE(expected.cpu_max);
        fake_machine machine;
        machine.cgroup("0::/service");
        machine.write("fs/cgroup/service/cpu.max", expected.cpu_max);
        CHECK(machine.usable_of_eight() == expected.usable);
    }
}

TEST_CASE("topology: the smallest quota on the way up counts") {
    fake_machine machine;
    machine.cgroup("0::/outer/middle/inner");
    machine.write("fs/cgroup/outer/middle/inner/cpu.max", "500000 100000");
    machine.write("fs/cgroup/outer/middle/cpu.max", "max 100000");
    machine.write("fs/cgroup/outer/cpu.max", "250000 100000");
    CHECK(machine.usable_of_eight() == 3);
}

TEST_CASE("topology: a container sees its quota at the mount point, whatever its path says") {
    for (const char* line : {"0::/", "0::/docker/no-such-folder", "0::/../.."}) {
        CAPTURE(line);
        fake_machine machine;
        machine.cgroup(line);
        machine.write("fs/cgroup/cpu.max", "200000 100000");
        CHECK(machine.usable_of_eight() == 2);
    }
}

TEST_CASE("topology: cgroup v1 quotas are read where the cpu controller is mounted") {
    for (const auto& [line, mount] :
         {std::pair("4:cpu,cpuacct:/service", "cpu,cpuacct"), std::pair("1:cpu:/service", "cpu"),
          std::pair("3:cpuacct,cpu:/service", "cpu")}) {
        CAPTURE(line);
        fake_machine machine;
        machine.cgroup("9:name=systemd:/\n3:cpuset:/service\n" + std::string(line) + "\n0::/");
        const auto directory = "fs/cgroup/" + std::string(mount) + "/service";
        machine.write(directory + "/cpu.cfs_period_us", "100000");
        machine.write(directory + "/cpu.cfs_quota_us", "-1");
        CHECK(machine.usable_of_eight() == 8);
        machine.write(directory + "/cpu.cfs_quota_us", "350000");
        CHECK(machine.usable_of_eight() == 4);
    }
}

TEST_CASE("topology: lines that are not of a cgroup file are skipped") {
    for (const char* line : {"", ":", "::", "0::", "0::x", "junk", "0::relative/path"}) {
        fake_machine machine;
        machine.cgroup(line);
        CHECK(machine.usable_of_eight() == 8);
    }
}

TEST_CASE("topology: read from this machine, it agrees with the affinity mask") {
    const auto here = topology::read();
    cpu_set_t mask;
    REQUIRE(sched_getaffinity(0, sizeof(mask), &mask) == 0);
    CHECK(static_cast<int>(here.cpus().size()) == CPU_COUNT(&mask));
    CHECK(here.usable_cpus() >= 1);
    CHECK(here.usable_cpus() <= CPU_COUNT(&mask));
    for (const cpu& each : here.cpus()) {
        CHECK(CPU_ISSET(each.id, &mask));
        CHECK(here.neighbours(each.id).size() == here.cpus().size() - 1);
    }
}

TEST_CASE("cpu list: numbers and rising ranges, in the order given") {
    CHECK(parse_cpu_list("0") == ids{0});
    CHECK(parse_cpu_list("0-3,8,10-11") == ids{0, 1, 2, 3, 8, 10, 11});
    CHECK(parse_cpu_list("8,2-3") == ids{8, 2, 3});
    CHECK(parse_cpu_list("5-5") == ids{5});
    CHECK(parse_cpu_list("4095") == ids{4095});
    CHECK(parse_cpu_list("0-4095").value().size() == 4096);
}

TEST_CASE("cpu list: anything else is refused") {
    for (const std::string_view text :
         {""sv,       ","sv,          "0,"sv,           ",0"sv,
          "0,,1"sv,   "-"sv,          "-1"sv,           "1-"sv,
          "+1"sv,     "0-1-2"sv,      "0--2"sv,         " 0"sv,
          "0 "sv,     "0, 1"sv,       "0\n"sv,          "0\0"sv,
          "a"sv,      "0x1"sv,        "1.5"sv,          "3-0"sv,
          "0,0"sv,    "0-3,2"sv,      "2,0-3"sv,        "4096"sv,
          "0-4096"sv, "4294967296"sv, "0-4294967295"sv, "99999999999999999999"sv,
          "0-3:2"sv,  "all"sv}) {
        CAPTURE(std::string(text));
        const auto parsed = parse_cpu_list(text);
        REQUIRE_FALSE(parsed);
        CHECK(parsed.error() == std::errc::invalid_argument);
    }
}
