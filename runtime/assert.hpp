// Programming errors stop the process with a sentence that says what to do.
#pragma once

namespace weft::detail {

/// Prints the sentence and the place, then aborts.
[[noreturn, gnu::cold]] void assertion_failed(const char* sentence, const char* file, int line) noexcept;

}  // namespace weft::detail

/// Holds in every build: it guards against misuse by the caller, so it stays on in releases.
#define WEFT_ASSERT(condition, sentence)                 \
    (static_cast<bool>(condition) ? static_cast<void>(0) \
                                  : ::weft::detail::assertion_failed(sentence, __FILE__, __LINE__))

/// Holds in debug builds: it guards weft's own invariants on hot paths.
#ifdef NDEBUG
#define WEFT_DEBUG_ASSERT(condition, sentence) static_cast<void>(0)
#else
#define WEFT_DEBUG_ASSERT(condition, sentence) WEFT_ASSERT(condition, sentence)
#endif
