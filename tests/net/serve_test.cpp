// weft::serve: what handlers may be, where connections live, and how a server ends.
#include "peer.hpp"
#include "support.hpp"

#include <array>
#include <atomic>
#include <future>
#include <memory>
#include <stdexcept>
#include <vector>

#include <weft/net/serve.hpp>

using namespace weft;
using namespace weft::testing;
using namespace std::chrono_literals;

namespace {

serve_options gentle() {
    return {.drain_grace = 20ms, .drain_deadline = 20s};
}

result<void> echo(tcp_stream connection) {
    std::array<std::byte, 1000> buffer;
    for (;;) {
        const auto received = WEFT_TRY(connection.read_some(buffer));
        if (received.empty()) return {};
        WEFT_TRY(connection.write_all(received));
    }
}

// Serves in a fiber of `where`, on one port or several.
class service {
  public:
    template <class Handler>
    service(runtime& where, Handler handler, serve_options options = gentle()) {
        if (options.listen.empty()) options.listen = "127.0.0.1:0";
        struct heard {
            std::vector<address> at;
            std::promise<void> all;
        };
        const auto listening = std::make_shared<heard>();
        options.on_listening = [listening, count = options.listen.size()](const address& at) {
            listening->at.push_back(at);
            if (listening->at.size() == count) listening->all.set_value();
        };
        auto serving = where.spawn([options, handler]() mutable { return serve(options, handler); });
        REQUIRE(serving);
        serving_ = std::move(*serving);
        listening->all.get_future().get();
        at_ = listening->at;
    }

    peer connect(std::size_t to = 0) const { return peer::connect(at_[to]); }
    const std::vector<address>& addresses() const { return at_; }
    fiber<result<void>>& serving() { return serving_; }
    void join() { CHECK(serving_.join()); }

  private:
    fiber<result<void>> serving_;
    std::vector<address> at_;
};

std::string ask(const peer& connection, std::string_view request) {
    CHECK(connection.send(request));
    return connection.receive(request.size());
}

bool has_ended(const peer& connection) {
    std::array<char, 1> one;
    return connection.receive_some(one) == 0;
}

template <class Handler>
void answers_with_x(Handler&& handler) {
    auto running = make_runtime(1);
    service server(*running, std::forward<Handler>(handler));
    CHECK(server.connect().receive_all() == "x");
    running->request_stop();
    server.join();
}

result<void> say_x(tcp_stream connection) {
    return connection.write_all("x");
}
void say_x_to(tcp_stream& connection) {
    CHECK(connection.write_all("x"));
}

}  // namespace

TEST_CASE(
    "serve: a handler takes the stream or a reference, returns something or nothing, and may be a function") {
    watchdog dog("a handler is not called");
    answers_with_x(say_x);
    answers_with_x(&say_x_to);
    answers_with_x([](tcp_stream connection) { CHECK(connection.write_all("x")); });
    answers_with_x([](tcp_stream&& connection) { return connection.write_all("x"); });
    answers_with_x([](tcp_stream& connection) { return connection.write_all("x"); });
    answers_with_x([](auto& connection) { return connection.write_all("x"); });
    answers_with_x([calls = 0](tcp_stream& connection) mutable {
        ++calls;
        return connection.write_all("x");
    });
}

TEST_CASE("serve: an error or an exception ends its connection alone, and an exception is counted") {
    watchdog dog("a connection hangs");
    auto running = make_runtime(1);
    service server(*running, [](tcp_stream& connection) -> result<void> {
        std::array<std::byte, 1> what;
        for (;;) {
            WEFT_TRY(connection.read_exactly(what));
            if (what[0] == std::byte{'e'}) return failure(errc::address_invalid);
            if (what[0] == std::byte{'t'}) throw std::runtime_error("as it should");
            if (what[0] == std::byte{'i'}) throw 5;
            WEFT_TRY(connection.write_all(what));
        }
    });
    const peer good = server.connect();
    CHECK(ask(good, "a") == "a");
    for (const char* bad : {"e", "t", "i"}) {
        const peer other = server.connect();
        CHECK(other.send(bad));
        CHECK(has_ended(other));
        CHECK(ask(good, "b") == "b");
    }
    CHECK(running->counters().fibers_failed == 2);
    CHECK(good.send("e"));
    running->request_stop();
    server.join();
}

TEST_CASE("serve: connections spread over the workers, also when they all arrive at one of them") {
    watchdog dog("a connection hangs");
    constexpr std::size_t connections = 200;
    auto running = make_runtime(2);
    std::array<std::atomic<int>, 2> living{};
    service server(*running, [&](tcp_stream connection) {
        ++living[this_fiber::worker_index()];
        return echo(std::move(connection));
    });
    // The kernel picks a listener by the port that a connection comes from; here most may get to the same.
    std::vector<peer> clients;
    for (std::size_t n = 0; n < connections; ++n) {
        clients.push_back(server.connect());
        CHECK(ask(clients.back(), "x") == "x");
    }
    CHECK(living[0] + living[1] == static_cast<int>(connections));
    for (const auto& each : living) CHECK(each >= static_cast<int>(connections / 4));
    clients.clear();
    running->request_stop();
    server.join();
}

