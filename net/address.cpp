#include <weft/net/address.hpp>

#include <array>
#include <charconv>
#include <cstring>

#include <arpa/inet.h>
#include <net/if.h>

namespace weft {
namespace {

// The whole text as a decimal number, without a sign or spaces.
template <class Number>
result<Number> parse_number(std::string_view text) {
    Number number = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc{} || stop != end) return failure(errc::address_invalid);
    return number;
}

// A copy that ends with a zero byte, for C functions.
template <std::size_t Capacity>
result<std::array<char, Capacity>> terminated(std::string_view text) {
    std::array<char, Capacity> copy{};
    if (text.size() >= Capacity || text.find('\0') != text.npos) return failure(errc::address_invalid);
    text.copy(copy.data(), text.size());
    return copy;
}

result<std::uint32_t> parse_scope(std::string_view scope) {
    if (const auto number = parse_number<std::uint32_t>(scope); number && *number != 0) return *number;
    const auto name = WEFT_TRY(terminated<IF_NAMESIZE>(scope));
    const std::uint32_t number = if_nametoindex(name.data());
    if (number == 0) return failure(errc::address_invalid);
    return number;
}

}  // namespace

address::address(in_addr host, std::uint16_t port) noexcept : v4_{} {
    v4_.sin_family = AF_INET;
    v4_.sin_port = htons(port);
    v4_.sin_addr = host;
}

address::address(const in6_addr& host, std::uint32_t scope, std::uint16_t port) noexcept : v6_{} {
    v6_.sin6_family = AF_INET6;
    v6_.sin6_port = htons(port);
    v6_.sin6_addr = host;
    v6_.sin6_scope_id = scope;
}

result<address> address::parse(std::string_view text) {
    const auto colon = text.rfind(':');
    if (colon == text.npos) return failure(errc::address_invalid);
    const auto host = text.substr(0, colon);
    const auto port = WEFT_TRY(parse_number<std::uint16_t>(text.substr(colon + 1)));

    if (host.empty() || host == "*") return address(in_addr{htonl(INADDR_ANY)}, port);
    if (host == "localhost") return address(in_addr{htonl(INADDR_LOOPBACK)}, port);
    if (host.starts_with('[') && host.ends_with(']')) return parse_v6(host.substr(1, host.size() - 2), port);
    return parse_v4(host, port);
}

result<address> address::parse_v4(std::string_view host, std::uint16_t port) {
    const auto copy = WEFT_TRY(terminated<INET_ADDRSTRLEN>(host));
    in_addr parsed{};
    if (inet_pton(AF_INET, copy.data(), &parsed) != 1) return failure(errc::address_invalid);
    return address(parsed, port);
}

result<address> address::parse_v6(std::string_view host, std::uint16_t port) {
    std::uint32_t scope = 0;
    if (const auto percent = host.find('%'); percent != host.npos) {
        scope = WEFT_TRY(parse_scope(host.substr(percent + 1)));
        host = host.substr(0, percent);
    }
    const auto copy = WEFT_TRY(terminated<INET6_ADDRSTRLEN>(host));
    in6_addr parsed{};
    if (inet_pton(AF_INET6, copy.data(), &parsed) != 1) return failure(errc::address_invalid);
    return address(parsed, scope, port);
}

// Leaves out what does not identify a peer (the flow label), so that equal addresses have equal bytes.
result<address> address::from_sockaddr(const sockaddr* from, socklen_t length) noexcept {
    if (length >= sizeof(sockaddr_in) && from->sa_family == AF_INET) {
        sockaddr_in v4;
        std::memcpy(&v4, from, sizeof(v4));
        return address(v4.sin_addr, ntohs(v4.sin_port));
    }
    if (length >= sizeof(sockaddr_in6) && from->sa_family == AF_INET6) {
        sockaddr_in6 v6;
        std::memcpy(&v6, from, sizeof(v6));
        return address(v6.sin6_addr, v6.sin6_scope_id, ntohs(v6.sin6_port));
    }
    return failure(errc::address_invalid);
}

bool address::is_loopback() const noexcept {
    constexpr std::uint8_t loopback_net = 127;
    if (is_v4()) return ntohl(v4_.sin_addr.s_addr) >> 24 == loopback_net;
    const in6_addr& host = v6_.sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(&host) || (IN6_IS_ADDR_V4MAPPED(&host) && host.s6_addr[12] == loopback_net);
}

std::uint16_t address::port() const noexcept {
    return ntohs(is_v4() ? v4_.sin_port : v6_.sin6_port);
}

address address::with_port(std::uint16_t port) const noexcept {
    return is_v4() ? address(v4_.sin_addr, port) : address(v6_.sin6_addr, v6_.sin6_scope_id, port);
}

std::string address::to_string() const {
    std::array<char, INET6_ADDRSTRLEN> host{};
    const auto port_text = ':' + std::to_string(port());
    if (is_v4()) {
        inet_ntop(AF_INET, &v4_.sin_addr, host.data(), host.size());
        return host.data() + port_text;
    }
    inet_ntop(AF_INET6, &v6_.sin6_addr, host.data(), host.size());
    const auto scope = v6_.sin6_scope_id == 0 ? "" : '%' + std::to_string(v6_.sin6_scope_id);
    return '[' + std::string(host.data()) + scope + ']' + port_text;
}

bool operator==(const address& left, const address& right) noexcept {
    return left.size() == right.size() && std::memcmp(left.data(), right.data(), left.size()) == 0;
}

}  // namespace weft
