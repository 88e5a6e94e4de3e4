// What a fiber is called: short, in its block, and readable by others while the block changes hands.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace weft {

/// Written whole, in words: whoever reads it while it is written gets a mixture of both names and no more
/// harm.
class fiber_name {
  public:
    static constexpr std::size_t length_max = 23;

    /// Its first length_max bytes are kept.
    void assign(std::string_view name) noexcept {
        std::array<std::uint64_t, word_count> words{};
        // Most have none. The length is put in by a register: a byte that was stored just before the word is
        // loaded would have to leave the CPU's store buffer first.
        if (!name.empty()) {
            const std::uint64_t length = name.copy(reinterpret_cast<char*>(words.data()), length_max);
            words.back() |= length << 56;
        }
        for (std::size_t n = 0; n < word_count; ++n) words_[n].store(words[n], std::memory_order_relaxed);
    }
    /// For those who know that nobody assigns meanwhile.
    std::string_view view() const noexcept {
        const auto* bytes = reinterpret_cast<const char*>(words_.data());
        return {bytes, static_cast<std::uint8_t>(bytes[length_max])};
    }
    /// For anybody.
    void copy_to(fiber_name& copy) const noexcept {
        for (std::size_t n = 0; n < word_count; ++n)
            copy.words_[n].store(words_[n].load(std::memory_order_relaxed), std::memory_order_relaxed);
    }

  private:
    // The characters, and in the last byte how many there are.
    static constexpr std::size_t word_count = 3;
    std::array<std::atomic<std::uint64_t>, word_count> words_{};
    static_assert(sizeof(std::uint64_t) * word_count == length_max + 1);
    static_assert(std::endian::native == std::endian::little,
                  "the last byte is the upper one of the last word");
};

}  // namespace weft
