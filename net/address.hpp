// IPv4 and IPv6 socket addresses: a value with a text form.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <netinet/in.h>
#include <sys/socket.h>

#include <weft/runtime/result.hpp>

namespace weft {

/// An IPv4 or IPv6 address with a port. A default-made one is 0.0.0.0:0.
class address {
  public:
    address() noexcept : address(in_addr{}, 0) {}

    /// `127.0.0.1:80`, `[::1]:80`, `[fe80::1%eth0]:80` (or the interface's number), `:80` and `*:80` for
    /// 0.0.0.0:80, and, the only name, `localhost:80` for 127.0.0.1:80. Everything else is
    /// errc::address_invalid.
    [[nodiscard]] static result<address> parse(std::string_view text);

    /// From `length` bytes that the kernel filled in. Another family, or too few bytes, is
    /// errc::address_invalid.
    [[nodiscard]] static result<address> from_sockaddr(const sockaddr* from, socklen_t length) noexcept;

    bool is_v4() const noexcept { return any_.sa_family == AF_INET; }
    bool is_v6() const noexcept { return any_.sa_family == AF_INET6; }
    /// 127.0.0.0/8, also mapped into IPv6, and ::1.
    bool is_loopback() const noexcept;

    std::uint16_t port() const noexcept;
    [[nodiscard]] address with_port(std::uint16_t port) const noexcept;

    /// A text that parse() reads back as an equal address. A scope is written as the interface's number.
    std::string to_string() const;

    /// What bind() and connect() take. It points into this object.
    const sockaddr* data() const noexcept { return &any_; }
    socklen_t size() const noexcept { return is_v4() ? sizeof(v4_) : sizeof(v6_); }

    friend bool operator==(const address& left, const address& right) noexcept;

  private:
    address(in_addr host, std::uint16_t port) noexcept;
    address(const in6_addr& host, std::uint32_t scope, std::uint16_t port) noexcept;

    static result<address> parse_v4(std::string_view host, std::uint16_t port);
    static result<address> parse_v6(std::string_view host, std::uint16_t port);

    union {
        sockaddr any_;  // all three begin with the family
        sockaddr_in v4_;
        sockaddr_in6 v6_;
    };
};

}  // namespace weft
