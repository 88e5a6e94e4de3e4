// The floating-point control words of each architecture, as the switchers with FP treat them.
#pragma once

#include <cstdint>

namespace weft::testing {

#if defined(__x86_64__)

struct control_words {
    std::uint32_t mxcsr = 0;
    std::uint16_t x87 = 0;
    friend bool operator==(const control_words&, const control_words&) = default;
};

inline control_words read_control_words() {
    control_words words;
    asm volatile("stmxcsr %0" : "=m"(words.mxcsr));
    asm volatile("fnstcw %0" : "=m"(words.x87));
    return words;
}

inline void write_control_words(control_words words) {
    asm volatile("ldmxcsr %0" : : "m"(words.mxcsr));
    asm volatile("fldcw %0" : : "m"(words.x87));
}

inline constexpr control_words abi_words{.mxcsr = 0x1f80, .x87 = 0x037f};
inline constexpr control_words up_words{.mxcsr = 0x1f80 | 0x4000, .x87 = 0x037f | 0x0800};    // rounds up
inline constexpr control_words down_words{.mxcsr = 0x1f80 | 0x2000, .x87 = 0x037f | 0x0400};  // rounds down

#elif defined(__aarch64__)

struct control_words {
    std::uint64_t fpcr = 0;
    friend bool operator==(const control_words&, const control_words&) = default;
};

inline control_words read_control_words() {
    control_words words;
    asm volatile("mrs %0, fpcr" : "=r"(words.fpcr));
    return words;
}

inline void write_control_words(control_words words) {
    asm volatile("msr fpcr, %0" : : "r"(words.fpcr));
}

inline constexpr control_words abi_words{.fpcr = 0};
inline constexpr control_words up_words{.fpcr = 1 << 22};    // rounds up
inline constexpr control_words down_words{.fpcr = 2 << 22};  // rounds down

#elif defined(__riscv)

struct control_words {
    std::uint64_t frm = 0;  // of fcsr; the rest of it are flags, which any arithmetic may set
    friend bool operator==(const control_words&, const control_words&) = default;
};

inline control_words read_control_words() {
    control_words words;
    asm volatile("frrm %0" : "=r"(words.frm));
    return words;
}

inline void write_control_words(control_words words) {
    asm volatile("fsrm %0" : : "r"(words.frm));
}

inline constexpr control_words abi_words{.frm = 0};
inline constexpr control_words up_words{.frm = 3};    // rounds up
inline constexpr control_words down_words{.frm = 2};  // rounds down

#endif

}  // namespace weft::testing
