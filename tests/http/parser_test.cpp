#include "guarded_bytes.hpp"

#include <doctest/doctest.h>
#include <weft/net/http/parser.hpp>

#include <array>
#include <string>
#include <vector>

using namespace std::literals;
using weft::http::body_framing;
using weft::http::header;
using weft::http::method;
using weft::http::request_head;
using weft::http::request_parser;

namespace {

// All that a parser says about some bytes, as one text that is easy to compare and to print.
std::string outcome_of(request_parser::status status, const request_parser& parser) {
    if (status == request_parser::status::incomplete) return "incomplete";
    if (status == request_parser::status::refused)
        return "refused: " + std::to_string(parser.why().status) + " " + std::string(parser.why().reason);
    const request_head& head = parser.head();
    std::string text = "complete: " + std::to_string(parser.head_bytes()) + " bytes, verb " +
                       std::to_string(static_cast<int>(head.verb)) + ", 1." +
                       std::to_string(head.version_minor) + ", framing " +
                       std::to_string(static_cast<int>(head.framing)) + " of " +
                       std::to_string(head.content_length) + (head.keep_alive ? ", keep" : ", close") +
                       (head.expect_continue ? ", expect" : "");
    for (const auto view : {head.method_name, head.target, head.path, head.query, head.host})
        text.append("\n<").append(view).append(">");
    for (const auto& [name, value] : head.headers)
        text.append("\n<").append(name).append(">: <").append(value).append(">");
    return text;
}

struct outcome {
    int refused_with = 0;  // 0 when it was not refused
    std::string text;
};

// Hands in `bytes` up to each of the ends in turn, each time at another address.
outcome feed(std::string_view bytes, const std::vector<std::size_t>& ends, weft::http::limits limits) {
    static guarded_bytes memory(64 * 1024);
    std::array<header, 128> storage;
    request_parser parser(storage, limits);
    auto status = request_parser::status::incomplete;
    for (const std::size_t end : ends) {
        status = parser.parse(memory.put(bytes.substr(0, end)));
        if (status != request_parser::status::incomplete) break;
    }
    return {status == request_parser::status::refused ? parser.why().status : 0, outcome_of(status, parser)};
}

// The outcome of the bytes fed whole, after checking that no way to split them changes it.
outcome parse(std::string_view bytes, weft::http::limits limits = {}) {
    const outcome whole = feed(bytes, {bytes.size()}, limits);
    std::vector<std::size_t> every_end;
    for (std::size_t end = 0; end <= bytes.size(); ++end) {
        CHECK(feed(bytes, {end, bytes.size()}, limits).text == whole.text);
        every_end.push_back(end);
    }
    CHECK(feed(bytes, every_end, limits).text == whole.text);
    return whole;
}

// A parsed request and the memory that its head lives in.
struct parsed {
    explicit parsed(std::string text) : bytes(std::move(text)), parser(storage) {
        REQUIRE(parser.parse(bytes) == request_parser::status::complete);
    }
    const request_head* operator->() const { return &parser.head(); }

    std::string bytes;
    std::array<header, 16> storage;
    request_parser parser;
};

std::string with_fields(std::string_view fields) {
    return "POST / HTTP/1.1\r\nHost: a\r\n" + std::string(fields) + "\r\n\r\n";
}
std::string with_target(std::string_view target, std::string_view verb = "GET") {
    return std::string(verb) + " " + std::string(target) + " HTTP/1.1\r\nHost: a\r\n\r\n";
}
std::string with_host(std::string_view host) {
    return "GET / HTTP/1.1\r\nHost: " + std::string(host) + "\r\n\r\n";
}

// What is refused, with which status, and by which section: of RFC 9112 where no other is named.
struct row {
    std::string bytes;
    int status;  // 0: accepted
    const char* section;
};

void check(const std::vector<row>& rows) {
    for (const auto& [bytes, status, section] : rows) {
        CAPTURE(bytes);
        CAPTURE(section);
        const outcome result = parse(bytes);
        CAPTURE(result.text);
        CHECK(result.refused_with == status);
        CHECK(result.text != "incomplete");
    }
}

}  // namespace

