#include <weft/runtime/topology.hpp>

#include <algorithm>
#include <array>
#include <bitset>
#include <charconv>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <numeric>
#include <thread>
#include <utility>

#include <sched.h>

#include <weft/runtime/assert.hpp>

namespace weft {
namespace {

constexpr int cpu_ids_max = 4096;

std::optional<std::string> read_line(const std::string& path) {
    std::string line;
    std::ifstream file(path);
    if (!std::getline(file, line)) return std::nullopt;
    return line;
}

// The whole text as a decimal number.
template <class Number>
std::optional<Number> parse_number(std::string_view text) {
    Number number = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc{} || stop != end) return std::nullopt;
    return number;
}

// Gives each distinct key a number: 0, 1, 2 in the order in which they turn up.
class numbering {
  public:
    int number_of(const std::string& key) {
        const auto found = std::ranges::find(keys_, key);
        const auto number = static_cast<int>(found - keys_.begin());
        if (found == keys_.end()) keys_.push_back(key);
        return number;
    }

  private:
    std::vector<std::string> keys_;
};

// A text that is the same for all CPUs under one L3 cache, and for no other.
std::string l3_key(const std::string& cpu_directory) {
    for (int index = 0;; ++index) {
        const auto cache = cpu_directory + "/cache/index" + std::to_string(index);
        const auto level = read_line(cache + "/level");
        if (!level) break;
        if (*level != "3") continue;
        if (const auto sharing = read_line(cache + "/shared_cpu_list")) return "L3 of " + *sharing;
    }
    return "package " + read_line(cpu_directory + "/topology/physical_package_id").value_or("unknown");
}

// The NUMA node of each CPU, by the CPU's number.
std::vector<int> numa_nodes(const std::string& sysfs) {
    std::vector<int> node_of_cpu(cpu_ids_max, 0);
    const auto directory = sysfs + "/devices/system/node/";
    const auto read_list = [&](const std::string& name) {
        return parse_cpu_list(read_line(directory + name).value_or("")).value_or(std::vector<int>{});
    };
    for (const int node : read_list("online"))
        for (const int id : read_list("node" + std::to_string(node) + "/cpulist")) node_of_cpu[id] = node;
    return node_of_cpu;
}

// cgroup v2 writes `max 100000` or `150000 100000`, v1 has a file for each and a quota of -1 for none.
std::optional<std::int64_t> cpus_by_quota(std::string_view quota_text, std::string_view period_text) {
    const auto quota = parse_number<std::int64_t>(quota_text);
    const auto period = parse_number<std::int64_t>(period_text);
    if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;
    return (*quota - 1) / *period + 1;
}

std::optional<std::int64_t> cpus_by_quota_in(const std::string& directory) {
    if (const auto line = read_line(directory + "/cpu.max")) {
        const std::string_view text = *line;
        const auto space = text.find(' ');
        if (space == text.npos) return std::nullopt;
        return cpus_by_quota(text.substr(0, space), text.substr(space + 1));
    }
    return cpus_by_quota(read_line(directory + "/cpu.cfs_quota_us").value_or(""),
                         read_line(directory + "/cpu.cfs_period_us").value_or(""));
}

// The mount points at which the hierarchy of a line of /proc/self/cgroup is usually found; none when that
// hierarchy does not govern CPU time.
std::vector<std::string> mount_points(std::string_view controllers) {
    if (controllers.empty()) return {"", "/unified"};
    const auto listed = ',' + std::string(controllers) + ',';
    if (listed.find(",cpu,") == listed.npos) return {};
    return {"/cpu", '/' + std::string(controllers)};
}

// The smallest quota of the process's cgroup and of all groups around it. In a container the path may lead
// nowhere and the mount point be the process's own group: the way up to the mount point finds it too.
int cpus_by_cgroup(const topology_sources& sources) {
    std::int64_t smallest = cpu_ids_max;
    const auto look_in = [&](const std::string& directory) {
        smallest = std::min(smallest, cpus_by_quota_in(directory).value_or(cpu_ids_max));
    };
    std::ifstream file(sources.cgroup_file);
    for (std::string line; std::getline(file, line);) {  // for example 4:cpu,cpuacct:/system.slice
        const auto first = line.find(':');
        const auto second = line.find(':', first + 1);
        if (first == line.npos || second == line.npos) continue;
        for (const auto& mount : mount_points(std::string_view(line).substr(first + 1, second - first - 1))) {
            const auto root = sources.sysfs + "/fs/cgroup" + mount;
            look_in(root);
            for (auto group = line.substr(second + 1); group.starts_with('/'); group.resize(group.rfind('/')))
                look_in(root + group);
        }
    }
    return static_cast<int>(smallest);
}

// The affinity mask, or all CPUs where a sandbox refuses to tell it.
std::vector<int> allowed_cpus() {
    std::array<cpu_set_t, cpu_ids_max / CPU_SETSIZE> mask{};
    std::vector<int> allowed;
    if (sched_getaffinity(0, sizeof(mask), mask.data()) == 0) {
        for (int id = 0; id < cpu_ids_max; ++id)
            if (CPU_ISSET_S(id, sizeof(mask), mask.data())) allowed.push_back(id);
    } else {
        allowed.resize(std::clamp(std::thread::hardware_concurrency(), 1u, unsigned{cpu_ids_max}));
        std::iota(allowed.begin(), allowed.end(), 0);
    }
    return allowed;
}

}  // namespace

