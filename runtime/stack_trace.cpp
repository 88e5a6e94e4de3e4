#include <weft/runtime/stack_trace.hpp>

#include <cxxabi.h>
#include <dlfcn.h>
#include <link.h>
#include <spdlog/fmt/fmt.h>
#include <ucontext.h>

#include <cstdlib>
#include <memory>
#include <string_view>

namespace weft {
namespace {

constexpr std::size_t word_bytes = sizeof(std::uintptr_t);
// Without a frame pointer to begin with, the first frame record is looked for so far up.
constexpr std::size_t words_searched_max = 512;
// Return addresses that are given although they may be left over.
constexpr std::size_t uncertain_max = 6;

#if defined(__riscv)
constexpr std::ptrdiff_t record_at =
    -2;  // in words from the frame pointer: caller's frame pointer, return address
#else
constexpr std::ptrdiff_t record_at = 0;
#endif

// The executable parts of the program and its libraries. In a fixed room, because there may be no other.
class code_ranges {
  public:
    code_ranges() noexcept {
        dl_iterate_phdr(
            [](dl_phdr_info* module, std::size_t, void* to) {
                auto& all = *static_cast<code_ranges*>(to);
                for (int n = 0; n < module->dlpi_phnum; ++n) {
                    const auto& part = module->dlpi_phdr[n];
                    if (part.p_type == PT_LOAD && (part.p_flags & PF_X) != 0 &&
                        all.count_ < all.ranges_.size())
                        all.ranges_[all.count_++] = {module->dlpi_addr + part.p_vaddr, part.p_memsz};
                }
                return 0;
            },
            this);
    }

    static constexpr std::size_t none = SIZE_MAX;
    /// A number for the module whose code the address lies in.
    std::size_t module_of(std::uintptr_t address) const noexcept {
        for (std::size_t n = 0; n < count_; ++n)
            if (address - ranges_[n].begin < ranges_[n].bytes) return n;
        return none;
    }
    /// The instruction before the address is a call, as far as this architecture lets one see that.
    bool is_return_address(std::uintptr_t address) const noexcept {
        constexpr std::uintptr_t longest_call = 7;
        if (module_of(address) == none || module_of(address - longest_call) != module_of(address))
            return false;
        return follows_call(reinterpret_cast<const unsigned char*>(address));
    }

  private:
    struct range {
        std::uintptr_t begin;
        std::uintptr_t bytes;
    };

    static bool follows_call([[maybe_unused]] const unsigned char* after) noexcept {
#if defined(__x86_64__)
        if (after[-5] == 0xe8) return true;       // call relative
        for (const int length : {2, 3, 4, 6, 7})  // call through a register or memory: ff /2
            if (after[-length] == 0xff && (after[1 - length] >> 3 & 7) == 2) return true;
        return false;
#elif defined(__aarch64__)
        const auto instruction = *reinterpret_cast<const std::uint32_t*>(after - 4);
        return (instruction & 0xfc000000) == 0x94000000 ||
               (instruction & 0xfffffc1f) == 0xd63f0000;  // bl, blr
#else
        return true;
#endif
    }

    std::array<range, 256> ranges_{};
    std::size_t count_ = 0;
};

// What of a stack may be read, by address.
class stack_words {
  public:
    stack_words(std::uintptr_t begin, std::span<const std::uintptr_t> words) noexcept
        : begin_(begin), words_(words) {}

    bool contains(std::uintptr_t address) const noexcept {
        return address % word_bytes == 0 && address >= begin_ &&
               (address - begin_) / word_bytes < words_.size();
    }
    std::uintptr_t at(std::uintptr_t address) const noexcept {
        return words_[(address - begin_) / word_bytes];
    }

    std::uintptr_t begin() const noexcept { return begin_; }
    std::size_t size() const noexcept { return words_.size(); }