TEST_CASE("http parser: a plain request is read into its parts") {
    const parsed request(
        "GET /a/b%20c?x=1&y=2 HTTP/1.1\r\nHost: example.com:8080\r\nX-Empty:\r\nx-pad: \t v w "
        "\t\r\n\r\nbody");
    CHECK(request->verb == method::get);
    CHECK(request->method_name == "GET");
    CHECK(request->target == "/a/b%20c?x=1&y=2");
    CHECK(request->path == "/a/b%20c");
    CHECK(request->query == "x=1&y=2");
    CHECK(request->host == "example.com:8080");
    CHECK(request->version_minor == 1);
    CHECK(request->framing == body_framing::none);
    CHECK(request->keep_alive);
    CHECK(!request->expect_continue);
    CHECK(request.parser.head_bytes() == request.bytes.size() - 4);
    REQUIRE(request->headers.size() == 3);
    CHECK(request->headers[1].name == "X-Empty");
    CHECK(request->headers[1].value == "");
    CHECK(request->headers[2].value == "v w");
}

TEST_CASE("http parser: a header is found whatever the case of its name") {
    const parsed request("GET / HTTP/1.1\r\nHOST: a\r\nUpGrade: websocket\r\nupgrade: h2c\r\n\r\n");
    REQUIRE(request->find("upgrade") != nullptr);
    CHECK(request->find("upgrade")->value == "websocket");
    CHECK(request->find("upgrad") == nullptr);
}

TEST_CASE("http parser: known methods are told apart, others are handed on by name") {
    using enum method;
    const std::vector<std::pair<const char*, method>> rows = {
        {"GET", get},         {"HEAD", head},      {"POST", post},   {"PUT", put},   {"DELETE", delete_},
        {"OPTIONS", options}, {"TRACE", trace},    {"PATCH", patch}, {"get", other}, {"PROPFIND", other},
        {"PURGE", other},     {"M-SEARCH", other}, {"X", other},
    };
    for (const auto& [name, verb] : rows) {
        CAPTURE(name);
        const parsed request(with_target("/", name));
        CHECK(request->verb == verb);
        CHECK(request->method_name == name);
    }
    CHECK(parsed(with_target("a:80", "CONNECT"))->verb == connect);
}

TEST_CASE("http parser: anything short of a whole head is incomplete") {
    const std::string bytes = "\r\nPOST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (std::size_t size = 0; size < bytes.size(); ++size)
        CHECK(parse(bytes.substr(0, size)).text == "incomplete");
    CHECK(parse(bytes).text.starts_with("complete"));
}

TEST_CASE("http parser: what follows the head is left alone") {
    const std::string first = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
    const std::string both = first + "\0\r\nnonsense"s;
    CHECK(parse(both).text == parse(first).text);
}

TEST_CASE("http parser: after a reset it reads the next request, and forgets the one before") {
    std::array<header, 4> storage;
    request_parser parser(storage);
    const auto first = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"sv;
    REQUIRE(parser.parse(first) == request_parser::status::complete);
    CHECK(parser.parse(first) == request_parser::status::complete);
    parser.reset();
    REQUIRE(parser.parse("GET /2 HTTP/1.1\r\nHost: b\r\n\r\n"sv) == request_parser::status::complete);
    CHECK(parser.head().target == "/2");
    CHECK(parser.head().framing == body_framing::none);
    CHECK(parser.head().keep_alive);
    CHECK(parser.head().headers.size() == 1);
    parser.reset();
    REQUIRE(parser.parse("\n"sv) == request_parser::status::refused);
    CHECK(parser.parse("\nGET / HTTP/1.1\r\n"sv) == request_parser::status::refused);
}

