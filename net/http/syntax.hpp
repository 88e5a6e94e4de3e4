// The alphabet of HTTP/1.1: which bytes may stand where, and scans over runs of them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace weft::http {

enum byte_class : std::uint8_t {
    token_byte = 1,   // tchar, RFC 9110 5.6.2: methods, field names, list members
    target_byte = 2,  // what a URI without fragment is written with, RFC 3986 2
    value_byte = 4,   // field-vchar, SP and HTAB, RFC 9110 5.5
    host_byte = 8,    // reg-name, RFC 3986 3.2.2; a '%' still needs its two digits
    hex_byte = 16,
};

constexpr std::array<std::uint8_t, 256> byte_classes = [] {
    std::array<std::uint8_t, 256> classes{};
    const auto add = [&](std::string_view bytes, int which) {
        for (const char byte : bytes)
            classes[static_cast<unsigned char>(byte)] |= static_cast<std::uint8_t>(which);
    };
    add("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~",
        token_byte | target_byte | host_byte);
    add("0123456789ABCDEFabcdef", hex_byte);
    add("!$&'()*+,;=%", target_byte | host_byte);
    add(":/?@[]", target_byte);
    add("!#$%&'*+^`|", token_byte);
    for (unsigned byte = 0; byte < 256; ++byte) {
        if (byte == '\t' || (byte >= ' ' && byte != 0x7f)) classes[byte] |= value_byte;
    }
    return classes;
}();

constexpr bool is(byte_class which, char byte) {
    return (byte_classes[static_cast<unsigned char>(byte)] & which) != 0;
}

constexpr bool is_digit(char byte) {
    return byte >= '0' && byte <= '9';
}
constexpr bool is_blank(char byte) {
    return byte == ' ' || byte == '\t';
}

/// The first byte in [at, end) that is not of the class, or end.
inline const char* skip(byte_class which, const char* at, const char* end) {
    while (at != end && is(which, *at)) ++at;
    return at;
}

inline bool consists_of(byte_class which, std::string_view text) {
    return skip(which, text.data(), text.data() + text.size()) == text.data() + text.size();
}

/// skip() for value bytes, eight at a time: values are most of a request.
inline const char* skip_value(const char* at, const char* end) {
    constexpr std::uint64_t ones = 0x0101010101010101;
    while (end - at >= 8) {
        std::uint64_t word;
        std::memcpy(&word, at, sizeof word);
        // A byte's top bit is set when that byte is a control byte or DEL. A borrow may set more of them,
        // which is harmless: it starts at a true one. HTAB is among them and is sorted out below.
        const std::uint64_t deletes = word ^ (ones * 0x7f);
        const std::uint64_t stops = ((word - ones * ' ') & ~word) | ((deletes - ones) & ~deletes);
        if ((stops & (ones * 0x80)) != 0) {
            const char* const stop = skip(value_byte, at, at + 8);
            if (stop != at + 8) return stop;
        }
        at += 8;
    }
    return skip(value_byte, at, end);
}

/// Whether text is `lowercase` in any mixture of cases.
constexpr bool equals_ignoring_case(std::string_view text, std::string_view lowercase) {
    if (text.size() != lowercase.size()) return false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char byte = text[i];
        if ((byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte | 0x20) : byte) != lowercase[i])
            return false;
    }
    return true;
}

constexpr std::string_view trim_right(std::string_view text) {
    while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
    return text;
}

constexpr std::string_view trim(std::string_view text) {
    while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
    return trim_right(text);
}

/// Takes the first member off a comma-separated list, RFC 9110 5.6.1; it may be empty. Knows no quoted
/// commas.
constexpr std::string_view next_member(std::string_view& list) {
    const std::size_t comma = list.find(',');
    const std::string_view member = trim(list.substr(0, comma));
    list.remove_prefix(comma == std::string_view::npos ? list.size() : comma + 1);
    return member;
}

}  // namespace weft::http
