#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <string_view>

#include <net/if.h>
#include <sys/un.h>

#include <weft/net/address.hpp>

using weft::address;
using namespace std::string_view_literals;

static_assert(sizeof(address) == 28, "an address is no larger than the IPv6 socket address in it");

TEST_CASE("address: each accepted form is read and written back") {
    struct {
        std::string_view text;
        bool v4;
        int port;
        bool loopback;
        std::string_view written;
    } const cases[] = {
        {"127.0.0.1:8080", true, 8080, true, "127.0.0.1:8080"},
        {"127.255.255.254:1", true, 1, true, "127.255.255.254:1"},
        {"128.0.0.1:1", true, 1, false, "128.0.0.1:1"},
        {"0.0.0.0:0", true, 0, false, "0.0.0.0:0"},
        {"255.255.255.255:65535", true, 65535, false, "255.255.255.255:65535"},
        {":8080", true, 8080, false, "0.0.0.0:8080"},
        {"*:8080", true, 8080, false, "0.0.0.0:8080"},
        {"localhost:80", true, 80, true, "127.0.0.1:80"},
        {"[::1]:8080", false, 8080, true, "[::1]:8080"},
        {"[::]:0", false, 0, false, "[::]:0"},
        {"[2001:DB8:0:0:0:0:0:1]:443", false, 443, false, "[2001:db8::1]:443"},
        {"[::ffff:127.0.0.1]:80", false, 80, true, "[::ffff:127.0.0.1]:80"},
        {"[::ffff:10.0.0.1]:80", false, 80, false, "[::ffff:10.0.0.1]:80"},
        {"[fe80::1%3]:80", false, 80, false, "[fe80::1%3]:80"},
        {"[fe80::1%4294967295]:80", false, 80, false, "[fe80::1%4294967295]:80"},
        {"[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:80", false, 80, false,
         "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:80"},
    };
    for (const auto& expected : cases) {
        CAPTURE(expected.text);
        const auto parsed = address::parse(expected.text);
        REQUIRE(parsed);
        CHECK(parsed->is_v4() == expected.v4);
        CHECK(parsed->is_v6() == !expected.v4);
        CHECK(parsed->port() == expected.port);
        CHECK(parsed->is_loopback() == expected.loopback);
        CHECK(parsed->to_string() == expected.written);
        CHECK(address::parse(parsed->to_string()) == parsed);
    }
}

TEST_CASE("address: every other text is refused") {
    const std::string_view texts[] = {
        "",
        "127.0.0.1",  // no port
        "127.0.0.1:",
        "127.0.0.1:http",
        "127.0.0.1:+80",
        "127.0.0.1:-1",
        "127.0.0.1: 80",
        "127.0.0.1:80 ",
        " 127.0.0.1:80",
        "127.0.0.1:0x50",
        "127.0.0.1:65536",
        "127.0.0.1:4294967376",  // 80 in 32 bits
        "127.0.0.1:80:80",
        "127.0.0.1\0:80"sv,
        "127.0.0.1:80\0"sv,
        "127.0.0:80",  // forms that inet_aton() would take
        "127.1:80",
        "2130706433:80",
        "127.0.0.0x1:80",
        "127.0.0.01:80",  // octal to some, decimal to others
        "256.0.0.1:80",
        "127.0.0.1.1:80",
        "127.0.0.1%1:80",
        "::1:80",  // is the last group the port?
        "::",
        "[::1]",
        "[::1]80",
        "[::1]:",
        "[::1:80",
        "::1]:80",
        "[]:80",
        "[:80",
        "[[::1]]:80",
        "[::1] :80",
        "[127.0.0.1]:80",
        "[*]:80",
        "[::1::2]:80",
        "[::1\0]:80"sv,
        "[12345::1]:80",
        "[fe80::1%]:80",
        "[fe80::1%0]:80",
        "[fe80::1%-1]:80",
        "[fe80::1%4294967296]:80",
        "[fe80::1%no-such-if]:80",
        "[fe80::1%much-longer-than-any-interface-name]:80",
        "[%1]:80",
        "Localhost:80",
        "example.org:80",
        "**:80",
        "unix:/run/socket",
        "http://127.0.0.1:80",
    };
    for (const auto text : texts) {
        CAPTURE(std::string(text));
        const auto parsed = address::parse(text);
        REQUIRE_FALSE(parsed);
        CHECK(parsed.error() == weft::errc::address_invalid);
    }
}

TEST_CASE("address: a scope may be an interface's name") {
    const auto loopback = if_nametoindex("lo");
    if (loopback == 0) {
        MESSAGE("skipped: there is no interface lo");
        return;
    }
    CHECK(address::parse("[fe80::1%lo]:80") ==
          address::parse("[fe80::1%" + std::to_string(loopback) + "]:80"));
}

TEST_CASE("address: a default-made one is the IPv4 any address") {
    CHECK(address() == address::parse("0.0.0.0:0"));
}

TEST_CASE("address: equality looks at family, host, scope and port") {
    const char* const different[] = {"127.0.0.1:80",          "127.0.0.2:80", "127.0.0.1:81",
                                     "[::ffff:127.0.0.1]:80", "[::1]:80",     "[fe80::1%1]:80",
                                     "[fe80::1%2]:80",        "[fe80::1]:80"};
    for (const auto left : different)
        for (const auto right : different)
            CHECK((address::parse(left) == address::parse(right)) == (std::string_view(left) == right));
}

TEST_CASE("address: with_port changes the port and nothing else") {
    for (const std::string host : {"127.0.0.1", "[fe80::1%3]"}) {
        const auto before = address::parse(host + ":80").value();
        CHECK(before.with_port(8443) == address::parse(host + ":8443"));
        CHECK(before.port() == 80);
    }
}

TEST_CASE("address: the socket address goes out and comes back") {
    for (const char* text : {"10.1.2.3:4567", "[fe80::1%3]:4567"}) {
        const auto before = address::parse(text).value();
        CHECK(address::from_sockaddr(before.data(), before.size()) == before);
    }
    const auto v6 = address::parse("[::1]:80").value();
    CHECK(v6.size() == sizeof(sockaddr_in6));
    CHECK(v6.data()->sa_family == AF_INET6);
}

TEST_CASE("address: an IPv6 flow label does not make a peer another one") {
    const auto before = address::parse("[2001:db8::1]:80").value();
    sockaddr_in6 raw;
    std::memcpy(&raw, before.data(), sizeof(raw));
    raw.sin6_flowinfo = htonl(0x12345);
    CHECK(address::from_sockaddr(reinterpret_cast<const sockaddr*>(&raw), sizeof(raw)) == before);
}

TEST_CASE("address: a socket address of another family, or cut short, is refused") {
    const auto v4 = address::parse("127.0.0.1:80").value();
    CHECK_FALSE(address::from_sockaddr(v4.data(), v4.size() - 1));
    CHECK_FALSE(address::from_sockaddr(v4.data(), 0));
    const auto v6 = address::parse("[::1]:80").value();
    CHECK_FALSE(address::from_sockaddr(v6.data(), sizeof(sockaddr_in)));
    sockaddr_un local{};
    local.sun_family = AF_UNIX;
    CHECK_FALSE(address::from_sockaddr(reinterpret_cast<const sockaddr*>(&local), sizeof(local)));
}
