#include "guarded_bytes.hpp"

#include <doctest/doctest.h>
#include <weft/net/http/chunked.hpp>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

using namespace std::literals;
using weft::http::chunked_decoder;
using status = chunked_decoder::status;

namespace {

struct outcome {
    status last = status::need_more;
    std::string body;
    std::size_t consumed = 0;
    int refused_with = 0;
    bool operator==(const outcome&) const = default;
};

// Hands in the bytes in pieces that end at each of the ends in turn.
outcome feed(std::string_view bytes, const std::vector<std::size_t>& ends) {
    static guarded_bytes memory(64 * 1024);
    chunked_decoder decoder;
    outcome result;
    for (const std::size_t end : ends) {
        std::span<const char> input = memory.put(bytes.substr(result.consumed, end - result.consumed));
        do {
            const auto step = decoder.next(input);
            REQUIRE(step.consumed <= input.size());
            result.last = step.what;
            result.consumed += step.consumed;
            result.body.append(step.data.data(), step.data.size());
            input = input.subspan(step.consumed);
        } while (result.last == status::data);
        if (result.last != status::need_more) break;
        REQUIRE(result.consumed == end);
    }
    if (result.last == status::refused) result.refused_with = decoder.why().status;
    return result;
}

// The outcome of the bytes fed whole, after checking that no way to split them changes it.
outcome decode(std::string_view bytes) {
    const outcome whole = feed(bytes, {bytes.size()});
    std::vector<std::size_t> every_end;
    for (std::size_t end = 0; end <= bytes.size(); ++end) {
        CHECK(feed(bytes, {end, bytes.size()}) == whole);
        every_end.push_back(end);
    }
    CHECK(feed(bytes, every_end) == whole);
    return whole;
}

// Of RFC 9112.
struct row {
    std::string bytes;
    int status;  // 0: taken
    std::string body;
    const char* section;
};

void check(const std::vector<row>& rows) {
    for (const auto& [bytes, refused_with, body, section] : rows) {
        CAPTURE(bytes);
        CAPTURE(section);
        const outcome result = decode(bytes);
        CHECK(result.refused_with == refused_with);
        CHECK(result.body == body);
        CHECK(result.last == (refused_with == 0 ? status::complete : status::refused));
        if (refused_with == 0) CHECK(result.consumed == bytes.size());
    }
}

}  // namespace

TEST_CASE("chunked decoder: well-formed bodies come out whole") {
    check({
        {"0\r\n\r\n", 0, "", "7.1: an empty body"},
        {"5\r\nhello\r\n0\r\n\r\n", 0, "hello", "7.1"},
        {"5\r\nhello\r\n00007\r\n, world\r\n000\r\n\r\n", 0, "hello, world", "7.1: leading zeros"},
        {"a\r\n0123456789\r\nB\r\n0123456789\n\r\n0\r\n\r\n", 0, "01234567890123456789\n",
         "7.1: either case"},
        {"0000000000000001\r\nx\r\n0\r\n\r\n", 0, "x", "7.1: sixteen digits"},
        {"1;a\r\nx\r\n1;a=b;c=\"d e\"\r\ny\r\n0;\tz\r\n\r\n", 0, "xy", "7.1.1: extensions are skipped"},
        {"1\r\nx\r\n0\r\na: b\r\nc:\r\n\r\n", 0, "x", "7.1.2: trailers are dropped"},
    });
}

TEST_CASE("chunked decoder: chunk sizes that are not plain hexadecimal numbers are refused") {
    check({
        {"\r\n", 400, "", "7.1: no digit"},
        {";a\r\n", 400, "", "7.1: no digit"},
        {"-1\r\n", 400, "", "7.1: a sign"},
        {"+1\r\nx\r\n0\r\n\r\n", 400, "", "7.1: a sign"},
        {"0x1\r\nx\r\n0\r\n\r\n", 400, "", "7.1: a prefix"},
        {" 1\r\nx\r\n0\r\n\r\n", 400, "", "7.1: white space"},
        {"1 \r\nx\r\n0\r\n\r\n", 400, "", "7.1: white space"},
        {"1\t;a\r\nx\r\n0\r\n\r\n", 400, "", "7.1: white space"},
        {"1 0\r\nx\r\n0\r\n\r\n", 400, "", "7.1: white space"},
        {"1g\r\nx\r\n0\r\n\r\n", 400, "", "7.1"},
        {"1\0\r\nx\r\n0\r\n\r\n"s, 400, "", "7.1"},
        {"1_0\r\n", 400, "", "7.1"},
        {"8000000000000000\r\n", 400, "", "7.1: overflow"},
        {"ffffffffffffffff\r\n", 400, "", "7.1: overflow"},
        {"00000000000000001\r\nx\r\n0\r\n\r\n", 400, "", "7.1: seventeen digits"},
        {"1\r\nx\r\n-0\r\n\r\n", 400, "x", "7.1: a sign, later on"},
    });
    CHECK(decode("7fffffffffffffff\r\nx").last == status::need_more);
}

