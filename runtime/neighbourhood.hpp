// Which other workers are near one worker, and to which of them it may pass fibers on. Internal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include <weft/runtime/topology.hpp>

namespace weft {

enum class mesh_reach : std::uint8_t;

/// The other workers as one worker sees them: those on near CPUs first, and how many of them lie how near.
struct neighbourhood {
    std::vector<unsigned> nearest_first;
    std::size_t in_l3 = 0;
    std::size_t in_node = 0;
    std::size_t in_mesh = 0;  ///< To which fibers may be passed on.
};

/// Of worker `index`, where worker n is bound to cpus[n], one of the machine's, or where none is bound: then
/// all are equally near.
neighbourhood neighbours_of(unsigned index, const std::vector<std::optional<int>>& cpus,
                            const topology& machine, mesh_reach reach);

}  // namespace weft