TEST_CASE("http parser: request lines are taken or refused") {
    check({
        {"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 0, "2.2: an empty line before the request is skipped"},
        {"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "2.2: at least one, and not for ever"},
        {"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "2.2: line end without CR"},
        {"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "2.2: CR without LF"},
        {"GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "2.2: line end without CR"},
        {"GET / HTTP/1.1\rHost: a\r\n\r\n", 400, "2.2: CR without LF"},
        {"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", 400, "2.2: CR without LF"},
        {" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "3"},
        {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "3: one SP between the parts"},
        {"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400, "3: one SP between the parts"},
        {"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "3: one SP between the parts"},
        {"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400, "3: no white space behind"},
        {"GET /\r\n\r\n", 400, "3: HTTP/0.9"},
        {"GET\r\n\r\n", 400, "3"},
        {"G\0T / HTTP/1.1\r\nHost: a\r\n\r\n"s, 400, "3.1: method is a token"},
        {"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "3.1: method is a token"},
        {"G\xc3\x84T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "3.1: method is a token"},
        {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"s, 400, "3.1: a TLS client is not kept waiting"},
        {with_target("/", std::string(32, 'M')), 0, "3"},
        {with_target("/", std::string(33, 'M')), 501, "3: longer than any known method"},
        {std::string(33, 'M'), 501, "3: longer than any known method, and no more needs to come"},
    });
}

TEST_CASE("http parser: versions are taken or refused") {
    check({
        {"GET / HTTP/1.0\r\n\r\n", 0, "3.2: HTTP/1.0 needs no Host"},
        {"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 0, "RFC 9110 2.5: a higher minor version is served"},
        {"GET / HTTP/1.9\r\nHost: a\r\n\r\n", 0, "RFC 9110 2.5"},
        {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "RFC 9110 15.6.6"},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "RFC 9110 15.6.6: the preface of HTTP/2"},
        {"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505, "RFC 9110 15.6.6"},
        {"GET / HTTP/3.7\r\nHost: a\r\n\r\n", 505, "RFC 9110 15.6.6"},
        {"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400, "2.3: one digit"},
        {"GET / HTTP/01.1\r\nHost: a\r\n\r\n", 400, "2.3: one digit"},
        {"GET / HTTP/1\r\nHost: a\r\n\r\n", 400, "2.3"},
        {"GET / HTTP/1,1\r\nHost: a\r\n\r\n", 400, "2.3"},
        {"GET / HTTP/a.1\r\nHost: a\r\n\r\n", 400, "2.3"},
        {"GET / http/1.1\r\nHost: a\r\n\r\n", 400, "2.3: case-sensitive"},
        {"GET / HTTPS/1.1\r\nHost: a\r\n\r\n", 400, "2.3"},
        {"GET / X\r\n", 400, "2.3"},
        {"GET / \r\nHost: a\r\n\r\n", 400, "2.3"},
    });
    CHECK(parsed("GET / HTTP/1.7\r\nHost: a\r\n\r\n")->version_minor == 1);
    CHECK(parsed("GET / HTTP/1.0\r\n\r\n")->version_minor == 0);
}

TEST_CASE("http parser: targets are taken or refused") {
    check({
        {with_target("/-._~!$&'()*+,;=:@%41/?/?[]"), 0, "RFC 3986 3.3, 3.4"},
        {with_target("//double//"), 0, "3.2.1"},
        {with_target("/a#b"), 400, "3.2: no fragment"},
        {with_target("/a\tb"), 400, "3.2"},
        {with_target("/a\x7f"), 400, "3.2"},
        {with_target("/a\0b"s), 400, "3.2"},
        {with_target("/\xc3\xa4"), 400, "3.2"},
        {with_target("/a\"b"), 400, "RFC 3986 2"},
        {with_target("/<a>"), 400, "RFC 3986 2"},
        {with_target("/a\\b"), 400, "RFC 3986 2"},
        {with_target("/a^b"), 400, "RFC 3986 2"},
        {with_target("/a`b"), 400, "RFC 3986 2"},
        {with_target("/{a|b}"), 400, "RFC 3986 2"},
        {with_target("/%"), 400, "RFC 3986 2.1"},
        {with_target("/%4"), 400, "RFC 3986 2.1"},
        {with_target("/%4g"), 400, "RFC 3986 2.1"},
        {with_target("/?a=%u1234"), 400, "RFC 3986 2.1"},
        {with_target("a"), 400, "3.2"},
        {with_target("?a"), 400, "3.2"},
        {with_target("*"), 400, "3.2.4: only with OPTIONS"},
        {with_target("*", "OPTIONS"), 0, "3.2.4"},
        {with_target("**", "OPTIONS"), 400, "3.2.4"},
        {with_target("/", "OPTIONS"), 0, "3.2.4"},
        {with_target("a:80"), 400, "3.2.3: only with CONNECT"},
        {with_target("a:80", "CONNECT"), 0, "3.2.3"},
        {with_target("[::1]:80", "CONNECT"), 0, "3.2.3"},
        {with_target("a", "CONNECT"), 400, "RFC 9110 9.3.6: port is missing"},
        {with_target("a:", "CONNECT"), 400, "RFC 9110 9.3.6: port is empty"},
        {with_target("[::1]", "CONNECT"), 400, "RFC 9110 9.3.6: port is missing"},
        {with_target(":80", "CONNECT"), 400, "3.2.3: host is missing"},
        {with_target("a:80/", "CONNECT"), 400, "3.2.3"},
        {with_target("/", "CONNECT"), 400, "3.2.3"},
        {with_target("http://b/c", "CONNECT"), 400, "3.2.3"},
        {with_target("http://b:1/c?d"), 0, "3.2.2"},
        {with_target("HTTPS://b"), 0, "3.2.2, RFC 3986 3.1"},
        {with_target("http://b?d"), 0, "3.2.2"},
        {with_target("ftp://b/"), 400, "3.2.2: not a scheme that we serve"},
        {with_target("http:/b"), 400, "3.2.2"},
        {with_target("http:///b"), 400, "RFC 9110 4.2.1: host is empty"},
        {with_target("http://user@b/"), 400, "RFC 9110 4.2.4: user information"},
        {with_target("http://b:65536/"), 400, "RFC 3986 3.2.3"},
        {with_target("http://[::1/"), 400, "RFC 3986 3.2.2"},
    });
}

TEST_CASE("http parser: the host in an absolute or authority target outranks the Host header") {
    const parsed absolute(with_target("http://b:81/c/d?e"));
    CHECK(absolute->host == "b:81");
    CHECK(absolute->path == "/c/d");
    CHECK(absolute->query == "e");
    CHECK(absolute->find("host")->value == "a");
    CHECK(parsed(with_target("http://b"))->path == "/");
    CHECK(parsed(with_target("http://b?e"))->path == "/");
    CHECK(parsed(with_target("http://b?e"))->query == "e");
    const parsed authority(with_target("b:443", "CONNECT"));
    CHECK(authority->host == "b:443");
    CHECK(authority->path == "");
    CHECK(parsed(with_target("*", "OPTIONS"))->path == "*");
}

TEST_CASE("http parser: fields are taken or refused") {
    check({
        {with_fields("a:b"), 0, "5"},
        {with_fields("a: \t"), 0, "5: an empty value"},
        {with_fields("!#$%&'*+-.^_`|~09azAZ: x"), 0, "RFC 9110 5.6.2"},
        {with_fields("a: \x80\xff \t~"), 0, "RFC 9110 5.5: obs-text"},
        {with_fields("a : b"), 400, "5.1: white space before the colon"},
        {with_fields("a\t: b"), 400, "5.1: white space before the colon"},
        {with_fields(": b"), 400, "5: empty name"},
        {with_fields("a"), 400, "5: no colon"},
        {with_fields("a b: c"), 400, "5"},
        {with_fields("a@: b"), 400, "RFC 9110 5.1"},
        {with_fields("\xc3\xa4: b"), 400, "RFC 9110 5.1"},
        {with_fields("a\0: b"s), 400, "RFC 9110 5.1"},
        {with_fields("a: b\r\n c"), 400, "5.2: obs-fold"},
        {with_fields("a: b\r\n\tc"), 400, "5.2: obs-fold"},
        {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, "2.2: white space before the first field"},
        {with_fields("a: b\0c"s), 400, "RFC 9110 5.5"},
        {with_fields("a: b\x01"), 400, "RFC 9110 5.5"},
        {with_fields("a: b\x1f"
                     "0123456789"),
         400, "RFC 9110 5.5"},
        {with_fields("a: 01234567\x7f"), 400, "RFC 9110 5.5"},
        {with_fields("a: b\rc"), 400, "2.2: CR without LF"},
        {with_fields("a: b\r\rc: d"), 400, "2.2: CR without LF"},
        {with_fields("a: b\nc: d"), 400, "2.2: line end without CR"},
        {with_fields("a:\nc: d"), 400, "2.2: line end without CR"},
        {"GET / HTTP/1.1\r\nHost: a\r\n\n", 400, "2.2: line end without CR"},
        {"GET / HTTP/1.1\r\nHost: a\n\n", 400, "2.2: line end without CR"},
        {"GET / HTTP/1.1\r\nHost: a\r\n\rX", 400, "2.2: CR without LF"},
    });
}

TEST_CASE("http parser: each control byte in a value is refused, wherever it stands in a word") {
    for (int byte = 0; byte < 256; ++byte) {
        const bool allowed = byte == '\t' || (byte >= ' ' && byte != 0x7f);
        for (std::size_t before = 0; before < 9; ++before) {
            const auto value = "x" + std::string(before, 'y') + static_cast<char>(byte) + "zzzzzzzzz";
            CAPTURE(byte);
            CAPTURE(before);
            CHECK(feed(with_fields("a: " + value), {1024}, {}).refused_with == (allowed ? 0 : 400));
        }
    }
}

TEST_CASE("http parser: hosts are taken or refused") {
    check({
        {with_host("example.com"), 0, "3.2"},
        {with_host("a:8080"), 0, "3.2"},
        {with_host("a:"), 0, "RFC 3986 3.2.3: an empty port"},
        {with_host("[::1]:80"), 0, "RFC 3986 3.2.2"},
        {with_host("[::ffff:1.2.3.4]"), 0, "RFC 3986 3.2.2"},
        {with_host("%41.b"), 0, "RFC 3986 3.2.2"},
        {with_host(""), 0, "3.2: a target without authority"},
        {"GET / HTTP/1.1\r\nx: y\r\n\r\n", 400, "3.2: Host is missing"},
        {"GET http://a/ HTTP/1.1\r\n\r\n", 400, "3.2: Host is missing, also with an absolute target"},
        {with_fields("Host: a"), 400, "3.2: a second Host"},
        {"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400, "3.2: a second Host"},
        {"GET / HTTP/1.0\r\nHost:\r\nhost:\r\n\r\n", 400, "3.2: a second Host"},
        {with_host("a, b"), 400, "3.2"},
        {with_host("a b"), 400, "3.2"},
        {with_host("a/b"), 400, "3.2"},
        {with_host("a@b"), 400, "3.2"},
        {with_host("a?b"), 400, "3.2"},
        {with_host("a%4"), 400, "RFC 3986 2.1"},
        {with_host("http://a"), 400, "3.2"},
        {with_host(":80"), 400, "3.2: host is empty"},
        {with_host("a:b"), 400, "RFC 3986 3.2.3"},
        {with_host("a:80:80"), 400, "RFC 3986 3.2.3"},
        {with_host("a:-1"), 400, "RFC 3986 3.2.3"},
        {with_host("a:65536"), 400, "RFC 3986 3.2.3"},
        {with_host("a:99999999999999999999"), 400, "RFC 3986 3.2.3"},
        {with_host("::1"), 400, "RFC 3986 3.2.2"},
        {with_host("[::1"), 400, "RFC 3986 3.2.2"},
        {with_host("[::1]x"), 400, "RFC 3986 3.2.2"},
        {with_host("[]"), 400, "RFC 3986 3.2.2"},
        {with_host("[::1%25eth0]"), 400, "RFC 3986 3.2.2"},
        {with_host("\xc3\xa4"), 400, "RFC 3986 3.2.2"},
    });
}

TEST_CASE("http parser: the body's framing is taken or refused") {
    check({
        {with_fields("Content-Length: 0"), 0, "6.2"},
        {with_fields("Content-Length: 007"), 0, "RFC 9110 8.6"},
        {with_fields("Content-Length: 9223372036854775807"), 0, "RFC 9110 8.6"},
        {with_fields("Content-Length: 9223372036854775808"), 400, "RFC 9110 8.6: overflow"},
        {with_fields("Content-Length: 18446744073709551617"), 400, "RFC 9110 8.6: overflow"},
        {with_fields("Content-Length: 99999999999999999999999999999999999999999"), 400,
         "RFC 9110 8.6: overflow"},
        {with_fields("Content-Length:"), 400, "6.3"},
        {with_fields("Content-Length: +1"), 400, "6.3"},
        {with_fields("Content-Length: -1"), 400, "6.3"},
        {with_fields("Content-Length: 0x1"), 400, "6.3"},
        {with_fields("Content-Length: 1 2"), 400, "6.3"},
        {with_fields("Content-Length: 1.0"), 400, "6.3"},
        {with_fields("Content-Length: a"), 400, "6.3"},
        {with_fields("Content-Length: 1, 1"), 400, "6.3: a list"},
        {with_fields("Content-Length: 1,"), 400, "6.3: a list"},
        {with_fields("Content-Length: 1\r\nContent-Length: 2"), 400, "6.3: two that differ"},
        {with_fields("Content-Length: 1\r\ncontent-length: 1"), 400, "6.3: two, though equal"},
        {with_fields("Transfer-Encoding: chunked"), 0, "6.1"},
        {with_fields("transfer-encoding:\tCHUNKED "), 0, "7: case-insensitive"},
        {with_fields("Transfer-Encoding: chunked\r\nContent-Length: 1"), 400, "6.1"},
        {with_fields("Content-Length: 1\r\nTransfer-Encoding: chunked"), 400, "6.1"},
        {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "6.1: in HTTP/1.0"},
        {with_fields("Transfer-Encoding: gzip"), 501, "6.1: unknown"},
        {with_fields("Transfer-Encoding: identity"), 501, "6.1: unknown"},
        {with_fields("Transfer-Encoding: xchunked"), 501, "6.1: unknown"},
        {with_fields("Transfer-Encoding: gzip, chunked"), 501, "6.1: unknown"},
        {with_fields("Transfer-Encoding: gzip;q=1, chunked"), 501, "6.1: unknown"},
        {with_fields("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"), 501, "6.1: unknown"},
        {with_fields("Transfer-Encoding: chunked, gzip"), 400, "6.1: chunked is not last"},
        {with_fields("Transfer-Encoding: chunked, identity"), 400, "6.1: chunked is not last"},
        {with_fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip"), 400,
         "6.1: chunked is not last"},
        {with_fields("Transfer-Encoding: chunked, chunked"), 400, "6.1: chunked twice"},
        {with_fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), 400, "6.1: chunked twice"},
        {with_fields("Transfer-Encoding: chunked;a=b"), 400, "7.1: chunked has no parameters"},
        {with_fields("Transfer-Encoding: chunked,"), 400, "6.1"},
        {with_fields("Transfer-Encoding: ,chunked"), 400, "6.1"},
        {with_fields("Transfer-Encoding:"), 400, "6.1"},
        {with_fields("Transfer-Encoding: \"chunked\""), 400, "6.1"},
        {with_fields("Transfer-Encoding: chunked gzip"), 400, "6.1"},
        {with_fields("Transfer-Encoding : chunked"), 400, "5.1"},
        {with_fields("Transfer-Encoding: \x0b"
                     "chunked"),
         400, "RFC 9110 5.5"},
    });
    CHECK(parsed(with_fields("Content-Length: 9223372036854775807"))->content_length == 9223372036854775807u);
    CHECK(parsed(with_fields("Content-Length: 0"))->framing == body_framing::content_length);
    CHECK(parsed(with_fields("Transfer-Encoding: chunked"))->framing == body_framing::chunked);
    CHECK(parsed(with_fields("a: b"))->framing == body_framing::none);
}

TEST_CASE("http parser: keep-alive follows the version and the Connection options") {
    struct {
        const char* version;
        const char* connection;
        bool keep_alive;
    } const rows[] = {
        {"1.1", "x: y", true},
        {"1.0", "x: y", false},
        {"1.1", "Connection: close", false},
        {"1.1", "Connection: Upgrade , CLOSE", false},
        {"1.1", "Connection: upgrade\r\nconnection: ,close,", false},
        {"1.1", "Connection: closed", true},
        {"1.1", "Connection:", true},
        {"1.0", "Connection: Keep-Alive", true},
        {"1.0", "Connection: keep-alive, close", false},
        {"1.0", "Connection: close\r\nConnection: keep-alive", false},
    };
    for (const auto& row : rows) {
        CAPTURE(row.version);
        CAPTURE(row.connection);
        const parsed request("GET / HTTP/"s + row.version + "\r\nHost: a\r\n" + row.connection + "\r\n\r\n");
        CHECK(request->keep_alive == row.keep_alive);
    }
}

TEST_CASE("http parser: an expectation is told when a body waits for it, and refused when it is another") {
    CHECK(parsed(with_fields("Expect: 100-Continue\r\nContent-Length: 1"))->expect_continue);
    CHECK(parsed(with_fields("Transfer-Encoding: chunked\r\nExpect: 100-continue"))->expect_continue);
    CHECK(!parsed(with_fields("Expect: 100-continue\r\nContent-Length: 0"))->expect_continue);
    CHECK(!parsed(with_fields("Expect: 100-continue"))->expect_continue);
    CHECK(!parsed("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")->expect_continue);
    check({
        {with_fields("Expect: 100-continue, something"), 417, "RFC 9110 10.1.1"},
        {with_fields("Expect: 200-ok"), 417, "RFC 9110 10.1.1"},
        {"POST / HTTP/1.0\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\n", 0,
         "RFC 9110 10.1.1: none in HTTP/1.0"},
    });
}

TEST_CASE("http parser: a request line may be as long as its limit and no longer") {
    const weft::http::limits limits = {.request_line_bytes_max = 64};
    const std::string fixed = "GET / HTTP/1.1\r\n";
    const auto line = [&](std::size_t size) {
        return "GET /" + std::string(size - fixed.size(), 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n";
    };
    CHECK(parse(line(64), limits).refused_with == 0);
    CHECK(parse(line(65), limits).refused_with == 414);
    CHECK(parse("GET /" + std::string(59, 'a'), limits).refused_with == 414);
    CHECK(parse("GET /" + std::string(58, 'a'), limits).text == "incomplete");
}

TEST_CASE("http parser: a head may be as long as its limit and no longer") {
    const weft::http::limits limits = {.header_bytes_max = 128};
    const auto head = [&](std::size_t size) {
        const std::size_t fixed = with_fields("a: ").size();
        return with_fields("a: " + std::string(size - fixed, 'b'));
    };
    CHECK(parse(head(128), limits).refused_with == 0);
    CHECK(parse(head(128) + "body", limits).refused_with == 0);
    CHECK(parse(head(129), limits).refused_with == 431);
    CHECK(parse(head(200).substr(0, 128), limits).refused_with == 431);
    CHECK(parse(head(200).substr(0, 127), limits).text == "incomplete");
}

TEST_CASE("http parser: there may be as many headers as the limit and the storage allow, and no more") {
    CHECK(parse(with_fields("a: b\r\nc: d"), {.headers_max = 3}).refused_with == 0);
    CHECK(parse(with_fields("a: b\r\nc: d"), {.headers_max = 2}).refused_with == 431);
    std::array<header, 1> storage;
    request_parser parser(storage);
    REQUIRE(parser.parse(with_fields("a: b")) == request_parser::status::refused);
    CHECK(parser.why().status == 431);
}
