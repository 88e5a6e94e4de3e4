#include <weft/runtime/neighbourhood.hpp>

#include <algorithm>

#include <weft/runtime/runtime.hpp>

namespace weft {

neighbourhood neighbours_of(unsigned index, const std::vector<std::optional<int>>& cpus,
                            const topology& machine, mesh_reach reach) {
    std::vector<unsigned> others;
    for (unsigned step = 1; step < cpus.size(); ++step)
        others.push_back((index + step) % static_cast<unsigned>(cpus.size()));
    if (!cpus[index]) return {others, others.size(), others.size(), others.size()};
    // A CPU may have several workers: those are nearest of all.
    std::vector<int> nearest_first = machine.neighbours(*cpus[index]);
    nearest_first.insert(nearest_first.begin(), *cpus[index]);
    const auto distance = [&](unsigned other) {
        return std::find(nearest_first.begin(), nearest_first.end(), *cpus[other]) - nearest_first.begin();
    };
    std::stable_sort(others.begin(), others.end(),
                     [&](unsigned a, unsigned b) { return distance(a) < distance(b); });
    const auto cpu_of = [&](unsigned worker) {
        return *std::ranges::find(machine.cpus(), *cpus[worker], &cpu::id);
    };
    const auto count = [&](auto is_near) {
        return static_cast<std::size_t>(std::ranges::count_if(
            others, [&](unsigned other) { return is_near(cpu_of(index), cpu_of(other)); }));
    };
    const std::size_t in_l3 = count([](const cpu& a, const cpu& b) { return a.l3_group == b.l3_group; });
    const std::size_t in_node = count([](const cpu& a, const cpu& b) { return a.numa_node == b.numa_node; });
    return {others, in_l3, in_node, reach == mesh_reach::l3 ? in_l3 : others.size()};
}

}  // namespace weft
