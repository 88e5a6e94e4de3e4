// http::serve in this process, and clients that talk to it through plain sockets. Its limits and time-outs
// are small.
#include "peer.hpp"
#include "support.hpp"

#include <functional>
#include <future>
#include <map>
#include <memory>
#include <stdexcept>
#include <vector>

#include <weft/http.hpp>

using namespace weft;
using namespace weft::testing;
using namespace std::chrono_literals;
using namespace std::string_literals;

namespace {

/// Time-outs that no test but the one about them waits for.
http::server_options patient() {
    return {.header_timeout = 30s,
            .body_timeout = 30s,
            .idle_timeout = 30s,
            .drain_grace = 20ms,
            .drain_deadline = 20s};
}

// A server that lives as long as this.
class web {
  public:
    template <class Handler>
    explicit web(Handler handler, http::server_options options = patient(), unsigned workers = 1)
        : running_(make_runtime(workers, 5000)) {
        const auto listening = std::make_shared<std::promise<address>>();
        options.listen = "127.0.0.1:0";
        options.on_listening = [listening](const address& at) { listening->set_value(at); };
        options.requests_served = &served_;
        auto serving = running_->spawn([options, handler] { return http::serve(options, handler); });
        REQUIRE(serving);
        serving_ = std::move(*serving);
        at_ = listening->get_future().get();
    }
    web(const web&) = delete;
    web& operator=(const web&) = delete;
    ~web() {
        if (serving_.joinable()) stop();
    }

    peer connect(int receive_buffer_bytes = 0) const { return peer::connect(at_, receive_buffer_bytes); }
    runtime& running() { return *running_; }
    void begin_stop() { running_->request_stop(); }
    /// How many requests it has served.
    std::uint64_t stop() {
        begin_stop();
        CHECK(serving_.join());
        return served_;
    }

  private:
    std::uint64_t served_ = 0;
    std::unique_ptr<runtime> running_;
    fiber<result<void>> serving_;
    address at_;
};

struct answer {
    int status = 0;
    std::string head, body;

    bool has(std::string_view line) const {
        return head.find("\r\n" + std::string(line) + "\r\n") != head.npos;
    }
    bool closes() const { return has("Connection: close"); }
};

// The next answer that comes; its status is 0 when none does.
answer next_answer(const peer& from, bool to_head = false) {
    answer read;
    read.head = from.receive_until("\r\n\r\n");
    if (!read.head.starts_with("HTTP/1.1 ")) return read;
    read.status = std::stoi(read.head.substr(9, 3));
    const auto at = read.head.find("\r\nContent-Length: ");
    if (at != read.head.npos && !to_head) read.body = from.receive(std::stoul(read.head.substr(at + 18)));
    return read;
}

bool has_ended(const peer& connection) {
    std::array<char, 1> one;
    return connection.receive_some(one) == 0;
}

answer ask(const peer& connection, std::string_view request) {
    CHECK(connection.send(request));
    return next_answer(connection);
}

std::string get(std::string_view path, std::string_view more = "") {
    return "GET " + std::string(path) + " HTTP/1.1\r\nHost: h\r\n" + std::string(more) + "\r\n";
}
std::string post(std::string_view path, std::string_view body, std::string_view more = "") {
    return "POST " + std::string(path) +
           " HTTP/1.1\r\nHost: h\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
           std::string(more) + "\r\n" + std::string(body);
}
std::string post_chunked(std::string_view path, std::string_view chunks) {
    return "POST " + std::string(path) + " HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" +
           std::string(chunks);
}

std::string without_dates(std::string text) {
    constexpr std::size_t date_bytes = sizeof "Date: Tue, 24 Nov 2026 06:30:00 GMT" - 1;
    for (std::size_t at = text.find("Date: "); at != text.npos; at = text.find("Date: ", at + 1))
        text.replace(at, date_bytes, "Date: ...");
    return text;
}

const std::string large = pattern(0, 1024 * 1024);

// What most tests need.
http::router routes() {
    http::router made;
    made.get("/hello", [](auto&, auto& response) { return response.send("hello"); });
    made.get("/large", [](auto&, auto& response) { return response.send(large); });
    made.post("/echo", [](auto& request, auto& response) -> result<void> {
        return response.send(WEFT_TRY(request.body()));
    });
    made.post("/ignore", [](auto&, auto& response) { return response.send("ignored"); });
    made.get("/slow", [](auto&, auto& response) -> result<void> {
        WEFT_TRY(this_fiber::sleep_for(30ms));
        return response.send("slow");
    });
    return made;
}

}  // namespace

