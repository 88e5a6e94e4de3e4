// Requests and responses as handlers see them, and the small things that answers are made of.
#include "support.hpp"
#include "transaction.hpp"

#include <array>
#include <clocale>

#include <weft/net/http/date.hpp>
#include <weft/net/http/status.hpp>

using namespace weft::http;
using namespace std::string_view_literals;
using weft::testing::fake_transaction;
using weft::testing::signal_of_death;

TEST_CASE("http response: status, headers and body are sent as they were given") {
    fake_transaction owner;
    response answer(owner);
    CHECK(!answer.sent());
    CHECK(answer.status(201).header("Location", "/things/1").header("X-Empty", "").send("made", "text/html"));
    CHECK(answer.sent());
    CHECK(owner.answers == 1);
    CHECK(owner.status == 201);
    CHECK(owner.fields == "Location: /things/1\r\nX-Empty: \r\n");
    CHECK(owner.content_type == "text/html");
    CHECK(owner.body == "made");
}

TEST_CASE("http response: a header that would inject another is refused, and nothing is sent") {
    const std::array<std::pair<std::string_view, std::string_view>, 13> malformed{{
        {"X", "a\r\nSet-Cookie: b"},
        {"X", "a\nb"},
        {"X", "a\rb"},
        {"X", "a\0b"sv},
        {"X", "\x7f"},
        {"X", "\x01"},
        {"", "value"},
        {"X Y", "value"},
        {"X:", "value"},
        {"X\r\nY", "value"},
        {"X\n", "value"},
        {" X", "value"},
        {"X\xe4", "value"},
    }};
    for (const auto& [name, value] : malformed) {
        CAPTURE(name);
        CAPTURE(value);
        fake_transaction owner;
        response answer(owner);
        answer.header("Fine", "yes").header(name, value).header("Also-Fine", "yes");
        const auto refused = answer.send("body");
        REQUIRE(!refused);
        CHECK(status_of(refused.error()) == 500);
        CHECK(!answer.sent());
        CHECK(owner.answers == 0);
    }
    fake_transaction owner;
    response answer(owner);
    CHECK(!answer.send("body", "text/plain\r\nX: y"));
    CHECK(owner.answers == 0);
    CHECK(answer.header("X", "tabs\tand \xc3\xa4 are fine").send("body", ""));
}

TEST_CASE("http response: a second send stops the process") {
    CHECK(signal_of_death([] {
              fake_transaction owner;
              response answer(owner);
              static_cast<void>(answer.send("once"));
              static_cast<void>(answer.send("twice"));
          }) == SIGABRT);
}

TEST_CASE("http request: headers are found by name in any case, the first of several") {
    const std::array<header, 3> headers{{{"HOST", "h"}, {"X-Twice", "one"}, {"x-twice", "two"}}};
    request_head head;
    head.headers = headers;
    head.host = "h";
    head.query = "a=b";
    fake_transaction owner;
    owner.body_to_read = "the body";
    request asked(head, owner);
    CHECK(asked.header("host") == "h");
    CHECK(asked.header("x-twice") == "one");
    CHECK(!asked.header("x-none"));
    CHECK(asked.headers().size() == 3);
    CHECK(asked.query() == "a=b");
    CHECK(*asked.body() == "the body");
}

TEST_CASE("http request: parameters are found by name, up to eight, and a ninth stops the process") {
    const request_head head;
    fake_transaction owner;
    request asked(head, owner);
    const std::array<std::string_view, 9> names{"a", "b", "c", "d", "e", "f", "g", "h", "i"};
    for (const auto name : std::span(names).first(8)) asked.add_param(name, name);
    for (const auto name : std::span(names).first(8)) CHECK(asked.param(name) == name);
    CHECK(asked.param("i").empty());
    CHECK(signal_of_death([&] { asked.add_param("i", "i"); }) == SIGABRT);
    asked.clear_params();
    CHECK(asked.param("a").empty());
}

TEST_CASE("http status: an error carries its status, and no other error has one") {
    for (int status = 400; status < 600; ++status) CHECK(status_of(status_error(status)) == status);
    CHECK(status_of(std::make_error_code(std::errc::timed_out)) == 0);
    CHECK(status_of({}) == 0);
    CHECK(status_of(make_error_code(weft::errc::timed_out)) == 0);
    CHECK(status_error(404).message() == "404 Not Found");
    CHECK(status_error(499).message() == "499 Status");
    CHECK(status_error(404).category().name() == "http"sv);
    CHECK(status_error(404) == status_error(404));
    CHECK(status_error(404) != status_error(405));
}

TEST_CASE("http status: the phrases are those of RFC 9110") {
    const std::pair<int, std::string_view> known[] = {
        {100, "Continue"},
        {200, "OK"},
        {204, "No Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {417, "Expectation Failed"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {505, "HTTP Version Not Supported"},
    };
    for (const auto& [status, phrase] : known) CHECK(reason_phrase(status) == phrase);
    for (const int status : {0, 299, 418, 599, 1000, -1}) CHECK(reason_phrase(status) == "Status");
}

TEST_CASE("http date: known moments are written as RFC 9110 wants them") {
    const std::pair<std::time_t, std::string_view> known[] = {
        {0, "Thu, 01 Jan 1970 00:00:00 GMT"},
        {784111777, "Sun, 06 Nov 1994 08:49:37 GMT"},  // the example of RFC 9110, section 5.6.7
        {951782400, "Tue, 29 Feb 2000 00:00:00 GMT"},
        {946684799, "Fri, 31 Dec 1999 23:59:59 GMT"},
        {1709164800, "Thu, 29 Feb 2024 00:00:00 GMT"},
        {2147483648, "Tue, 19 Jan 2038 03:14:08 GMT"},
        {4107542399, "Sun, 28 Feb 2100 23:59:59 GMT"},
        {4107542400, "Mon, 01 Mar 2100 00:00:00 GMT"},
        {253402300799, "Fri, 31 Dec 9999 23:59:59 GMT"},
    };
    for (const char* locale : {"C", "de_DE.UTF-8"}) {
        std::setlocale(LC_ALL, locale);
        for (const auto& [seconds, text] : known) {
            const auto date = format_date(seconds);
            CHECK(std::string_view(date.data(), date.size()) == text);
        }
    }
}

TEST_CASE("http date: the cached date is that of this second") {
    date_cache cache;
    for (int n = 0; n < 1000; ++n) {
        const std::time_t before = std::time(nullptr) - 1;  // the coarse clock is a little behind
        const std::string_view now = cache.now();
        const std::time_t after = std::time(nullptr);
        bool fits = false;
        for (std::time_t second = before; second <= after; ++second) {
            const auto date = format_date(second);
            fits = fits || std::string_view(date.data(), date.size()) == now;
        }
        CHECK(fits);
    }
}