TEST_CASE("chunked decoder: line ends other than CRLF are refused") {
    check({
        {"1\nx\r\n0\r\n\r\n", 400, "", "2.2: LF after the size"},
        {"1\rx\r\n0\r\n\r\n", 400, "", "2.2: CR after the size"},
        {"1;a\nx\r\n0\r\n\r\n", 400, "", "2.2: LF after an extension"},
        {"1;a\rb\r\nx\r\n0\r\n\r\n", 400, "", "2.2: CR within an extension"},
        {"1;a\0\r\nx\r\n0\r\n\r\n"s, 400, "", "7.1.1: NUL within an extension"},
        {"1\r\nx\n0\r\n\r\n", 400, "x", "7.1: LF after the data"},
        {"1\r\nx0\r\n\r\n", 400, "x", "7.1: nothing after the data"},
        {"1\r\nxy\r\n0\r\n\r\n", 400, "x", "7.1: more data than the size says"},
        {"1\r\nx\rx0\r\n\r\n", 400, "x", "7.1: CR after the data"},
        {"0\r\n\n", 400, "", "7.1: LF at the end"},
        {"0\r\n\rx", 400, "", "7.1: CR at the end"},
    });
}

TEST_CASE("chunked decoder: malformed trailers are refused") {
    check({
        {"0\r\n: b\r\n\r\n", 400, "", "5: empty name"},
        {"0\r\na : b\r\n\r\n", 400, "", "5.1: white space before the colon"},
        {"0\r\na\r\n\r\n", 400, "", "5: no colon"},
        {"0\r\n a: b\r\n\r\n", 400, "", "5.2"},
        {"0\r\na: b\r\n c\r\n\r\n", 400, "", "5.2: obs-fold"},
        {"0\r\na: b\n\r\n", 400, "", "2.2: LF"},
        {"0\r\na: b\rc\r\n\r\n", 400, "", "2.2: CR"},
        {"0\r\na: \x01\r\n\r\n", 400, "", "RFC 9110 5.5"},
        {"0\r\nGET / HTTP/1.1\r\n\r\n", 400, "", "5: the next request instead of the end"},
    });
}

TEST_CASE("chunked decoder: the next request's bytes are left alone") {
    const outcome result = decode("1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\n");
    CHECK(result.last == status::complete);
    CHECK(result.consumed == 11);
}

TEST_CASE("chunked decoder: anything short of the end needs more") {
    const std::string bytes = "2;e\r\nxy\r\n0\r\nt: u\r\n\r\n";
    for (std::size_t size = 0; size < bytes.size(); ++size)
        CHECK(decode(bytes.substr(0, size)).last == status::need_more);
}

TEST_CASE("chunked decoder: data is lent from the input, piece by piece") {
    chunked_decoder decoder;
    const auto input = "5\r\nhello\r\n0\r\n\r\n"sv;
    const auto first = decoder.next(std::span(input).first(5));
    REQUIRE(first.what == status::data);
    CHECK(first.data.data() == input.data() + 3);
    CHECK(first.data.size() == 2);
    const auto second = decoder.next(std::span(input).subspan(5));
    REQUIRE(second.what == status::data);
    CHECK(second.data.size() == 3);
    CHECK(second.consumed == 3);
    CHECK(decoder.next(std::span(input).subspan(8)).what == status::complete);
    CHECK(decoder.next("x"sv).what == status::complete);
    CHECK(decoder.next("x"sv).consumed == 0);
}

TEST_CASE("chunked decoder: extensions may not outweigh the data for long") {
    const auto extension = [](std::size_t size) { return ";" + std::string(size, 'e') + "\r\n"; };
    const auto whole = [](const std::string& bytes) { return feed(bytes, {bytes.size()}).last; };
    CHECK(whole("0" + extension(4096) + "\r\n") == status::complete);
    CHECK(whole("0" + extension(4097) + "\r\n") == status::refused);
    std::string one_byte_chunks, hundred_byte_chunks;
    for (int i = 0; i < 100; ++i) {
        one_byte_chunks += "1" + extension(90) + "x\r\n";
        hundred_byte_chunks += "64" + extension(90) + std::string(100, 'x') + "\r\n";
    }
    CHECK(whole(one_byte_chunks + "0\r\n\r\n") == status::refused);
    CHECK(whole(hundred_byte_chunks + "0\r\n\r\n") == status::complete);
}

TEST_CASE("chunked decoder: trailers that are too long are refused with 431") {
    const auto trailers = [](std::size_t size) {
        return "0\r\na:" + std::string(size - 6, 'b') + "\r\n\r\n";
    };
    CHECK(feed(trailers(8192), {8195}).last == status::complete);
    CHECK(feed(trailers(8193), {8196}).refused_with == 431);
}