TEST_CASE("serve: each of several addresses is served, and IPv4 and IPv6 may have the same port") {
    watchdog dog("an address is not served");
    auto running = make_runtime(2);
    auto options = gentle();
    options.listen = {"127.0.0.1:0", "127.0.0.2:0", "localhost:0"};
    service server(*running, echo, options);
    REQUIRE(server.addresses().size() == 3);
    CHECK(server.addresses()[0].to_string().starts_with("127.0.0.1:"));
    CHECK(server.addresses()[1].to_string().starts_with("127.0.0.2:"));
    for (std::size_t n = 0; n < 3; ++n) {
        CHECK(server.addresses()[n].port() != 0);
        for (int tries = 0; tries < 5; ++tries) CHECK(ask(server.connect(n), "x") == "x");
    }
    if (has_ipv6_loopback()) {
        auto both = gentle();
        both.listen = "[::1]:" + std::to_string(server.addresses()[0].port());
        service six(*running, echo, both);
        CHECK(ask(six.connect(), "six") == "six");
        running->request_stop();
        six.join();
    } else {
        MESSAGE("without IPv6: this machine has no ::1");
        running->request_stop();
    }
    server.join();
}

TEST_CASE("serve: an address that cannot be had is reported, and leaves nothing open") {
    CHECK(set_log_level("off"));
    auto running = make_runtime(2);
    {
        service server(*running, echo);
        std::this_thread::sleep_for(20ms);  // workers that start read files
        const auto before = open_descriptors();
        for (const std::string& bad :
             {server.addresses()[0].to_string(), std::string("nonsense"), std::string("8.8.8.8:1")}) {
            const auto failed = run_in_fiber(*running, [&] {
                return serve({.listen = std::vector<std::string>{"127.0.0.1:0", bad},
                              .on_listening = [](const address&) { FAIL_CHECK("nothing is served"); }},
                             echo);
            });
            REQUIRE(!failed);
            CHECK(failed.error() == errc::reported);
        }
        CHECK(eventually([&] { return open_descriptors() == before; }));
        CHECK(ask(server.connect(), "still here") == "still here");
        running->request_stop();
        server.join();
    }
    CHECK(set_log_level("warn"));
}

