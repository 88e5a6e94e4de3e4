#include <weft/runtime/fiber_list.hpp>

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <chrono>

#include <weft/runtime/scheduler.hpp>
#include <weft/runtime/worker.hpp>

namespace weft {
namespace {

fiber_activity activity_of(fiber_state state, bool running) noexcept {
    switch (state) {
        case fiber_state::parked:
            return fiber_activity::parked;
        case fiber_state::finished:
            return fiber_activity::finished;
        case fiber_state::failed:
            return fiber_activity::failed;
        default:
            return running ? fiber_activity::running : fiber_activity::runnable;
    }
}

// What the block says at `word`, as far as it is still that fiber's.
fiber_info describe(const fiber_block& fiber, std::uint32_t index, const fiber_word::value& word,
                    time_point now) {
    worker& home = *fiber.home.load(std::memory_order_relaxed);
    fiber_name name;
    fiber.name.copy_to(name);
    fiber_info seen{.id = {index, word.generation},
                    .name = std::string(name.view()),
                    .activity = activity_of(word.state, home.running() == &fiber),
                    .worker = home.index(),
                    .waits_for = {},
                    .function = detail::closure_name(fiber.code)};
    if (const char* waits_for = fiber.waits_for; word.state == fiber_state::parked && waits_for != nullptr) {
        seen.waits_for = waits_for;
        seen.waiting = std::max(duration::zero(), now - time_point(fiber.waits_since));
    }
    return seen;
}

}  // namespace

std::string_view name_of(fiber_activity activity) noexcept {
    switch (activity) {
        case fiber_activity::running:
            return "running";
        case fiber_activity::runnable:
            return "runnable";
        case fiber_activity::parked:
            return "parked";
        case fiber_activity::finished:
            return "finished";
        case fiber_activity::failed:
            return "failed";
    }
    return "";
}

std::string to_string(const fiber_info& fiber) {
    std::string line = fmt::format("{}.{} '{}' {} on worker {}", fiber.id.index, fiber.id.generation,
                                   fiber.name, name_of(fiber.activity), fiber.worker);
    if (!fiber.waits_for.empty())
        line += fmt::format(" for {:.3f} s, waiting for {}",
                            std::chrono::duration<double>(fiber.waiting).count(), fiber.waits_for);
    if (!fiber.function.empty()) line += fmt::format("; runs {}", fiber.function);
    return line;
}

std::vector<fiber_info> list_fibers() {
    return detail::list_fibers(detail::current_scheduler());
}

namespace detail {

// Blocks are never unmapped while the runtime lives, and what is read of them is atomic, so a look at one
// that changes hands is harmless: the word, read before and after, tells. A fiber that parks and wakes all
// the time is taken as it comes after a few attempts; what was read is still of that fiber.
std::optional<fiber_info> look_at(scheduler& of, std::uint32_t index) {
    const fiber_block& fiber = of.fibers().block(index);
    for (int attempt = 0;; ++attempt) {
        const fiber_word::value before = fiber.word.load();
        if (before.state == fiber_state::initial) return std::nullopt;
        fiber_info seen = describe(fiber, index, before, of.time().now());
        // Pairs with the release fence in prepare(): who has read what was written for the next generation
        // finds that generation below.
        std::atomic_thread_fence(std::memory_order_acquire);
        const fiber_word::value after = fiber.word.load(std::memory_order_relaxed);
        const bool same_fiber = after.generation == before.generation;
        if (same_fiber && (after.state == before.state || attempt == 3)) return seen;
        if (attempt > 100) return std::nullopt;  // fibers come and go in it faster than one can look
    }
}

std::vector<fiber_info> list_fibers(scheduler& of) {
    std::vector<fiber_info> all;
    for (std::uint32_t index = 0; index < of.fibers().blocks_used(); ++index)
        if (auto seen = look_at(of, index)) all.push_back(std::move(*seen));
    return all;
}

std::string listing(scheduler& of) {
    constexpr std::size_t lines_max = 10'000;
    std::string text;
    std::size_t count = 0;
    for (std::uint32_t index = 0; index < of.fibers().blocks_used(); ++index) {
        const auto seen = look_at(of, index);
        if (seen && ++count <= lines_max) text += "weft: fiber " + to_string(*seen) + "\n";
    }
    if (count > lines_max) text += fmt::format("weft: and {} more\n", count - lines_max);
    return text + fmt::format("weft: {} fibers on {} workers\n", count, of.worker_count());
}

std::string_view closure_name(const fiber_code* code) noexcept {
    if (code == nullptr) return {};
    // `... [with Function = main()::<lambda()>]`, or `... [Function = (lambda at main.cpp:3:5)]`
    const std::string_view decorated = code->function;
    constexpr std::string_view mark = "Function = ";
    const auto at = decorated.find(mark);
    if (at == decorated.npos) return decorated;
    return decorated.substr(at + mark.size(), decorated.size() - at - mark.size() - 1);
}

}  // namespace detail

}  // namespace weft
