// Where a fiber is, found from a signal handler: by frame pointers, and by looking around where there are
// none. Internal.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace weft {

/// The registers that a walk begins with.
struct stack_registers {
    std::uintptr_t pc = 0;
    std::uintptr_t sp = 0;
    std::uintptr_t fp = 0;
};

/// Of the interrupted context; the argument is a signal handler's third. Async-signal-safe.
stack_registers registers_of(const void* signal_context) noexcept;

/// One level of calls, the innermost first.
struct stack_frame {
    std::uintptr_t address = 0;  ///< The instruction, or where the call will return to.
    bool certain = true;         ///< False: a return address that lies on the stack, perhaps left over.
};

/// Addresses of code, of this process.
struct stack_trace {
    static constexpr std::size_t frames_max = 32;
    std::array<stack_frame, frames_max> frames{};
    std::size_t count = 0;

    std::span<const stack_frame> all() const noexcept { return std::span(frames).first(count); }
    void add(std::uintptr_t address, bool certain) noexcept {
        if (count < frames_max) frames[count++] = {address, certain};
    }
};

/// Reads nothing outside of `words`, which is what lies on the stack from registers.sp upwards, or a copy of
/// it. Frame pointers tell the callers of weft's own functions and of all that is built with
/// -fno-omit-frame-pointer. Inside of a library built without them, such as the C library, likely return
/// addresses are given until the chain of frame pointers begins. Takes the dynamic linker's lock, which the
/// interrupted thread may hold itself, and no memory.
stack_trace trace_stack(const stack_registers& registers, std::span<const std::uintptr_t> words) noexcept;

/// One line for each frame, for example `    #2 0x55d8c0a1b2c4 spin(int)+0x14 (server+0x1b2c4)`, cut off at
/// the end of `line`, with a line feed: how many characters. What lies in the brackets is for addr2line. The
/// name is that of a dynamic symbol, which a program's own functions have when it is linked with -rdynamic.
/// Takes no memory.
std::size_t format_frame(std::span<char> line, std::size_t number, const stack_frame& frame) noexcept;

/// All lines, with names as in the source.
std::string to_string(const stack_trace& trace);

}  // namespace weft
