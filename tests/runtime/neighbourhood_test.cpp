#include <doctest/doctest.h>

#include <optional>
#include <string>
#include <vector>

#include <weft/runtime/neighbourhood.hpp>
#include <weft/runtime/runtime.hpp>

#include "fake_machine.hpp"

using weft::mesh_reach;
using weft::neighbourhood;
using weft::neighbours_of;
using weft::topology;
using weft::testing::fake_machine;
using weft::testing::make_two_l3_groups;

namespace {

using workers = std::vector<unsigned>;
using bindings = std::vector<std::optional<int>>;

// Two sockets, which are nodes, of two L3 caches with two cores each: 0,1 and 2,3 on node 0, 4,5 and 6,7 on
// node 1.
topology read_two_nodes() {
    const fake_machine machine;
    for (int id = 0; id < 8; ++id) {
        const int first = id / 2 * 2;
        machine.cpu_with(id, std::to_string(id), std::to_string(first) + '-' + std::to_string(first + 1),
                         id < 4 ? "0" : "1");
    }
    machine.write("devices/system/node/online", "0-1");
    machine.node(0, "0-3");
    machine.node(1, "4-7");
    return machine.read({0, 1, 2, 3, 4, 5, 6, 7});
}

topology read_two_l3_groups() {
    const fake_machine machine;
    make_two_l3_groups(machine);
    return machine.read({0, 1, 2, 3, 4, 5, 6, 7});
}

}  // namespace

TEST_CASE("neighbourhood: a worker alone has no neighbours") {
    const auto machine = read_two_nodes();
    for (const auto& cpus : {bindings{std::nullopt}, bindings{5}}) {
        const neighbourhood seen = neighbours_of(0, cpus, machine, mesh_reach::all);
        CHECK(seen.nearest_first.empty());
        CHECK(seen.in_l3 == 0);
        CHECK(seen.in_node == 0);
        CHECK(seen.in_mesh == 0);
    }
}

TEST_CASE("neighbourhood: workers without CPUs of their own are equally near, each one's successor first") {
    const auto machine = read_two_nodes();
    for (const auto reach : {mesh_reach::l3, mesh_reach::all}) {
        const neighbourhood seen = neighbours_of(2, bindings(4), machine, reach);
        CHECK(seen.nearest_first == workers{3, 0, 1});
        CHECK(seen.in_l3 == 3);
        CHECK(seen.in_node == 3);
        CHECK(seen.in_mesh == 3);
    }
}

TEST_CASE(
    "neighbourhood: under the same L3 first, then on the same node, then the rest, each group from the "
    "lowest CPU on") {
    const auto machine = read_two_nodes();
    const bindings cpus{0, 1, 2, 3, 4, 5, 6, 7};
    const neighbourhood of_0 = neighbours_of(0, cpus, machine, mesh_reach::all);
    CHECK(of_0.nearest_first == workers{1, 2, 3, 4, 5, 6, 7});
    CHECK(of_0.in_l3 == 1);
    CHECK(of_0.in_node == 3);
    CHECK(of_0.in_mesh == 7);
    CHECK(neighbours_of(5, cpus, machine, mesh_reach::all).nearest_first == workers{4, 6, 7, 0, 1, 2, 3});
}

TEST_CASE("neighbourhood: it is the CPUs that are near, not the numbers of the workers") {
    const bindings cpus{7, 0, 6, 2, 1};
    const neighbourhood seen = neighbours_of(1, cpus, read_two_nodes(), mesh_reach::all);
    CHECK(seen.nearest_first == workers{4, 3, 2, 0});
    CHECK(seen.in_l3 == 1);
    CHECK(seen.in_node == 2);
}

TEST_CASE("neighbourhood: a mesh that reaches as far as the L3 ends there, in the same order") {
    const auto machine = read_two_nodes();
    const bindings cpus{0, 1, 2, 3, 4, 5, 6, 7};
    const neighbourhood seen = neighbours_of(6, cpus, machine, mesh_reach::l3);
    CHECK(seen.nearest_first == workers{7, 4, 5, 0, 1, 2, 3});
    CHECK(seen.in_l3 == 1);
    CHECK(seen.in_node == 3);
    CHECK(seen.in_mesh == 1);
    // Nobody else under that L3.
    CHECK(neighbours_of(0, {0, 2, 4}, machine, mesh_reach::l3).in_mesh == 0);
}

TEST_CASE("neighbourhood: an SMT sibling comes after the other cores under the L3, and counts to it") {
    const auto machine = read_two_l3_groups();
    const neighbourhood seen = neighbours_of(0, {0, 1, 2, 3, 4, 5, 6, 7}, machine, mesh_reach::l3);
    CHECK(seen.nearest_first == workers{1, 5, 4, 2, 3, 6, 7});
    CHECK(seen.in_l3 == 3);
    CHECK(seen.in_node == 7);
    CHECK(seen.in_mesh == 3);
}

TEST_CASE("neighbourhood: several workers on one CPU are each other's nearest") {
    const auto machine = read_two_l3_groups();
    // As runtime_options::cpus {0, 2, 4} gives them to seven workers.
    const bindings cpus{0, 2, 4, 0, 2, 4, 0};
    const neighbourhood seen = neighbours_of(3, cpus, machine, mesh_reach::l3);
    CHECK(seen.nearest_first == workers{6, 0, 5, 2, 4, 1});
    CHECK(seen.in_l3 == 4);
    CHECK(seen.in_node == 6);
    CHECK(seen.in_mesh == 4);
}

TEST_CASE(
    "neighbourhood: those on the same node come first too where the kernel tells of one L3 for several "
    "nodes") {
    const fake_machine machine;
    for (int id = 0; id < 4; ++id) machine.cpu_with(id, std::to_string(id), "0-3", "0");
    machine.write("devices/system/node/online", "0-1");
    machine.node(0, "0,2");
    machine.node(1, "1,3");
    const neighbourhood seen = neighbours_of(0, {0, 1, 2, 3}, machine.read({0, 1, 2, 3}), mesh_reach::all);
    CHECK(seen.nearest_first == workers{2, 1, 3});
    CHECK(seen.in_node == 1);
    CHECK(seen.in_l3 == 1);
}