  private:
    std::uintptr_t begin_;
    std::span<const std::uintptr_t> words_;
};

// What a frame pointer points to.
struct frame_record {
    std::uintptr_t callers_fp;
    std::uintptr_t return_address;
};

bool read_record(const stack_words& stack, std::uintptr_t fp, frame_record& record) noexcept {
    const std::uintptr_t at = fp + static_cast<std::uintptr_t>(record_at) * word_bytes;
    if (!stack.contains(at) || !stack.contains(at + word_bytes)) return false;
    record = {stack.at(at), stack.at(at + word_bytes)};
    return true;
}

// The frame pointer leads to a return address.
bool may_be_frame(const stack_words& stack, const code_ranges& code, std::uintptr_t fp) noexcept {
    frame_record record{};
    return read_record(stack, fp, record) && code.is_return_address(record.return_address);
}

// The same, and to a caller above, of which the same is true.
bool has_frame_above(const stack_words& stack, const code_ranges& code, std::uintptr_t fp) noexcept {
    frame_record record{};
    return may_be_frame(stack, code, fp) && read_record(stack, fp, record) && record.callers_fp > fp &&
           may_be_frame(stack, code, record.callers_fp);
}

// The frame pointer of the innermost function that has one; 0 when none is found.
std::uintptr_t first_frame(const stack_words& stack, const code_ranges& code, std::uintptr_t fp) noexcept {
    if (may_be_frame(stack, code, fp)) return fp;
    const std::uintptr_t lowest = stack.begin() - static_cast<std::uintptr_t>(record_at) * word_bytes;
    for (std::size_t n = 0; n < words_searched_max && n < stack.size(); ++n)
        if (has_frame_above(stack, code, lowest + n * word_bytes)) return lowest + n * word_bytes;
    return 0;
}

struct frame_name {
    const char* symbol = nullptr;  // mangled
    std::uintptr_t symbol_offset = 0;
    std::string_view module = "?";
    std::uintptr_t module_offset = 0;
};

frame_name look_up(std::uintptr_t address) noexcept {
    Dl_info found{};
    if (dladdr(reinterpret_cast<void*>(address), &found) == 0 || found.dli_fname == nullptr) return {};
    frame_name name;
    name.module = found.dli_fname;
    name.module = name.module.substr(name.module.rfind('/') + 1);
    name.module_offset = address - reinterpret_cast<std::uintptr_t>(found.dli_fbase);
    if (found.dli_sname != nullptr) {
        name.symbol = found.dli_sname;
        name.symbol_offset = address - reinterpret_cast<std::uintptr_t>(found.dli_saddr);
    }
    return name;
}

std::size_t format_frame(std::span<char> line, std::size_t number, const stack_frame& frame,
                         const frame_name& name, const char* symbol) noexcept {
    const auto written =
        symbol != nullptr
            ? fmt::format_to_n(line.data(), line.size() - 1, "    #{} {:#x}{} {}+{:#x} ({}+{:#x})", number,
                               frame.address, frame.certain ? "" : " ?", symbol, name.symbol_offset,
                               name.module, name.module_offset)
            : fmt::format_to_n(line.data(), line.size() - 1, "    #{} {:#x}{} ({}+{:#x})", number,
                               frame.address, frame.certain ? "" : " ?", name.module, name.module_offset);
    *written.out = '\n';
    return static_cast<std::size_t>(written.out - line.data()) + 1;
}

}  // namespace

stack_registers registers_of(const void* signal_context) noexcept {
    const mcontext_t& machine = static_cast<const ucontext_t*>(signal_context)->uc_mcontext;
#if defined(__x86_64__)
    const auto value = [&](int which) { return static_cast<std::uintptr_t>(machine.gregs[which]); };
    return {value(REG_RIP), value(REG_RSP), value(REG_RBP)};
#elif defined(__aarch64__)
    return {machine.pc, machine.sp, machine.regs[29]};
#elif defined(__riscv)
    return {machine.__gregs[REG_PC], machine.__gregs[REG_SP], machine.__gregs[REG_S0]};
#else
#error "where does this architecture keep its program counter, stack pointer and frame pointer?"
#endif
}

stack_trace trace_stack(const stack_registers& registers, std::span<const std::uintptr_t> words) noexcept {
    const code_ranges code;
    const stack_words stack(registers.sp, words);
    stack_trace trace;
    trace.add(registers.pc, true);
    std::uintptr_t fp = first_frame(stack, code, registers.fp);
    frame_record record{};

    // The frame pointer is a caller's: of the functions in between, only their return addresses are there.
    const bool has_record = fp != 0 && read_record(stack, fp, record);
    if (!has_record || fp != registers.fp ||
        code.module_of(registers.pc) != code.module_of(record.return_address)) {
        const std::uintptr_t end = has_record ? fp : stack.begin() + words_searched_max * word_bytes;
        std::size_t found = 0;
        for (std::uintptr_t at = stack.begin(); at < end && stack.contains(at) && found < uncertain_max;
             at += word_bytes)
            if (code.is_return_address(stack.at(at))) {
                trace.add(stack.at(at), false);
                ++found;
            }
    }

    // The chain leads upwards to the outermost function, whose caller has none.
    while (fp != 0 && read_record(stack, fp, record) && code.module_of(record.return_address) != code.none) {
        trace.add(record.return_address, true);
        if (record.callers_fp <= fp) break;
        fp = record.callers_fp;
    }
    return trace;
}

std::size_t format_frame(std::span<char> line, std::size_t number, const stack_frame& frame) noexcept {
    const frame_name name = look_up(frame.address);
    return format_frame(line, number, frame, name, name.symbol);
}

std::string to_string(const stack_trace& trace) {
    std::string lines;
    for (std::size_t n = 0; n < trace.count; ++n) {
        const frame_name name = look_up(trace.frames[n].address);
        int status = 0;
        const std::unique_ptr<char, decltype(&std::free)> readable(
            name.symbol == nullptr ? nullptr : abi::__cxa_demangle(name.symbol, nullptr, nullptr, &status),
            std::free);
        std::array<char, 512> line;
        lines.append(line.data(), format_frame(line, n, trace.frames[n], name,
                                               readable != nullptr ? readable.get() : name.symbol));
    }
    return lines;
}

}  // namespace weft
