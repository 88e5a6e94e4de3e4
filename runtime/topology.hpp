// Which CPUs this process may use, and how near they are to each other, as the kernel tells it.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <weft/runtime/result.hpp>

namespace weft {

struct cpu {
    int id;        ///< The kernel's number.
    int core;      ///< SMT siblings share it. Counted from 0 over the CPUs listed.
    int l3_group;  ///< CPUs of one node with a common L3 cache share it. Counted from 0 over the CPUs listed.
    int numa_node;  ///< The kernel's number; 0 where it tells of none.

    friend bool operator==(const cpu&, const cpu&) = default;
};

/// Where the facts come from. Tests put others in their place.
struct topology_sources {
    std::string sysfs = "/sys";
    std::string cgroup_file = "/proc/self/cgroup";
    std::optional<std::vector<int>> affinity = std::nullopt;  ///< Without it: the mask of this thread.
};

/// A picture taken by read(); it does not follow later changes.
class topology {
  public:
    /// Never fails. Where the kernel does not tell of L3 caches, as in many virtual machines and containers,
    /// the CPUs of a package count as a group, and where it does not tell of packages either, all CPUs do;
    /// but no group reaches beyond a node.
    static topology read(const topology_sources& sources = {});

    /// Those that the affinity mask allows, in the order of their numbers.
    std::span<const cpu> cpus() const noexcept { return cpus_; }

    /// How many CPUs' worth of time this process can get: the CPUs above, or fewer where a cgroup's quota
    /// says so (rounded up). At least 1.
    int usable_cpus() const noexcept { return usable_cpus_; }

    /// The other CPUs, nearest first: other cores under the same L3, then SMT siblings, which are as near but
    /// share this one's execution units, then the same NUMA node, then the rest; equals by number. `id` is
    /// one of cpus().
    std::vector<int> neighbours(int id) const;

  private:
    std::vector<cpu> cpus_;
    int usable_cpus_ = 1;
};

/// The CPUs that a list such as `0-3,8,10-11` names, in its order. Anything but numbers below 4096 and rising
/// ranges, also a number that comes twice, is std::errc::invalid_argument.
[[nodiscard]] result<std::vector<int>> parse_cpu_list(std::string_view text);

}  // namespace weft
