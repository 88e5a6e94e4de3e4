// What the fibers of a runtime are doing: for logs, status pages and tests.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <weft/runtime/clock.hpp>
#include <weft/runtime/fiber.hpp>

namespace weft {

/// What a fiber was doing when it was looked at.
enum class fiber_activity : std::uint8_t {
    running,   ///< Its worker was on its stack.
    runnable,  ///< Queued, or on its way to its worker.
    parked,    ///< It waited for something.
    finished,  ///< It has returned, and nobody has joined it yet.
    failed,    ///< It has let an exception out, and nobody has joined it yet.
};
std::string_view name_of(fiber_activity activity) noexcept;

/// One fiber at one moment.
struct fiber_info {
    fiber_id id;
    std::string name;
    fiber_activity activity;
    unsigned worker;             ///< Where it lives.
    std::string_view waits_for;  ///< What it parked for, a literal; empty unless parked.
    duration waiting{};          ///< For how long; zero unless parked.
    std::string_view function;   ///< Which closure it runs, a literal; empty when it has ended.
};

/// `7.2 'connection' parked on worker 0 for 1.250 s, waiting for a receive; runs serve(...)::<lambda()>`
std::string to_string(const fiber_info& fiber);

/// All fibers of the calling fiber's runtime; runtime::fibers() is the same for other threads. Each is shown
/// as it was at some moment during the call, but not all at the same one. Does not park; slow when there are
/// very many.
std::vector<fiber_info> list_fibers();

namespace detail {
std::vector<fiber_info> list_fibers(scheduler& of);
/// A line for each of the first 10,000, and how many there are.
std::string listing(scheduler& of);
/// The fiber that this block held at some moment during the call; none when the block was unused.
std::optional<fiber_info> look_at(scheduler& of, std::uint32_t index);
/// Which closure the code runs, without the decoration that the compiler puts around it.
std::string_view closure_name(const fiber_code* code) noexcept;
}  // namespace detail

}  // namespace weft