topology topology::read(const topology_sources& sources) {
    auto ids = sources.affinity ? *sources.affinity : allowed_cpus();
    std::ranges::sort(ids);
    const auto node_of_cpu = numa_nodes(sources.sysfs);

    topology read;
    numbering cores, l3_groups;
    for (const int id : ids) {
        const auto directory = sources.sysfs + "/devices/system/cpu/cpu" + std::to_string(id);
        const auto siblings = read_line(directory + "/topology/thread_siblings_list");
        // Some processors have one L3 for several nodes, and what stands in for an L3 may span some too.
        const auto l3_on_node = l3_key(directory) + " on node " + std::to_string(node_of_cpu[id]);
        read.cpus_.push_back({.id = id,
                              .core = cores.number_of(siblings.value_or(std::to_string(id))),
                              .l3_group = l3_groups.number_of(l3_on_node),
                              .numa_node = node_of_cpu[id]});
    }
    read.usable_cpus_ = std::max(1, std::min(static_cast<int>(ids.size()), cpus_by_cgroup(sources)));
    return read;
}

std::vector<int> topology::neighbours(int id) const {
    const auto self = std::ranges::find(cpus_, id, &cpu::id);
    WEFT_ASSERT(self != cpus_.end(), "topology::neighbours() takes the number of one of cpus()");
    const auto distance = [&](const cpu& other) {
        if (other.l3_group == self->l3_group) return other.core == self->core ? 1 : 0;
        return other.numa_node == self->numa_node ? 2 : 3;
    };
    std::vector<cpu> others;
    std::ranges::copy_if(cpus_, std::back_inserter(others), [&](const cpu& other) { return other.id != id; });
    std::ranges::sort(others, {}, [&](const cpu& other) { return std::pair(distance(other), other.id); });

    std::vector<int> ids;
    std::ranges::transform(others, std::back_inserter(ids), &cpu::id);
    return ids;
}

result<std::vector<int>> parse_cpu_list(std::string_view text) {
    const auto invalid = failure(std::make_error_code(std::errc::invalid_argument));
    std::vector<int> ids;
    std::bitset<cpu_ids_max> named;
    for (std::size_t begin = 0; begin <= text.size();) {
        const auto item = text.substr(begin, text.find(',', begin) - begin);
        begin += item.size() + 1;

        const auto dash = item.find('-');
        const auto first = parse_number<unsigned>(item.substr(0, dash));
        const auto last = dash == item.npos ? first : parse_number<unsigned>(item.substr(dash + 1));
        if (!first || !last || *first > *last || *last >= named.size()) return invalid;
        for (auto id = *first; id <= *last; ++id) {
            if (named.test(id)) return invalid;
            named.set(id);
            ids.push_back(static_cast<int>(id));
        }
    }
    return ids;
}

}  // namespace weft