TEST_CASE("http server: requests are answered on one connection, one after the other, and counted") {
    web server(routes());
    {
        const peer client = server.connect();
        for (int n = 0; n < 100; ++n) {
            const answer got = ask(client, get("/hello"));
            CHECK(got.status == 200);
            CHECK(got.body == "hello");
            CHECK(got.has("Content-Length: 5"));
            CHECK(got.has("Content-Type: text/plain"));
            CHECK(got.has("Server: weft"));
            CHECK(!got.closes());
        }
        CHECK(ask(client, post("/echo", "there and back")).body == "there and back");
        CHECK(ask(client, get("/nothing")).status == 404);
    }
    CHECK(server.stop() == 102);
}

TEST_CASE("http server: the answer is the same however the request was cut") {
    const std::vector<std::string> exchanges{
        get("/hello") + get("/hello", "X: y\r\n") + get("/none"),
        post("/echo", "body") + post("/ignore", "unread") + get("/hello"),
        post_chunked("/echo", "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n") + get("/hello"),
        post_chunked("/echo", "0\r\n\r\n") + "HEAD /hello HTTP/1.1\r\nHost: h\r\n\r\n" + get("/hello"),
        "\r\nGET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + post("/echo", ""),
        get("/hello") + "broken\r\n\r\n",
    };
    web server(routes());
    for (const std::string& bytes : exchanges) {
        CAPTURE(bytes);
        const auto answers = [&](const std::vector<std::string>& pieces) {
            const peer client = server.connect();
            for (const std::string& piece : pieces) {
                CHECK(client.send(piece));
                // Long enough for the server to have read it, most of the time.
                if (pieces.size() > 1) std::this_thread::sleep_for(std::chrono::microseconds(200));
            }
            client.finish_sending();
            return without_dates(client.receive_all());
        };
        const std::string whole = answers({bytes});
        CHECK(whole.starts_with("HTTP/1.1 200 OK\r\n"));
        std::vector<std::string> each;
        for (const char byte : bytes) each.emplace_back(1, byte);
        CHECK(answers(each) == whole);
        for (std::size_t cut = 1; cut < bytes.size(); cut += scaled(1, 5))
            CHECK(answers({bytes.substr(0, cut), bytes.substr(cut)}) == whole);
    }
}

TEST_CASE("http server: pipelined requests are answered in order, and their answers leave together") {
    web server(
        [](http::request& request, http::response& response) { return response.send(request.path()); });
    const peer client = server.connect();
    std::string requests, answers;
    for (int n = 0; n < 16; ++n) requests += get("/" + std::to_string(n));
    const auto once = [&] {
        CHECK(client.send(requests));
        std::array<char, 16384> buffer;
        const ssize_t received = client.receive_some(buffer);
        const std::string_view text(buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(received, 0)));
        std::size_t at = 0;
        for (int n = 0; n < 16; ++n) {
            at = text.find("\r\n\r\n/" + std::to_string(n), at);
            CHECK(at != text.npos);  // one receive has them all, in order
        }
    };
    once();
    std::this_thread::sleep_for(5ms);
    const auto before = server.running().counters();
    for (int n = 0; n < 10; ++n) once();
    CHECK(server.running().counters().operations - before.operations <=
          20);  // a send for each batch, and little else
}

