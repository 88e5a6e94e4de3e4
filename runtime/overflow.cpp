#include <weft/runtime/overflow.hpp>

#include <signal.h>
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <mutex>

#include <weft/runtime/fiber_block.hpp>
#include <weft/runtime/fiber_list.hpp>
#include <weft/runtime/sanitizer.hpp>
#include <weft/runtime/stack_trace.hpp>
#include <weft/runtime/worker.hpp>

namespace weft {
namespace {

constexpr std::size_t signal_stack_bytes = 64 * 1024;

struct sigaction action_before;

void write_all(const char* text, std::size_t bytes) noexcept {
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text, bytes);
}

// What lies on the stack, as far as it was not overflown.
void write_trace(stack_registers at, const stack_bounds& stack) noexcept {
    constexpr std::uintptr_t word_bytes = sizeof(std::uintptr_t);
    const auto bottom = reinterpret_cast<std::uintptr_t>(stack.bottom);
    const std::uintptr_t end = bottom + stack.bytes;
    at.sp = std::max(at.sp, bottom) / word_bytes * word_bytes;
    if (at.sp >= end) return;
    const stack_trace trace =
        trace_stack(at, {reinterpret_cast<const std::uintptr_t*>(at.sp), (end - at.sp) / word_bytes});
    for (std::size_t n = 0; n < trace.count; ++n) {
        std::array<char, 512> line;
        write_all(line.data(), format_frame(line, n, trace.frames[n]));
    }
}

// Runs on the faulting thread's signal stack, in place of the fiber that overflowed.
void report_overflow(int, siginfo_t* fault, void* context) {
    worker* here = worker::current();
    fiber_block* fiber = here != nullptr ? here->running() : nullptr;
    if (fiber != nullptr && here->owner().fibers().is_guard(fiber->stack_slot, fault->si_addr)) {
        const stack_bounds stack = here->owner().fibers().bounds(fiber->stack_slot);
        std::array<char, 1024> line;
        const auto end = fmt::format_to_n(
            line.data(), line.size(),
            "weft: fiber {} '{}' has overflown its stack of {} bytes, {} to {}, at {}; it "
            "runs {}. Larger stacks: "
            "runtime_options::stack_bytes\n",
            fiber->index, fiber->name_view(), stack.bytes, fmt::ptr(stack.bottom),
            fmt::ptr(stack.bottom + stack.bytes), fault->si_addr, detail::closure_name(fiber->code));
        write_all(line.data(), static_cast<std::size_t>(end.out - line.data()));
        write_trace(registers_of(context), stack);
    }
    // The instruction is tried again, and the signal goes where it would have gone.
    sigaction(SIGSEGV, &action_before, nullptr);
}

}  // namespace

signal_stack::signal_stack() noexcept {
    auto memory = reserved_memory::reserve(signal_stack_bytes);
    if (!memory) return;
    memory_ = std::move(*memory);
    stack_t stack{};
    stack.ss_sp = memory_.data();
    stack.ss_size = signal_stack_bytes;
    sigaltstack(&stack, nullptr);
}

signal_stack::~signal_stack() {
    stack_t stack{};
    stack.ss_flags = SS_DISABLE;
    sigaltstack(&stack, nullptr);
}

void report_stack_overflows() noexcept {
    if (sanitizer::active) return;
    static std::once_flag once;
    std::call_once(once, [] {
        struct sigaction action{};
        action.sa_sigaction = report_overflow;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        sigemptyset(&action.sa_mask);
        sigaction(SIGSEGV, &action, &action_before);
    });
}

}  // namespace weft
