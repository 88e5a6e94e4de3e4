// Connections that change their worker: because another fiber takes them over, or because their mobile fiber
// is moved. Nothing may be lost, doubled or out of order, and nothing stays behind in the old worker's ring.
#include "conversation.hpp"

#include <array>
#include <vector>

#include <weft/net/serve.hpp>
#include <weft/runtime/worker.hpp>

using namespace weft;
using namespace weft::testing;
using namespace std::chrono_literals;

namespace {

constexpr spawn_options on_worker(unsigned index) {
    return {.where = placement::fixed, .worker = index};
}

// Reads the pattern from `offset` on, `bytes` of it, through a stream that is armed; false at the first wrong
// byte.
bool receive_pattern(tcp_stream& stream, std::size_t offset, std::size_t bytes, std::size_t piece) {
    std::string buffer(piece, '\0');
    for (std::size_t done = 0; done < bytes;) {
        const auto read = receive_some(stream, bytes_of(buffer).first(std::min(piece, bytes - done)));
        if (!read || read->empty() || text_of(*read) != pattern(offset + done, read->size())) return false;
        done += read->size();
    }
    return true;
}

}  // namespace

TEST_CASE("moving: a connection with an armed receive goes from worker to worker, and no byte is lost") {
    const auto running = make_runtime(2, 1000);
    const testing::watchdog dog("a connection that changed its worker waits for ever");
    const std::size_t rounds = scaled(200, 30);
    constexpr std::size_t round_bytes = 5000;
    run_in_fiber(
        *running,
        [&] {
            auto [stream, other] = connect_pair();
            auto sender = in_thread([&, to = &other] {
                for (std::size_t round = 0; round < rounds; ++round)
                    REQUIRE(to->send(pattern(round * round_bytes, round_bytes)));
                to->finish_sending();
            });
            for (std::size_t round = 0; round < rounds; ++round) {
                auto reader = spawn(
                    [&, own = std::move(stream)]() mutable {
                        CHECK(receive_pattern(own, round * round_bytes, round_bytes, 1 + round * 37 % 3000));
                        return std::move(own);
                    },
                    on_worker(round % 2));
                stream = reader->join();
            }
            std::string buffer(10, '\0');
            CHECK(receive_some(stream, bytes_of(buffer))->empty());
        },
        on_worker(0));
}