TEST_CASE("http server: a handler that parks holds up the requests behind it, and nobody else's") {
    web server(routes());
    const peer client = server.connect(), other = server.connect();
    CHECK(client.send(get("/slow") + get("/hello") + get("/slow") + get("/nothing")));
    CHECK(ask(other, get("/hello")).body == "hello");
    CHECK(next_answer(client).body == "slow");
    CHECK(next_answer(client).body == "hello");
    CHECK(next_answer(client).body == "slow");
    CHECK(next_answer(client).status == 404);
}

TEST_CASE("http server: large answers, pipelined, arrive whole") {
    web server(routes());
    const peer client = server.connect(64 * 1024);
    std::string requests;
    for (int n = 0; n < 8; ++n) requests += get("/large") + get("/hello");
    CHECK(client.send(requests));
    std::this_thread::sleep_for(20ms);
    for (int n = 0; n < 8; ++n) {
        CHECK((next_answer(client).body == large));
        CHECK(next_answer(client).body == "hello");
    }
}

TEST_CASE("http server: a head that does not come whole in time is answered 408") {
    auto options = patient();
    options.header_timeout = 100ms;
    web server(routes(), options);
    for (const auto* part :
         {"G", "GET /hello HTTP/1.1\r\nHo", "GET /hello HTTP/1.1\r\nHost: h\r\n", "\r\n"}) {
        const peer client = server.connect();
        const answer got = ask(client, part);
        CHECK(got.status == 408);
        CHECK(got.closes());
        CHECK(!got.body.empty());
        CHECK(has_ended(client));
    }
    // Also behind a whole one, and to one whose bytes come one at a time.
    const peer client = server.connect();
    CHECK(client.send(get("/hello") + "GET"));
    CHECK(next_answer(client).status == 200);
    CHECK(next_answer(client).status == 408);
    const peer slow = server.connect();
    const std::string endless = "GET /hello HTTP/1.1\r\nX: " + std::string(10'000, 'x');
    std::size_t sent = 0;
    while (sent < endless.size() && !slow.readable_within(10ms)) CHECK(slow.send(endless.substr(sent++, 1)));
    CHECK(next_answer(slow).status == 408);
}

TEST_CASE("http server: a 408 behind an answer to HEAD has its body") {
    auto options = patient();
    options.header_timeout = 50ms;
    web server(routes(), options);
    const peer client = server.connect();
    CHECK(client.send("HEAD /hello HTTP/1.1\r\nHost: h\r\n\r\nGET"));
    CHECK(next_answer(client, true).status == 200);
    const answer got = next_answer(client);
    CHECK(got.status == 408);
    CHECK(got.body == "Request Timeout\n");
}

TEST_CASE("http server: an idle connection is closed without a byte, before its first request and after") {
    auto options = patient();
    options.idle_timeout = 300ms;  // longer than an answer's memory is held
    web server(routes(), options);
    const peer silent = server.connect(), once = server.connect();
    CHECK(ask(once, get("/hello")).status == 200);
    CHECK(has_ended(silent));
    CHECK(has_ended(once));
}

TEST_CASE("http server: a client that does not take its answer is given up") {
    watchdog dog("a client that does not read is waited for");
    auto options = patient();
    options.write_timeout = 100ms;
    const std::string huge(64 * 1024 * 1024, 'x');
    std::atomic<int> failed{0};
    web server(
        [&](http::request& request, http::response& response) -> result<void> {
            const auto sent =
                response.send(request.path() == "/huge" ? std::string_view(huge)
                                                        : std::string_view(large).substr(0, 16'000));
            if (!sent) ++failed;
            return sent;
        },
        options);
    const peer client = server.connect(4096);
    CHECK(client.send(get("/huge")));
    CHECK(eventually([&] { return failed == 1; }));
    CHECK(client.receive_all().size() < huge.size());
    // Many answers, each of which is only collected, to a client that sends on.
    const peer many = server.connect(4096);
    std::string requests;
    for (int n = 0; n < 1000; ++n) requests += get("/");
    while (many.writable_within(1000ms) && many.send_now(requests) > 0) {
    }
    CHECK(failed > 1);
}

TEST_CASE("http server: a body up to the limit is taken, a larger one is answered 413") {
    auto options = patient();
    options.body_bytes_max = 100'000;
    web server(routes(), options);
    const std::string most = pattern(0, 100'000), more = pattern(0, 100'001);
    const auto chunks_of = [](std::string_view body) {
        std::string chunks;
        for (std::size_t at = 0; at < body.size(); at += 4096) {
            const auto chunk = body.substr(at, 4096);
            chunks += "000" + [&] {
                std::array<char, 8> hex;
                std::snprintf(hex.data(), hex.size(), "%zX", chunk.size());
                return std::string(hex.data());
            }() + "\r\n";
            chunks.append(chunk).append("\r\n");
        }
        return chunks + "0\r\n\r\n";
    };
    {
        const peer client = server.connect();
        CHECK((ask(client, post("/echo", most)).body == most));
        CHECK((ask(client, post_chunked("/echo", chunks_of(most))).body == most));
        CHECK(ask(client, get("/hello")).body == "hello");
    }
    for (const std::string& request : {post("/echo", more), post_chunked("/echo", chunks_of(more))}) {
        const peer client = server.connect();
        const answer got = ask(client, request + get("/hello"));
        CHECK(got.status == 413);
        CHECK(got.closes());
        client.finish_sending();
        CHECK(has_ended(client));
    }
}

TEST_CASE("http server: what follows a body that came in pieces belongs to the next request") {
    web server(routes());
    const peer client = server.connect();
    for (const std::string& request :
         {post("/echo", pattern(0, 50'000)),
          post_chunked("/echo", "C350\r\n" + pattern(0, 50'000) + "\r\n0\r\n\r\n")}) {
        for (const std::size_t cut :
             {std::size_t{100}, std::size_t{2000}, request.size() - 3, request.size()}) {
            CHECK(client.send(request.substr(0, cut)));
            std::this_thread::sleep_for(5ms);
            CHECK(client.send(request.substr(cut) + get("/hello") + post("/echo", "and that")));
            CHECK((next_answer(client).body == pattern(0, 50'000)));
            CHECK(next_answer(client).body == "hello");
            CHECK(next_answer(client).body == "and that");
        }
    }
}

// An empty chunked body was the chunks themselves when it was asked for again; and a body that had failed was
// read on.
TEST_CASE("http server: a handler that asks for the body again gets the same, also when that was an error") {
    auto options = patient();
    options.body_bytes_max = 1000;
    options.body_timeout = 100ms;
    web server(
        [](http::request& request, http::response& response) -> result<void> {
            const auto first = request.body(), second = request.body();
            if (!first)
                return failure(!second && first.error() == second.error() ? first.error()
                                                                          : http::status_error(599));
            return response.send(*first == *second && first->data() == second->data() ? *first : "differs");
        },
        options);
    const peer client = server.connect();
    CHECK(ask(client, get("/")).body.empty());
    CHECK(ask(client, post("/", "")).body.empty());
    CHECK(ask(client, post("/", "sized")).body == "sized");
    CHECK(ask(client, post_chunked("/", "0\r\n\r\n")).body.empty());
    CHECK(ask(client, post_chunked("/", "3\r\nabc\r\n0\r\n\r\n")).body == "abc");
    CHECK(client.send(post_chunked("/", "")));
    std::this_thread::sleep_for(5ms);
    CHECK(ask(client, "0\r\n\r\n").body.empty());
    CHECK(ask(client, post_chunked("/", "3\r\nabc\r\nx")).status == 400);
    CHECK(ask(server.connect(), post_chunked("/", "FFF\r\n" + std::string(3000, 'x'))).status == 413);
    const peer slow = server.connect();
    CHECK(ask(slow, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf").status == 408);
    const peer slow_chunks = server.connect();
    CHECK(ask(slow_chunks, post_chunked("/", "5\r\nha")).status == 408);
}

TEST_CASE("http server: a malformed body is answered 400, and a client that leaves within it harms nobody") {
    web server(routes());
    for (const char* chunks : {"z\r\n", "-1\r\n", "3\r\nabcd\r\n", "3\nabc", "0\r\nnot a field\r\n\r\n",
                               "FFFFFFFFFFFFFFFFF\r\n"}) {
        const peer client = server.connect();
        const answer got = ask(client, post_chunked("/echo", chunks));
        CHECK(got.status == 400);
        CHECK(got.closes());
    }
    for (const std::string& part : {post("/echo", "12345").substr(0, 55), post_chunked("/echo", "5\r\n12")}) {
        for (const bool reset : {false, true}) {
            peer client = server.connect();
            CHECK(client.send(part));
            std::this_thread::sleep_for(2ms);
            if (reset) {
                client.reset();
                continue;
            }
            client.finish_sending();
            CHECK(client.receive_all().empty());
        }
    }
    CHECK(ask(server.connect(), get("/hello")).status == 200);
}

TEST_CASE("http server: 100 Continue is sent when the body is asked for, and only then") {
    web server(routes());
    const std::string head =
        "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    {
        const peer client = server.connect();
        CHECK(client.send(head));
        CHECK(client.receive_until("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
        CHECK(ask(client, "body").body == "body");
        // Not when the body is there already.
        CHECK(ask(client, head + "here").body == "here");
        // The answer to a pipelined request before it does not wait for the body.
        CHECK(client.send(get("/hello") + head));
        CHECK(next_answer(client).body == "hello");
        CHECK(client.receive_until("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
        CHECK(ask(client, "more").body == "more");
        CHECK(client.send(
            "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"));
        CHECK(client.receive_until("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
        CHECK(ask(client, "2\r\nok\r\n0\r\n\r\n").body == "ok");
    }
    for (const char* path : {"/ignore", "/nothing"}) {
        const peer client = server.connect();
        const answer got =
            ask(client, "POST "s + path +
                            " HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
        CHECK(got.status == (path == "/ignore"s ? 200 : 404));
        CHECK(got.closes());  // whether the body comes is not known
        CHECK(has_ended(client));
    }
    const peer other = server.connect();
    CHECK(
        ask(other, "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: a-pony\r\n\r\n").status ==
        417);
}

TEST_CASE("http server: whatever a handler does, there is one answer") {
    std::map<std::string, std::function<result<void>(http::request&, http::response&)>, std::less<>> handlers{
        {"/418", [](auto&, auto&) -> result<void> { return failure(http::status_error(418)); }},
        {"/404", [](auto&, auto&) -> result<void> { return failure(http::status_error(404)); }},
        {"/error", [](auto&, auto&) -> result<void> { return failure(errc::address_invalid); }},
        {"/no-status", [](auto&, auto&) -> result<void> { return failure(http::status_error(200)); }},
        {"/throws", [](auto&, auto&) -> result<void> { throw std::runtime_error("as it should"); }},
        {"/throws-int", [](auto&, auto&) -> result<void> { throw 5; }},
        {"/nothing", [](auto&, auto&) -> result<void> { return {}; }},
        {"/status-only",
         [](auto&, auto& response) -> result<void> { return response.status(201), result<void>(); }},
    };
    const std::map<std::string, int> expected{{"/418", 418},       {"/404", 404},        {"/error", 500},
                                              {"/no-status", 500}, {"/throws", 500},     {"/throws-int", 500},
                                              {"/nothing", 200},   {"/status-only", 201}};
    web server([&](http::request& request, http::response& response) {
        return handlers.find(request.path())->second(request, response);
    });
    const peer client = server.connect();
    for (const auto& [path, status] : expected) {
        const peer fresh = server.connect();
        const answer got = ask(fresh, get(path));
        CHECK(got.status == status);
        CHECK(got.body.empty() == (status < 400));
        // When what to answer is clear, the connection goes on.
        if (path != "/no-status") CHECK(ask(client, get(path)).status == status);
    }
}

TEST_CASE(
    "http server: a handler that fails after it has answered ends the connection, without a second answer") {
    web server([](http::request& request, http::response& response) -> result<void> {
        WEFT_TRY(response.send("sent"));
        if (request.path() == "/throws") throw std::runtime_error("as it should");
        return failure(http::status_error(404));
    });
    for (const char* path : {"/throws", "/fails"}) {
        const peer client = server.connect();
        CHECK(ask(client, get(path)).body == "sent");
        CHECK(has_ended(client));
    }
}

// A header that send() refuses was never answered when the handler did not return the error.
TEST_CASE("http server: a header with a line break is answered 500, whether or not the handler looks") {
    web server([](http::request& request, http::response& response) {
        response.header("X", "a\r\nInjected: yes");
        if (request.path() == "/sends") static_cast<void>(response.send("body"));
    });
    for (const char* path : {"/sends", "/silent"}) {
        const peer client = server.connect();
        const answer got = ask(client, get(path));
        CHECK(got.status == 500);
        CHECK(got.head.find("Injected") == got.head.npos);
    }
}

TEST_CASE("http server: handlers may return nothing") {
    web server([](http::request&, http::response& response) {
        static_cast<void>(response.status(202).send("taken"));
    });
    const peer client = server.connect();
    CHECK(ask(client, get("/")).status == 202);
    CHECK(ask(client, get("/")).body == "taken");
}

TEST_CASE(
    "http server: a small body that was not asked for is skipped, and a large or chunked one ends the "
    "connection") {
    web server(routes());
    {
        const peer client = server.connect();
        CHECK(ask(client, post("/ignore", pattern(0, 100)) + get("/hello")).body == "ignored");
        CHECK(next_answer(client).body == "hello");
        // It may come late.
        const std::string request = post("/ignore", pattern(0, 64 * 1024));
        CHECK(client.send(request.substr(0, 1000)));
        std::this_thread::sleep_for(5ms);
        CHECK(client.send(request.substr(1000) + get("/hello")));
        CHECK(next_answer(client).body == "ignored");
        CHECK(next_answer(client).body == "hello");
    }
    for (const std::string& request :
         {post("/ignore", pattern(0, 64 * 1024 + 1)), post_chunked("/ignore", "1\r\nx\r\n0\r\n\r\n")}) {
        const peer client = server.connect();
        const answer got = ask(client, request + get("/hello"));
        CHECK(got.body == "ignored");
        CHECK(got.closes());
        CHECK(has_ended(client));
    }
}

TEST_CASE("http server: what cannot be parsed is answered with its status, and the connection ends") {
    web server(routes());
    const std::string long_target(9000, 'x'), long_header(40'000, 'x');
    const struct {
        std::string request;
        int status;
    } cases[] = {
        {"nonsense\r\n\r\n", 400},
        {"GET /hello HTTP/1.1\r\n\r\n", 400},
        {"GET /hello HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n", 400},
        {"GET /" + long_target + " HTTP/1.1\r\nHost: h\r\n\r\n", 414},
        {get("/hello", "X: " + long_header + "\r\n"), 431},
        {"GET /hello HTTP/2.0\r\nHost: h\r\n\r\n", 505},
        {"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
        {"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    };
    for (const auto& each : cases) {
        CAPTURE(each.request.substr(0, 80));
        for (const std::string& before : {""s, get("/hello"), "HEAD /hello HTTP/1.1\r\nHost: h\r\n\r\n"s}) {
            const peer client = server.connect();
            CHECK(client.send(before + each.request + get("/hello")));
            if (!before.empty()) CHECK(next_answer(client, before[0] == 'H').status == 200);
            const answer got = next_answer(client);
            CHECK(got.status == each.status);
            CHECK(got.closes());
            CHECK(!got.body.empty());
            CHECK(has_ended(client));
        }
    }
}

TEST_CASE("http server: HEAD, 204 and 304 go without a body, and the connection goes on") {
    web server([](http::request& request, http::response& response) {
        if (request.path() == "/204") return response.status(204).send("no body");
        if (request.path() == "/304") return response.status(304).send("no body");
        return response.send(request.path() == "/large" ? large : "body"s);
    });
    const peer client = server.connect();
    const auto head = [&](const char* path) {
        CHECK(client.send("HEAD "s + path + " HTTP/1.1\r\nHost: h\r\n\r\n"));
        return next_answer(client, true);
    };
    CHECK(head("/").has("Content-Length: 4"));
    CHECK(head("/large").has("Content-Length: 1048576"));
    for (const char* path : {"/204", "/304"}) {
        const answer got = ask(client, get(path));
        CHECK(got.status == std::stoi(path + 1));
        CHECK(got.head.find("Content-") == got.head.npos);
    }
    CHECK(ask(client, get("/")).body == "body");
}

TEST_CASE(
    "http server: HTTP/1.0 ends the connection unless it asks for more, and 1.1 goes on unless it says "
    "close") {
    web server(routes());
    {
        const peer client = server.connect();
        const answer got = ask(client, "GET /hello HTTP/1.0\r\n\r\n");
        CHECK(got.body == "hello");
        CHECK(got.closes());
        CHECK(has_ended(client));
    }
    {
        const peer client = server.connect();
        for (int n = 0; n < 3; ++n) {
            const answer got = ask(client, "GET /hello HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
            CHECK(got.body == "hello");
            CHECK(got.has("Connection: keep-alive"));
        }
    }
    {
        const peer client = server.connect();
        const answer got = ask(client, get("/hello", "Connection: close\r\n") + get("/hello"));
        CHECK(got.closes());
        CHECK(has_ended(client));  // the second is not answered
    }
}

TEST_CASE("http server: heads grow up to the limits: a hundred headers, and 32 KiB") {
    web server([](http::request& request, http::response& response) {
        return response.send(std::to_string(request.headers().size()) + " " +
                             std::string(request.header("x-last").value_or("none")));
    });
    const peer client = server.connect();
    std::string fields;
    for (int n = 0; n < 98; ++n) fields += "X-" + std::to_string(n) + ": value\r\n";
    CHECK(ask(client, get("/", fields + "X-Last: here\r\n")).body == "100 here");
    for (const std::size_t bytes : {std::size_t{6000}, std::size_t{7300}, std::size_t{9000},
                                    std::size_t{20'000}, std::size_t{32'000}}) {
        CHECK(ask(client, get("/", "X: " + std::string(bytes, 'x') + "\r\nX-Last: here\r\n")).body ==
              "3 here");
        // And cut in two, behind a smaller one, so that what was parsed moves.
        const std::string request = get("/", "X: " + std::string(bytes, 'x') + "\r\nX-Last: here\r\n");
        CHECK(client.send(get("/") + request.substr(0, bytes / 2)));
        std::this_thread::sleep_for(3ms);
        CHECK(client.send(request.substr(bytes / 2)));
        CHECK(next_answer(client).body == "1 none");
        CHECK(next_answer(client).body == "3 here");
    }
    CHECK(ask(client, get("/", fields + "A: b\r\nC: d\r\n")).status == 431);
}

TEST_CASE(
    "http server: when it stops, requests in flight are answered, and their connections told to close") {
    std::atomic<int> begun{0};
    web server([&](http::request& request, http::response& response) -> result<void> {
        ++begun;
        if (request.path() == "/slow") WEFT_TRY(this_fiber::sleep_for(200ms));
        return response.send(WEFT_TRY(request.body()));
    });
    const peer in_flight = server.connect(), in_body = server.connect(), in_head = server.connect(),
               idle = server.connect();
    CHECK(ask(idle, get("/")).status == 200);
    CHECK(in_flight.send(get("/slow")));
    CHECK(in_body.send(post("/", "12345").substr(0, post("/", "12345").size() - 2)));
    CHECK(in_head.send("GET / HTTP/1.1\r\nHo"));
    CHECK(eventually([&] { return begun == 3; }));
    std::this_thread::sleep_for(10ms);
    server.begin_stop();
    CHECK(has_ended(idle));
    CHECK(in_body.send("45"));
    CHECK(in_head.send("st: h\r\n\r\n"));
    for (const peer* each : {&in_flight, &in_body, &in_head}) {
        const answer got = next_answer(*each);
        CHECK(got.status == 200);
        CHECK(got.closes());
        CHECK(has_ended(*each));
    }
    CHECK(server.stop() == 4);
}

TEST_CASE(
    "http server: a request that comes after the stop, within the grace, is answered and told to close") {
    auto options = patient();
    options.drain_grace = 5s;
    web server(routes(), options);
    const peer client = server.connect();
    CHECK(ask(client, get("/hello")).status == 200);
    server.begin_stop();
    std::this_thread::sleep_for(10ms);
    const answer got = ask(client, get("/hello"));
    CHECK(got.status == 200);
    CHECK(got.closes());
    CHECK(has_ended(client));
}

TEST_CASE("http server: what does not end by the drain deadline is cancelled") {
    watchdog dog("a server does not end");
    auto options = patient();
    options.drain_deadline = 100ms;
    std::atomic<int> cancelled{0};
    web server(
        [&](http::request&, http::response& response) -> result<void> {
            const auto slept = this_fiber::sleep_for(1h);
            if (!slept && slept.error() == errc::cancelled) ++cancelled;
            return response.send("late");
        },
        options);
    const peer client = server.connect();
    CHECK(client.send(get("/")));
    std::this_thread::sleep_for(20ms);
    server.stop();
    CHECK(cancelled == 1);
}

// Each of its reads had something to return, so neither a deadline nor a cancel was ever looked at.
TEST_CASE("http server: a client that never stops sending does not keep the server from stopping") {
    watchdog dog("one client keeps the server");
    auto options = patient();
    options.drain_deadline = 200ms;
    web server(routes(), options);
    const peer client = server.connect();
    std::atomic<bool> over{false};
    std::jthread flood([&] {
        std::string requests;
        for (int n = 0; n < 200; ++n) requests += get("/hello");
        std::vector<char> buffer(1'000'000);
        while (!over) {
            static_cast<void>(client.send_now(requests));
            static_cast<void>(::recv(client.descriptor(), buffer.data(), buffer.size(), MSG_DONTWAIT));
        }
    });
    std::this_thread::sleep_for(50ms);
    server.stop();
    over = true;
}

TEST_CASE("http server: many connections on two workers are all answered, however they come and go") {
    watchdog dog("a request is never answered", 120s);
    seeded_random random;
    CAPTURE(random.seed());
    web server(routes(), patient(), 2);
    const auto before = open_descriptors();
    std::vector<peer> clients(scaled(200, 60));
    for (peer& each : clients) each = server.connect();
    for (unsigned round = 0; round < scaled(20'000, 2000); ++round) {
        peer& client = clients[random.below(static_cast<unsigned>(clients.size()))];
        switch (random.below(12)) {
            case 0:
                client.reset();
                client = server.connect();
                break;
            case 1:
                CHECK(client.send(get("/large").substr(0, 1 + random.below(20))));
                client.close();
                client = server.connect();
                break;
            case 2:
                CHECK(client.send(get("/large")));
                client.reset();
                client = server.connect();
                break;
            case 3: {
                const std::string body = pattern(round, random.below(40'000));
                CHECK((ask(client, post("/echo", body)).body == body));
                break;
            }
            case 4:
                CHECK(ask(client, get("/nothing")).status == 404);
                break;
            default:
                CHECK(ask(client, get("/hello")).body == "hello");
                break;
        }
    }
    clients.clear();
    CHECK(eventually([&] { return open_descriptors() <= before; }));
}