TEST_CASE(
    "serve: after the stop connections go on for the grace, then their input ends, and what they do ends "
    "well") {
    watchdog dog("a server does not end");
    auto running = make_runtime(2);
    auto options = gentle();
    options.drain_grace = 300ms;
    std::atomic<int> ended_well{0};
    service server(
        *running,
        [&](tcp_stream connection) -> result<void> {
            const auto ended = echo(std::move(connection));
            if (ended) ++ended_well;
            return ended;
        },
        options);
    std::vector<peer> clients;
    for (int n = 0; n < 10; ++n) {
        clients.push_back(server.connect());
        CHECK(ask(clients.back(), "before") == "before");
    }
    running->request_stop();
    std::this_thread::sleep_for(20ms);
    for (const peer& each : clients) CHECK(ask(each, "within the grace") == "within the grace");
    for (const peer& each : clients) CHECK(has_ended(each));
    server.join();
    CHECK(ended_well == 10);
    // Nobody listens any more.
    const peer late(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    CHECK(::connect(late.descriptor(), server.addresses()[0].data(), server.addresses()[0].size()) != 0);
}

TEST_CASE("serve: the end of input ends reads that expect nothing more, and no others") {
    watchdog dog("a server does not end");
    auto running = make_runtime(1);
    service server(*running, [](tcp_stream& connection) -> result<void> {
        std::string rest(4, '\0');
        WEFT_TRY(connection.write_all("ready"));
        WEFT_TRY(connection.read_exactly(bytes_of(rest)));  // the middle of a message
        WEFT_TRY(connection.write_all(rest));
        CHECK(connection.read_some(bytes_of(rest))->empty());
        return connection.write_all("bye");
    });
    const peer client = server.connect();
    CHECK(client.receive(5) == "ready");
    running->request_stop();
    std::this_thread::sleep_for(100ms);  // well beyond the grace
    CHECK(ask(client, "rest") == "rest");
    CHECK(client.receive_all() == "bye");
    server.join();
}

TEST_CASE("serve: what is left at the drain deadline is cancelled") {
    watchdog dog("a server does not end");
    auto running = make_runtime(2);
    auto options = gentle();
    options.drain_deadline = 100ms;
    std::atomic<int> cancelled{0};
    service server(
        *running,
        [&](tcp_stream& connection) -> result<void> {
            CHECK(connection.write_all("ready"));
            const auto slept = this_fiber::sleep_for(1h);
            if (!slept && slept.error() == errc::cancelled) ++cancelled;
            return slept;
        },
        options);
    std::vector<peer> clients;
    for (int n = 0; n < 10; ++n) {
        clients.push_back(server.connect());
        CHECK(clients.back().receive(5) == "ready");
    }
    running->request_stop();
    server.join();
    CHECK(cancelled == 10);
}

TEST_CASE("serve: a second request to stop waits for nobody") {
    watchdog dog("the second request to stop is not heard");
    for (const bool during_grace : {true, false}) {
        auto running = make_runtime(2);
        auto options = gentle();
        options.drain_grace = during_grace ? duration(1h) : duration(1ms);
        options.drain_deadline = 2h;
        service server(*running, [](tcp_stream&) { static_cast<void>(this_fiber::sleep_for(1h)); }, options);
        const peer client = server.connect();
        std::this_thread::sleep_for(10ms);
        running->request_stop();
        std::this_thread::sleep_for(30ms);
        running->request_stop();
        server.join();
        CHECK(has_ended(client));
    }
}

TEST_CASE("serve: a fiber that serves can be cancelled, and another one serves on") {
    watchdog dog("a server that was cancelled does not end");
    auto running = make_runtime(2);
    service one(*running, echo), two(*running, echo);
    const peer first = one.connect(), second = two.connect();
    CHECK(ask(first, "x") == "x");
    CHECK(ask(second, "y") == "y");
    one.serving().cancel();
    one.join();
    CHECK(has_ended(first));
    CHECK(ask(second, "z") == "z");
    // The address is free again.
    auto options = gentle();
    options.listen = one.addresses()[0].to_string();
    service again(*running, echo, options);
    CHECK(ask(again.connect(), "here") == "here");
    running->request_stop();
    two.join();
    again.join();
}

TEST_CASE("serve: connections that had come and were not handled yet when it stops are served") {
    watchdog dog("a connection that had been taken is not served");
    for (const unsigned workers : {1U, 2U}) {
        auto running = make_runtime(workers);
        auto options = gentle();
        options.drain_grace = 5s;
        service server(*running, echo, options);
        // All workers are busy with something else while the clients come and the stop is requested.
        std::atomic<bool> go{false};
        std::atomic<unsigned> busy{0};
        for (unsigned n = 0; n < workers; ++n) {
            CHECK(running->post(
                [&] {
                    ++busy;
                    while (!go) std::this_thread::sleep_for(1ms);
                },
                {.where = placement::fixed, .worker = n}));
        }
        CHECK(eventually([&] { return busy == workers; }));
        std::vector<peer> clients;
        for (int n = 0; n < 50; ++n) {
            clients.push_back(server.connect());
            CHECK(clients.back().send("I came in time"));
        }
        running->request_stop();
        go = true;
        for (const peer& each : clients) {
            CHECK(each.receive(14) == "I came in time");
            each.finish_sending();
            CHECK(has_ended(each));
        }
        server.join();
    }
}

TEST_CASE("serve: clients that never stop sending do not keep it from ending") {
    watchdog dog("a server does not end while it is sent to");
    auto running = make_runtime(2);
    auto options = gentle();
    options.drain_deadline = 100ms;
    service server(
        *running,
        [](tcp_stream& connection) -> result<void> {
            std::array<std::byte, 100> buffer;
            for (;;) WEFT_TRY(connection.read_exactly(buffer));
        },
        options);
    const peer client = server.connect();
    std::atomic<bool> over{false};
    std::jthread flood([&] {
        const std::string much(100'000, 'x');
        while (!over) static_cast<void>(client.send_now(much));
    });
    std::this_thread::sleep_for(20ms);
    running->request_stop();
    server.join();
    over = true;
}

// Those that had begun to accept went on using the server after serve() had returned.
TEST_CASE("serve: too few fibers for its acceptors is an error, and none of them is left behind") {
    watchdog dog("a server that could not begin does not end");
    CHECK(set_log_level("off"));
    bool failed = false, served = false;
    for (std::uint32_t fibers = 1; fibers < 40; ++fibers) {
        const auto before = open_descriptors();
        auto running = runtime::create({.workers = 2, .fibers_max = fibers});
        if (!running) continue;
        auto serving = (*running)->spawn([&] {
            auto options = gentle();
            options.drain_grace = 1ms;
            options.listen = {"127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"};
            return serve(options, echo);
        });
        if (!serving) continue;
        (*running)->request_stop();
        const auto ended = serving->join();
        if (ended)
            served = true;
        else
            failed = failed || ended.error() == errc::too_many_fibers;
        running->reset();
        CHECK(open_descriptors() == before);
    }
    if (!failed) MESSAGE("this runtime never had too few fibers");
    CHECK(served);
    CHECK(set_log_level("warn"));
}

TEST_CASE("serve: connections for which there are no fibers are closed, and the server goes on") {
    watchdog dog("a server without free fibers hangs");
    CHECK(set_log_level("off"));
    auto running = make_runtime(1, 40);
    service server(*running, echo);
    std::vector<peer> clients;
    for (int n = 0; n < 200; ++n) clients.push_back(server.connect());
    std::size_t alive = 0;
    for (const peer& each : clients) alive += each.send_now("x") == 1 && each.receive(1) == "x";
    CHECK(alive > 0);
    CHECK(alive < clients.size());
    clients.clear();
    CHECK(eventually([&] {
        const peer again = server.connect();
        return again.send_now("y") == 1 && again.receive(1) == "y";
    }));
    running->request_stop();
    server.join();
    CHECK(set_log_level("warn"));
}
