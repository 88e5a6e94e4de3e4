// Tells AddressSanitizer and ThreadSanitizer which stack runs; nothing at all in other builds.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define WEFT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WEFT_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define WEFT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WEFT_TSAN 1
#endif
#endif

#if defined(WEFT_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(WEFT_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

namespace weft::sanitizer {

#if defined(WEFT_ASAN) || defined(WEFT_TSAN)
inline constexpr bool active = true;
#else
inline constexpr bool active = false;
#endif

/// A context that is about to be left: what the sanitizers must remember of it until it is entered again.
struct left_context {
    void* fake_stack = nullptr;
};

/// Before a switch to the stack [bottom, bottom + bytes). `last` is set when the running context never runs
/// again.
inline void before_switch([[maybe_unused]] left_context& leaving, [[maybe_unused]] void* entered_context,
                          [[maybe_unused]] const void* bottom, [[maybe_unused]] std::size_t bytes,
                          [[maybe_unused]] bool last = false) noexcept {
#if defined(WEFT_ASAN)
    __sanitizer_start_switch_fiber(last ? nullptr : &leaving.fake_stack, bottom, bytes);
#endif
#if defined(WEFT_TSAN)
    __tsan_switch_to_fiber(entered_context, 0);
#endif
}

/// First thing in a context after a switch; `entered` is what before_switch filled in when that context was
/// left. Tells which stack was left, for those who do not know it otherwise.
inline void after_switch([[maybe_unused]] left_context& entered,
                         [[maybe_unused]] const void** left_bottom = nullptr,
                         [[maybe_unused]] std::size_t* left_bytes = nullptr) noexcept {
#if defined(WEFT_ASAN)
    __sanitizer_finish_switch_fiber(entered.fake_stack, left_bottom, left_bytes);
#endif
}

/// ThreadSanitizer's own record of a fiber; nullptr elsewhere.
inline void* create_context() noexcept {
#if defined(WEFT_TSAN)
    return __tsan_create_fiber(0);
#else
    return nullptr;
#endif
}
inline void destroy_context([[maybe_unused]] void* context) noexcept {
#if defined(WEFT_TSAN)
    __tsan_destroy_fiber(context);
#endif
}
inline void* current_context() noexcept {
#if defined(WEFT_TSAN)
    return __tsan_get_current_fiber();
#else
    return nullptr;
#endif
}

/// A stack whose fiber has ended: its memory may be used for anything.
inline void forget_frames([[maybe_unused]] const void* bottom, [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(WEFT_ASAN)
    __asan_unpoison_memory_region(bottom, bytes);
#endif
}

}  // namespace weft::sanitizer