TEST_CASE("moving: what came ahead of its reader comes along, also to reads that go straight to memory") {
    const auto running = make_runtime(2, 1000);
    const testing::watchdog dog("a connection that changed its worker waits for ever");
    run_in_fiber(
        *running,
        [&] {
            for (const std::size_t piece : {10u, 20'000u}) {
                auto [stream, other] = connect_pair();
                std::string one(1, '\0');
                CHECK(other.send(pattern(0, 30'000)));
                CHECK(text_of(*receive_some(stream, bytes_of(one))) == pattern(0, 1));
                (void)this_fiber::sleep_for(5ms);  // the rest has come, and is kept
                auto reader = spawn(
                    [&, own = std::move(stream)]() mutable {
                        std::string buffer(piece, '\0');
                        for (std::size_t at = 1; at < 30'000;) {
                            const auto read = own.read_some(bytes_of(buffer));
                            REQUIRE(read);
                            REQUIRE(!read->empty());
                            REQUIRE(text_of(*read) == pattern(at, read->size()));
                            at += read->size();
                        }
                    },
                    on_worker(1));
                reader->join();
            }
        },
        on_worker(0));
}

TEST_CASE(
    "moving: a connection that is closed on another worker than the one that received is closed for its "
    "peer") {
    const auto running = make_runtime(2, 1000);
    const testing::watchdog dog("a peer never sees the end of a connection");
    for (int round = 0; round < 20; ++round) {
        connected pair = run_in_fiber(
            *running,
            [] {
                connected made = connect_pair();
                std::string buffer(10, '\0');
                CHECK(error_of(receive_some(made.stream, bytes_of(buffer), in_ms(1))) ==
                      errc::timed_out);  // armed
                return made;
            },
            on_worker(0));
        run_in_fiber(*running, [own = std::move(pair.stream)] {}, on_worker(1));
        CHECK(pair.other.receive_all() == "");
    }
}

TEST_CASE("moving: a mobile fiber takes over a connection with an armed receive") {
    const auto running = make_runtime(2, 1000);
    const testing::watchdog dog("a mobile fiber waits for ever");
    run_in_fiber(
        *running,
        [&] {
            auto [stream, other] = connect_pair();
            std::string buffer(10, '\0');
            CHECK(error_of(receive_some(stream, bytes_of(buffer), in_ms(1))) == errc::timed_out);
            CHECK(other.send("kept"));
            (void)this_fiber::sleep_for(5ms);
            auto mobile = spawn(
                [own = std::move(stream)]() mutable {
                    std::string space(10, '\0');
                    for (const std::string_view expected : {"kept", "asked", "more"}) {
                        auto [written, read] =
                            own.exchange_into(std::as_bytes(std::span("next?")).first(5), no_deadline,
                                              [&] { return bytes_of(space); });
                        CHECK(written);
                        REQUIRE(read);
                        CHECK(text_of(*read) == expected);
                    }
                    CHECK(error_of(receive_some(own, bytes_of(space), in_ms(1))) == errc::timed_out);
                },
                {.where = placement::fixed, .worker = 1, .affinity = fiber_affinity::any});
            // A thread, so that this worker is free to let go of the connection.
            const auto client = in_thread([to = &other] {
                CHECK(to->receive(5) == "next?");
                CHECK(to->send("asked"));
                CHECK(to->receive(10) == "next?next?");
                CHECK(to->send("more"));
            });
            mobile->join();
        },
        on_worker(0));
}

TEST_CASE("moving: mobile connections on an overloaded worker move away with their sockets and answer all") {
    const auto running = make_runtime(2, 1000);
    const testing::watchdog dog("a mobile connection waits for ever");
    const overloaded_worker busy(*running, 0);
    const unsigned rounds = scaled(60, 20);
    constexpr unsigned connections = 8;
    tcp_listener listener = listen_at();
    const address at = *listener.local_address();
    std::atomic<unsigned> moved{0};
    auto server = running->spawn(
        [&, own = std::move(listener)]() mutable {
            std::vector<fiber<void>> handlers;
            for (unsigned n = 0; n < connections; ++n)
                handlers.push_back(*spawn(
                    [&, stream = std::move(*own.accept())]() mutable {
                        std::array<std::byte, 3000> buffer;
                        std::span<std::byte> received = *stream.read_some(buffer);
                        while (!received.empty()) {
                            auto [written, read] = stream.exchange(received, no_deadline, buffer);
                            REQUIRE(written);
                            received = *read;
                        }
                        moved += this_fiber::worker_index() != 0;
                    },
                    {.where = placement::fixed, .worker = 0, .affinity = fiber_affinity::any}));
            for (auto& each : handlers) each.join();
        },
        on_worker(0));
    {
        std::vector<std::jthread> clients;
        for (unsigned n = 0; n < connections; ++n)
            clients.push_back(in_thread([&, n] {
                peer client = peer::connect(at);
                for (unsigned round = 0; round < rounds; ++round) {
                    const std::string question = pattern(n * 1000 + round, 1 + round * 31 % 2000);
                    REQUIRE(client.send(question));
                    REQUIRE(client.receive(question.size()) == question);
                }
                client.finish_sending();
                CHECK(client.receive_all() == "");
            }));
    }
    server->join();
    CHECK(moved > 0);
    const auto counters = running->counters();
    CHECK(counters.deflected_out > 0);
    CHECK(counters.deflected_in == counters.deflected_out);
}

TEST_CASE("moving: a mobile fiber accepts, and can be asked to stop while it waits") {
    const auto running = make_runtime(2, 1000);
    const testing::watchdog dog("a mobile acceptor waits for ever");
    tcp_listener listener = listen_at();
    const address at = *listener.local_address();
    std::atomic<bool> nobody_came{false};
    auto acceptor = running->spawn(
        [&] {
            CHECK(error_of(listener.accept(in_ms(1))) == errc::timed_out);
            nobody_came = true;
            for (unsigned accepted = 0;; ++accepted) {
                const auto connection = listener.accept();
                if (connection) continue;
                CHECK(connection.error() == errc::cancelled);
                return accepted;
            }
        },
        {.affinity = fiber_affinity::any});
    while (!nobody_came) std::this_thread::yield();
    for (int n = 0; n < 5; ++n) CHECK(peer::connect(at).receive_all() == "");
    acceptor->cancel();
    CHECK(acceptor->join() == 5);
}

TEST_CASE("moving: a server whose connections are mobile drains them all, wherever they are by then") {
    auto running = make_runtime(2, 1000);
    const testing::watchdog dog("a server with mobile connections does not end");
    std::atomic<std::uint16_t> port{0};
    auto serving = running->spawn([&] {
        return serve({.listen = "127.0.0.1:0",
                      .affinity = fiber_affinity::any,
                      .drain_grace = 10ms,
                      .on_listening = [&](const address& at) { port = at.port(); }},
                     [](tcp_stream& stream) -> result<void> {
                         std::array<std::byte, 100> buffer;
                         for (;;) {
                             const auto received = WEFT_TRY(stream.read_some(buffer));
                             if (received.empty()) return {};
                             WEFT_TRY(stream.write_all(received));
                         }
                     });
    });
    while (port == 0) std::this_thread::yield();
    std::vector<peer> clients;
    {
        const overloaded_worker busy(*running, 0);
        for (int n = 0; n < 20; ++n)
            clients.push_back(peer::connect(*address::parse("127.0.0.1:" + std::to_string(port))));
        for (int round = 0; round < 5; ++round)
            for (auto& each : clients) {
                CHECK(each.send("ping"));
                CHECK(each.receive(4) == "ping");
            }
    }
    running->request_stop();
    for (auto& each : clients) CHECK(each.receive_all() == "");
    CHECK(serving->join());
}
