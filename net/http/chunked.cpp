#include <weft/net/http/chunked.hpp>

#include <weft/net/http/syntax.hpp>

#include <algorithm>
#include <cstdlib>
#include <limits>

namespace weft::http {

namespace {

constexpr std::uint32_t size_digits_max = 16;
constexpr std::uint64_t size_max = std::numeric_limits<std::int64_t>::max();
// Extensions mean nothing to us. They may outweigh the data before them by this much, so that nobody feeds us
// megabytes that no limit on the body counts.
constexpr std::uint32_t extension_bytes_max = 4096;
constexpr std::uint32_t trailer_bytes_max = 8192;

// Everything that is refused, and the section of RFC 9112 that says so.
constexpr refusal bad_size{400, "chunk size is not a plain hexadecimal number below 2^63"};  // 7.1
constexpr refusal bad_extension{400, "control byte in a chunk extension"};                   // 7.1.1
constexpr refusal long_extension{400, "too many bytes of chunk extensions"};                 // 7.1.1
constexpr refusal bad_line_end{400, "line of the chunked coding without CRLF"};              // 2.2
constexpr refusal bad_data_end{400, "chunk is longer than its size says"};                   // 7.1
constexpr refusal bad_trailer{400, "malformed trailer field"};                               // 7.1.2
constexpr refusal long_trailers{431, "trailers are too long"};                               // 7.1.2

constexpr int hex_digit(char byte) {
    return is_digit(byte) ? byte - '0' : (byte | 0x20) - 'a' + 10;
}

}  // namespace

chunked_decoder::step chunked_decoder::next(std::span<const char> input) {
    std::size_t at = 0;
    while (at < input.size() && state_ < state::complete) {
        if (state_ == state::data) {
            const auto data = input.subspan(at, std::min<std::uint64_t>(size_, input.size() - at));
            size_ -= data.size();
            extension_bytes_ -=
                static_cast<std::uint32_t>(std::min<std::size_t>(extension_bytes_, data.size()));
            if (size_ == 0) state_ = state::data_cr;
            return {status::data, at + data.size(), data};
        }
        why_ = take(input[at++]);
        if (why_ != nullptr) state_ = state::refused;
    }
    if (state_ == state::complete) return {status::complete, at, {}};
    if (state_ == state::refused) return {status::refused, at, {}};
    return {status::need_more, at, {}};
}

// size → (extension →) size_lf → data → data_cr → data_lf → size, and after a size of 0 from size_lf to
// trailer; trailer → trailer_name → trailer_value → trailer_lf → trailer, and by an empty line over last_lf
// to complete.
const refusal* chunked_decoder::take(char byte) {
    if (state_ >= state::trailer && ++trailer_bytes_ > trailer_bytes_max) return &long_trailers;
    switch (state_) {
        case state::size:
            if (is(hex_byte, byte)) {
                if (++digits_ > size_digits_max) return &bad_size;
                size_ = size_ << 4 | static_cast<std::uint64_t>(hex_digit(byte));
                return nullptr;
            }
            if (digits_ == 0 || size_ > size_max) return &bad_size;
            if (byte != '\r' && byte != ';') return &bad_size;
            state_ = byte == ';' ? state::extension : state::size_lf;
            return nullptr;
        case state::extension:
            if (byte == '\r')
                state_ = state::size_lf;
            else if (!is(value_byte, byte))
                return &bad_extension;
            else if (++extension_bytes_ > extension_bytes_max)
                return &long_extension;
            return nullptr;
        case state::size_lf:
            if (byte != '\n') return &bad_line_end;
            digits_ = 0;
            state_ = size_ == 0 ? state::trailer : state::data;
            return nullptr;
        case state::data_cr:
            if (byte != '\r') return &bad_data_end;
            state_ = state::data_lf;
            return nullptr;
        case state::data_lf:
            if (byte != '\n') return &bad_data_end;
            state_ = state::size;
            return nullptr;

        case state::trailer:
            if (byte == '\r')
                state_ = state::last_lf;
            else if (is(token_byte, byte))
                state_ = state::trailer_name;
            else
                return &bad_trailer;
            return nullptr;
        case state::trailer_name:
            if (byte == ':')
                state_ = state::trailer_value;
            else if (!is(token_byte, byte))
                return &bad_trailer;
            return nullptr;
        case state::trailer_value:
            if (byte == '\r')
                state_ = state::trailer_lf;
            else if (!is(value_byte, byte))
                return &bad_trailer;
            return nullptr;
        case state::trailer_lf:
            if (byte != '\n') return &bad_line_end;
            state_ = state::trailer;
            return nullptr;
        case state::last_lf:
            if (byte != '\n') return &bad_line_end;
            state_ = state::complete;
            return nullptr;
        default:
            std::abort();
    }
}

}  // namespace weft::http
