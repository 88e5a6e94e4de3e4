// What the kernel would tell of another machine.
#pragma once

#include <doctest/doctest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <weft/runtime/topology.hpp>

namespace weft::testing {

/// A made-up machine: files under a temporary folder that goes with the object.
class fake_machine {
  public:
    fake_machine() {
        std::string pattern = std::filesystem::temp_directory_path() / "weft-topology-XXXXXX";
        REQUIRE(mkdtemp(pattern.data()) != nullptr);
        root_ = pattern;
    }
    fake_machine(const fake_machine&) = delete;
    fake_machine& operator=(const fake_machine&) = delete;
    ~fake_machine() {
        std::error_code ignored;
        std::filesystem::remove_all(root_, ignored);
    }

    void write(const std::string& path, std::string_view line) const {
        std::filesystem::create_directories((root_ / path).parent_path());
        std::ofstream(root_ / path) << line << '\n';
    }

    void cpu_with(int id, std::string_view siblings, std::string_view l3_shared,
                  std::string_view package) const {
        const auto directory = "devices/system/cpu/cpu" + std::to_string(id);
        write(directory + "/topology/thread_siblings_list", siblings);
        write(directory + "/topology/physical_package_id", package);
        if (l3_shared.empty()) return;
        write(directory + "/cache/index0/level", "1");
        write(directory + "/cache/index0/shared_cpu_list", siblings);
        write(directory + "/cache/index1/level", "3");
        write(directory + "/cache/index1/shared_cpu_list", l3_shared);
    }

    void node(int id, std::string_view cpus) const {
        write("devices/system/node/node" + std::to_string(id) + "/cpulist", cpus);
    }

    void cgroup(std::string_view lines) const { write("cgroup", lines); }

    topology read(std::vector<int> affinity) const {
        return topology::read(
            {.sysfs = root_, .cgroup_file = root_ / "cgroup", .affinity = std::move(affinity)});
    }

    int usable_of_eight() const { return read({0, 1, 2, 3, 4, 5, 6, 7}).usable_cpus(); }

  private:
    std::filesystem::path root_;
};

/// One socket, two L3 caches, four cores of two threads, numbered as on most servers: 0..3 and their
/// siblings 4..7.
inline void make_two_l3_groups(const fake_machine& machine) {
    for (int id = 0; id < 8; ++id) {
        const int core = id % 4;
        machine.cpu_with(id, std::to_string(core) + ',' + std::to_string(core + 4),
                         core < 2 ? "0-1,4-5" : "2-3,6-7", "0");
    }
}

}  // namespace weft::testing
