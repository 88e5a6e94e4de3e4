// Connections from both ends. The other one is blocking Asio, or a plain socket where a reset or a peer that
// does not read is wanted. What exchange_into() does is in stream_test.cpp.
#include "conversation.hpp"

#include <netinet/tcp.h>
#include <signal.h>

#include <array>
#include <vector>

using namespace weft;
using namespace weft::testing;
using namespace std::chrono_literals;
using namespace std::string_literals;

namespace {

// More than the kernel's buffers between two sockets of this machine take.
constexpr std::size_t too_much_bytes = 64 * 1024 * 1024;

std::span<const std::byte> as_bytes(std::string_view text) {
    return std::as_bytes(std::span(text));
}

void echo_from_asio(std::string_view where) {
    converse(
        [](tcp_stream& stream) {
            std::string buffer(100, '\0');
            const auto received = stream.read_some(bytes_of(buffer));
            REQUIRE(received);
            CHECK(text_of(*received) == "hello");
            CHECK(stream.write_all("and back"));
            const auto end = stream.read_some(bytes_of(buffer));
            REQUIRE(end);
            CHECK(end->empty());
        },
        [](client_socket& socket) {
            asio_send(socket, "hello");
            CHECK(asio_receive(socket, 8) == "and back");
        },
        where);
}

void connect_to_asio(const asio::ip::tcp::endpoint& where) {
    watchdog dog("a connection is not made");
    asio::io_context context;
    asio::ip::tcp::acceptor acceptor(context, where);
    const auto port = acceptor.local_endpoint().port();
    const std::jthread thread = in_thread([&] {
        client_socket socket(context);
        acceptor.accept(socket);
        CHECK(asio_receive_all(socket) == "from weft");
        asio_send(socket, std::to_string(socket.remote_endpoint().port()));
    });
    auto running = make_runtime(1, 100);
    run_in_fiber(*running, [&] {
        const auto to = address::parse(where.address().is_v6() ? "[::1]:1" : "127.0.0.1:1")->with_port(port);
        auto stream = tcp_stream::connect(to, in_ms(10'000));
        REQUIRE(stream);
        CHECK(*stream->peer_address() == to);
        CHECK(stream->local_address()->is_loopback());
        CHECK(stream->write_all("from weft"));
        CHECK(stream->shutdown(shutdown_side::sending));
        std::string port_text = std::to_string(stream->local_address()->port());
        std::string received(port_text.size(), '\0');
        REQUIRE(stream->read_exactly(bytes_of(received)));
        CHECK(received == port_text);
    });
}

// A listener that completes no further connection: its backlog is full, and nobody accepts.
struct full_listener {
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address at;
    std::vector<peer> waiting;

    full_listener() {
        const address anywhere = *address::parse("127.0.0.1:0");
        REQUIRE(bind(descriptor, anywhere.data(), anywhere.size()) == 0);
        REQUIRE(listen(descriptor, 0) == 0);
        sockaddr_in bound{};
        socklen_t length = sizeof bound;
        getsockname(descriptor, reinterpret_cast<sockaddr*>(&bound), &length);
        at = anywhere.with_port(ntohs(bound.sin_port));
        for (int n = 0; n < 4; ++n) {
            waiting.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
            static_cast<void>(::connect(waiting.back().descriptor(), at.data(), at.size()));
        }
    }
    full_listener(const full_listener&) = delete;
    full_listener& operator=(const full_listener&) = delete;
    ~full_listener() { ::close(descriptor); }
};

int option_of(const tcp_stream& stream, int level, int name) {
    int value = -1;
    socklen_t length = sizeof value;
    REQUIRE(getsockopt(stream.native_handle(), level, name, &value, &length) == 0);
    return value;
}

// Runs `call` in a fiber of its own until it is parked, cancels it, and gives what it returned.
template <class Call>
auto cancelled_in(Call call) {
    std::atomic<bool> begun{false};
    auto fiber = spawn([&] {
        begun = true;
        return call();
    });
    REQUIRE(fiber);
    sleep_until_true([&] { return begun.load(); });
    static_cast<void>(this_fiber::sleep_for(10ms));
    fiber->cancel();
    return fiber->join();
}

}  // namespace

TEST_CASE("tcp: bytes go both ways between a fiber and an Asio client, and its end is no bytes") {
    echo_from_asio("127.0.0.1:0");
}

TEST_CASE("tcp: bytes go both ways over IPv6") {
    if (!has_ipv6_loopback()) {
        MESSAGE("skipped: this machine has no ::1");
        return;
    }
    echo_from_asio("[::1]:0");
}

TEST_CASE("tcp: connect reaches a listening peer, and both agree about the addresses") {
    connect_to_asio({asio::ip::make_address("127.0.0.1"), 0});
    if (has_ipv6_loopback())
        connect_to_asio({asio::ip::make_address("::1"), 0});
    else
        MESSAGE("without IPv6: this machine has no ::1");
}

TEST_CASE("tcp: read_exactly waits for every byte, and says when the stream ended before") {
    converse(
        [](tcp_stream& stream) {
            std::string whole(3000, '\0');
            REQUIRE(stream.read_exactly(bytes_of(whole)));
            CHECK(whole == pattern(0, 3000));
            CHECK(stream.read_exactly({}));
            const auto cut = stream.read_exactly(bytes_of(whole));
            REQUIRE(!cut);
            CHECK(error_of(cut) == errc::end_of_stream);
        },
        [](client_socket& socket) {
            for (std::size_t at = 0; at < 3000; at += 1000) {
                asio_send(socket, pattern(at, 1000));
                std::this_thread::sleep_for(5ms);
            }
            asio_send(socket, "not enough");
        });
}

TEST_CASE("tcp: write_all waits until the kernel has taken more than its buffers hold") {
    constexpr std::size_t bytes = sanitizer::active ? 8'000'000 : 24'000'000;
    converse(
        [](tcp_stream& stream) {
            CHECK(stream.write_all(""));
            CHECK(stream.write_all(pattern(0, bytes)));
        },
        [](client_socket& socket) {
            std::this_thread::sleep_for(20ms);  // the sender runs into full buffers
            CHECK(asio_receive_all(socket) == pattern(0, bytes));
        });
}

TEST_CASE(
    "tcp: writev sends its pieces in order as one: none, empty ones, many, and more than the buffers hold") {
    const std::string large = pattern(0, sanitizer::active ? 8'000'000 : 24'000'000);
    std::vector<std::string> many;
    std::string expected;
    for (std::size_t n = 0; n < 100; ++n) many.push_back(n % 3 == 0 ? "" : pattern(n * 50, n));
    for (const std::string& each : many) expected += each;
    converse(
        [&](tcp_stream& stream) {
            CHECK(stream.writev({}));
            const std::vector<std::span<const std::byte>> empty(40);
            CHECK(stream.writev(empty));
            std::vector<std::span<const std::byte>> pieces;
            for (const std::string& each : many) pieces.push_back(as_bytes(each));
            CHECK(stream.writev(pieces));
            // 5 MB and a bit, so that a short send ends within a piece.
            pieces = {{}, as_bytes("begin"), {}};
            for (std::size_t at = 0; at < large.size(); at += 300'007)
                pieces.push_back(as_bytes(std::string_view(large).substr(at, 300'007)));
            pieces.push_back({});
            CHECK(stream.writev(pieces));
        },
        [&](client_socket& socket) {
            CHECK(asio_receive(socket, expected.size()) == expected);
            CHECK(asio_receive(socket, 5) == "begin");
            std::this_thread::sleep_for(20ms);
            CHECK(asio_receive_all(socket) == large);
        });
}

TEST_CASE(
    "tcp: exchange answers and reads the next request, and gives a slow reader the time for a large answer") {
    const std::string large = pattern(0, 8'000'000);
    converse(
        [&](tcp_stream& stream) {
            std::string buffer(64, '\0');
            auto [nothing, first] = stream.exchange({}, no_deadline, bytes_of(buffer));
            CHECK(nothing);
            REQUIRE(first);
            CHECK(text_of(*first) == "one");
            auto [written, second] = stream.exchange(as_bytes("answer"), in_ms(10'000), bytes_of(buffer));
            CHECK(written);
            REQUIRE(second);
            CHECK(text_of(*second) == "two");
            auto [rest, end] = stream.exchange(as_bytes(large), in_ms(20'000), bytes_of(buffer));
            CHECK(rest);
            REQUIRE(end);
            CHECK(end->empty());
        },
        [&](client_socket& socket) {
            asio_send(socket, "one");
            CHECK(asio_receive(socket, 6) == "answer");
            asio_send(socket, "two");
            std::this_thread::sleep_for(20ms);
            CHECK(asio_receive(socket, large.size()) == large);
        });
}

TEST_CASE("tcp: half of a connection can be closed, by either end, and the other half goes on") {
    converse(
        [](tcp_stream& stream) {
            CHECK(stream.write_all("mine"));
            CHECK(stream.shutdown(shutdown_side::sending));
            std::string rest(9, '\0');
            REQUIRE(stream.read_exactly(bytes_of(rest)));
            CHECK(rest == "I go on.."s);
            CHECK(stream.read_some(bytes_of(rest))->empty());
            CHECK(!stream.write_all("too late"));
        },
        [](client_socket& socket) {
            CHECK(asio_receive_all(socket) == "mine");
            asio_send(socket, "I go on..");
        });
    converse(
        [](tcp_stream& stream) {
            std::string buffer(10, '\0');
            CHECK(text_of(*stream.read_some(bytes_of(buffer))) == "theirs");
            CHECK(stream.read_some(bytes_of(buffer))->empty());
            CHECK(stream.write_all("still answered"));
        },
        [](client_socket& socket) {
            asio_send(socket, "theirs");
            socket.shutdown(client_socket::shutdown_send);
            CHECK(asio_receive_all(socket) == "still answered");
        });
}

TEST_CASE("tcp: shutting the receiving side ends a read, also one through a stream") {
    auto running = make_runtime(1, 100);
    run_in_fiber(*running, [] {
        std::string buffer(10, '\0');
        for (const bool through_stream : {false, true}) {
            auto [stream, other] = connect_pair();
            if (through_stream)
                CHECK(error_of(receive_some(stream, bytes_of(buffer), in_ms(1))) == errc::timed_out);
            CHECK(stream.shutdown(shutdown_side::receiving));
            const auto end = stream.read_some(bytes_of(buffer), in_ms(10'000));
            REQUIRE(end);
            CHECK(end->empty());
        }
    });
}

TEST_CASE("tcp: finish lets the peer read the last answer although bytes of its own are unread") {
    for (const bool through_stream : {false, true}) {
        converse(
            [through_stream](tcp_stream& stream) {
                std::string buffer(1, '\0');
                if (through_stream) CHECK(receive_some(stream, bytes_of(buffer)));
                CHECK(stream.write_all("the last answer"));
                CHECK(stream.finish(in_ms(10'000)));
            },
            [](client_socket& socket) {
                asio_send(socket, pattern(0, 100'000));
                CHECK(asio_receive_all(socket) == "the last answer");
                asio_send(socket, "dropped");
            });
    }
}

TEST_CASE("tcp: finish keeps its deadline, with a peer that says nothing and with one that never stops") {
    watchdog dog("finish reads for ever from a peer that never stops sending");
    auto running = make_runtime(1, 100);
    run_in_fiber(*running, [] {
        auto [stream, other] = connect_pair();
        const auto silent = stream.finish(in_ms(20));
        REQUIRE(!silent);
        CHECK(error_of(silent) == errc::timed_out);
    });
    for (const bool through_stream : {false, true}) {
        std::atomic<bool> over{false};
        std::jthread flood;
        run_in_fiber(*running, [&] {
            auto [stream, other] = connect_pair();
            std::string buffer(1, '\0');
            flood = in_thread([&over, from = other.descriptor()] {
                const std::string bytes(100'000, 'x');
                while (!over)
                    static_cast<void>(::send(from, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT));
            });
            if (through_stream) CHECK(receive_some(stream, bytes_of(buffer)));
            const auto flooded = stream.finish(in_ms(50));
            over = true;
            REQUIRE(!flooded);
            CHECK(error_of(flooded) == errc::timed_out);
            flood.join();
        });
    }
}

TEST_CASE(
    "tcp: opening a port that is in use is the system's error, also for the first of several that share") {
    auto running = make_runtime(1, 100);
    run_in_fiber(*running, [] {
        tcp_listener first = listen_at();
        const address at = *first.local_address();
        for (const bool share : {false, true}) {
            const auto second = tcp_listener::open(at, {.share_address = share});
            REQUIRE(!second);
            CHECK(error_of(second) == std::errc::address_in_use);
        }
        tcp_listener shared = listen_at("127.0.0.1:0", {.share_address = true});
        const auto joined =
            tcp_listener::open(*shared.local_address(), {.share_address = true, .join_shared = true});
        CHECK(joined);
        CHECK(joined->local_address() == shared.local_address());
    });
}

TEST_CASE("tcp: a connection to a port where nobody listens is refused") {
    auto running = make_runtime(1, 100);
    run_in_fiber(*running, [] {
        const address gone = *listen_at().local_address();
        CHECK(this_fiber::sleep_for(5ms));  // a descriptor is closed in the turn that follows
        const auto refused = tcp_stream::connect(gone, in_ms(10'000));
        REQUIRE(!refused);
        CHECK(error_of(refused) == std::errc::connection_refused);
    });
}

TEST_CASE("tcp: connecting, accepting and reading give up at their deadlines") {
    watchdog dog("a deadline is not kept");
    const auto before = open_descriptors();
    {
        auto running = make_runtime(1, 100);
        const full_listener full;
        run_in_fiber(*running, [&] {
            const auto late = tcp_stream::connect(full.at, in_ms(20));
            REQUIRE(!late);
            CHECK(error_of(late) == errc::timed_out);

            tcp_listener listener = listen_at();
            const auto nobody = listener.accept(in_ms(10));
            REQUIRE(!nobody);
            CHECK(error_of(nobody) == errc::timed_out);
            const peer other = peer::connect(*listener.local_address());
            auto stream = listener.accept(in_ms(10'000));
            REQUIRE(stream);

            std::string buffer(20'000, '\0');
            CHECK(error_of(stream->read_some(bytes_of(buffer), in_ms(10))) == errc::timed_out);
            CHECK(other.send("half"));
            CHECK(error_of(stream->read_exactly(bytes_of(buffer), in_ms(20))) == errc::timed_out);
            CHECK(error_of(stream->exchange(as_bytes("x"), no_deadline, bytes_of(buffer), in_ms(10)).read) ==
                  errc::timed_out);
            CHECK(other.send("more"));
            CHECK(text_of(*stream->read_some(bytes_of(buffer), in_ms(10'000))) == "more");
        });
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("tcp: a write to a peer that does not read gives up at its deadline, however it is written") {
    watchdog dog("a write waits for ever");
    const std::string much(too_much_bytes, 'x');
    auto running = make_runtime(1, 100);
    run_in_fiber(*running, [&] {
        const std::array<std::span<const std::byte>, 2> pieces{as_bytes("begin"), as_bytes(much)};
        std::string buffer(10, '\0');
        auto [one, one_peer] = connect_pair(4096);
        CHECK(error_of(one.write_all(much, in_ms(20))) == errc::timed_out);
        auto [two, two_peer] = connect_pair(4096);
        CHECK(error_of(two.writev(pieces, in_ms(20))) == errc::timed_out);
        auto [three, three_peer] = connect_pair(4096);
        const auto exchanged = three.exchange(as_bytes(much), in_ms(20), bytes_of(buffer));
        CHECK(error_of(exchanged.written) == errc::timed_out);
        CHECK(error_of(exchanged.read) == errc::timed_out);
    });
}

TEST_CASE("tcp: a peer's reset ends a read and a write that wait, without a signal") {
    watchdog dog("a reset is not noticed");
    static std::atomic<int> signals{0};
    const auto old = signal(SIGPIPE, [](int) { ++signals; });
    const std::string much(too_much_bytes, 'x');
    auto running = make_runtime(1, 100);
    run_in_fiber(*running, [&] {
        std::string buffer(10, '\0');
        const auto reset_soon = [](peer& other) {
            return in_thread([&other] {
                std::this_thread::sleep_for(20ms);
                other.reset();
            });
        };
        {
            auto [stream, other] = connect_pair();
            const auto thread = reset_soon(other);
            CHECK(error_of(stream.read_some(bytes_of(buffer))) == std::errc::connection_reset);
        }
        {
            auto [stream, other] = connect_pair(4096);
            const auto thread = reset_soon(other);
            const auto written = stream.write_all(much);
            REQUIRE(!written);
            CHECK((written.error() == std::errc::connection_reset ||
                   written.error() == std::errc::broken_pipe));
            CHECK(!stream.write_all("after that"));
            CHECK(!stream.exchange(as_bytes("and that"), no_deadline, bytes_of(buffer)).written);
            CHECK(!stream.exchange_into(as_bytes("and that"), no_deadline, [&] { return bytes_of(buffer); })
                       .written);
            const std::array<std::span<const std::byte>, 1> pieces{as_bytes("too")};
            CHECK(!stream.writev(pieces));
        }
    });
    signal(SIGPIPE, old);
    CHECK(signals == 0);
}

TEST_CASE("tcp: options are what the kernel says they are") {
    auto running = make_runtime(1, 100);
    run_in_fiber(*running, [] {
        auto [stream, other] = connect_pair();
        CHECK(option_of(stream, IPPROTO_TCP, TCP_NODELAY) == 1);
        CHECK(stream.set_no_delay(false));
        CHECK(option_of(stream, IPPROTO_TCP, TCP_NODELAY) == 0);
        CHECK(stream.set_no_delay(true));
        CHECK(option_of(stream, IPPROTO_TCP, TCP_NODELAY) == 1);
        CHECK(stream.set_keep_alive(90s, 300ms, 7));
        CHECK(option_of(stream, SOL_SOCKET, SO_KEEPALIVE) == 1);
        CHECK(option_of(stream, IPPROTO_TCP, TCP_KEEPIDLE) == 90);
        CHECK(option_of(stream, IPPROTO_TCP, TCP_KEEPINTVL) == 1);  // no less than a second
        CHECK(option_of(stream, IPPROTO_TCP, TCP_KEEPCNT) == 7);
        CHECK(stream.set_receive_buffer_bytes(20'000));
        CHECK(option_of(stream, SOL_SOCKET, SO_RCVBUF) == 40'000);  // the kernel counts its own needs too
        CHECK(stream.set_send_buffer_bytes(30'000));
        CHECK(option_of(stream, SOL_SOCKET, SO_SNDBUF) == 60'000);

        tcp_listener listener = listen_at();
        auto connecting = tcp_stream::connect(*listener.local_address());
        REQUIRE(connecting);
        CHECK(option_of(*connecting, IPPROTO_TCP, TCP_NODELAY) == 1);
    });
}

TEST_CASE("tcp: a close sends a reset when it was asked to, and the end of the stream otherwise") {
    auto running = make_runtime(1, 100);
    for (const bool reset : {true, false}) {
        for (const bool armed : {true, false}) {
            peer other = run_in_fiber(*running, [&] {
                auto pair = connect_pair();
                std::string buffer(1, '\0');
                if (armed)
                    CHECK(error_of(receive_some(pair.stream, bytes_of(buffer), in_ms(1))) == errc::timed_out);
                CHECK(pair.stream.set_reset_on_close(true));
                if (!reset) CHECK(pair.stream.set_reset_on_close(false));
                pair.stream.close();
                CHECK(!pair.stream.is_open());
                return std::move(pair.other);
            });
            std::array<char, 1> buffer;
            CHECK(other.receive_some(buffer) == (reset ? -ECONNRESET : 0));
        }
    }
}

TEST_CASE("tcp: a stream that was moved from is closed, and one that is assigned to lets go of what it had") {
    auto running = make_runtime(1, 100);
    run_in_fiber(*running, [] {
        tcp_stream nothing;
        CHECK(!nothing.is_open());
        nothing.close();
        std::string buffer(10, '\0');

        auto [first, first_peer] = connect_pair();
        auto [second, second_peer] = connect_pair();
        CHECK(error_of(receive_some(first, bytes_of(buffer), in_ms(1))) == errc::timed_out);
        tcp_stream moved(std::move(first));
        CHECK(!first.is_open());
        CHECK(moved.is_open());
        first_peer.send("here");
        CHECK(text_of(*receive_some(moved, bytes_of(buffer))) == "here");

        moved = std::move(second);
        CHECK(!second.is_open());
        CHECK(this_fiber::sleep_for(5ms));
        CHECK(first_peer.receive(1).empty());  // it sees the end although `second` still lives
        second_peer.send("there");
        CHECK(text_of(*receive_some(moved, bytes_of(buffer))) == "there");
    });
}

TEST_CASE("tcp: closing twice closes no stranger's descriptor") {
    auto running = make_runtime(1, 100);
    run_in_fiber(*running, [] {
        auto [stream, other] = connect_pair();
        stream.close();
        CHECK(this_fiber::sleep_for(5ms));
        CHECK(other.receive(1).empty());
        auto [next, next_peer] = connect_pair();
        stream.close();
        CHECK(this_fiber::sleep_for(5ms));
        CHECK(fcntl(next.native_handle(), F_GETFD) >= 0);
    });
}

TEST_CASE("tcp: a listener that ends in any state leaves no descriptor behind") {
    const auto before = open_descriptors();
    {
        auto running = make_runtime(1, 100);
        std::vector<peer> others;
        run_in_fiber(*running, [&] {
            tcp_listener never_used = listen_at();
            tcp_listener moved = std::move(never_used);
            tcp_listener armed = listen_at();
            CHECK(error_of(armed.accept(in_ms(1))) == errc::timed_out);
            tcp_listener untaken = listen_at();
            others.push_back(peer::connect(*untaken.local_address()));
            CHECK(untaken.accept());
            for (int n = 0; n < 5; ++n) others.push_back(peer::connect(*untaken.local_address()));
            static_cast<void>(this_fiber::sleep_for(5ms));
            armed = listen_at();
            CHECK(error_of(armed.accept(in_ms(1))) == errc::timed_out);
        });
        // Those that were accepted and not taken are closed with it.
        for (const peer& other : others) CHECK(other.receive(1).empty());
        others.clear();
        // And one that is armed when its runtime ends.
        run_in_fiber(*running, [] {
            tcp_listener armed = listen_at();
            CHECK(error_of(armed.accept(in_ms(1))) == errc::timed_out);
        });
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("tcp: take_last gives every connection that was complete, and no more") {
    auto running = make_runtime(1, 100);
    run_in_fiber(*running, [] {
        for (const bool armed : {true, false}) {
            tcp_listener listener = listen_at();
            if (armed) CHECK(error_of(listener.accept(in_ms(1))) == errc::timed_out);
            std::vector<peer> others;
            for (int n = 0; n < 20; ++n) {
                others.push_back(peer::connect(*listener.local_address()));
                CHECK(others.back().send(std::string(1, static_cast<char>('a' + n))));
            }
            std::string seen, buffer(1, '\0');
            for (tcp_stream last = listener.take_last(); last.is_open(); last = listener.take_last()) {
                CHECK(last.read_exactly(bytes_of(buffer), in_ms(10'000)));
                seen += buffer;
            }
            std::ranges::sort(seen);
            CHECK(seen == "abcdefghijklmnopqrst");
        }
    });
}

TEST_CASE("tcp: accept goes on after the process had no descriptor left") {
    auto running = make_runtime(1, 100);
    run_in_fiber(*running, [] {
        tcp_listener listener = listen_at();
        const peer other = peer::connect(*listener.local_address());
        rlimit limit{};
        getrlimit(RLIMIT_NOFILE, &limit);
        const rlimit none{.rlim_cur = 3, .rlim_max = limit.rlim_max};
        setrlimit(RLIMIT_NOFILE, &none);
        const auto failed = listener.accept(in_ms(10'000));
        setrlimit(RLIMIT_NOFILE, &limit);
        REQUIRE(!failed);
        CHECK(error_of(failed) == std::errc::too_many_files_open);
        CHECK(listener.accept(in_ms(10'000)));
    });
}

TEST_CASE("tcp: a fiber that is cancelled comes back from every call that waits") {
    watchdog dog("a cancelled fiber waits on");
    const std::string much(too_much_bytes, 'x');
    const auto before = open_descriptors();
    {
        auto running = make_runtime(1, 100);
        const full_listener full;
        run_in_fiber(*running, [&] {
            std::string buffer(20'000, '\0');
            const auto space = [&] { return bytes_of(buffer); };
            const std::array<std::span<const std::byte>, 1> pieces{as_bytes(much)};
            tcp_listener listener = listen_at();
            CHECK(error_of(cancelled_in([&] { return tcp_stream::connect(full.at); })) == errc::cancelled);
            CHECK(error_of(cancelled_in([&] { return listener.accept(); })) == errc::cancelled);
            // Each on a connection that goes on, to a peer that neither reads nor writes.
            auto [stream, other] = connect_pair(4096);
            CHECK(error_of(cancelled_in([&] { return stream.read_some(bytes_of(buffer)); })) ==
                  errc::cancelled);
            CHECK(error_of(cancelled_in([&] { return stream.read_exactly(bytes_of(buffer)); })) ==
                  errc::cancelled);
            CHECK(error_of(cancelled_in([&] {
                      return stream.exchange(as_bytes("x"), no_deadline, bytes_of(buffer)).read;
                  })) == errc::cancelled);
            CHECK(error_of(cancelled_in([&] { return receive_some(stream, bytes_of(buffer)); })) ==
                  errc::cancelled);
            CHECK(error_of(cancelled_in([&] {
                      return stream.exchange_into(as_bytes("x"), no_deadline, space).read;
                  })) == errc::cancelled);
            CHECK(error_of(cancelled_in([&] { return stream.read_some(bytes_of(buffer)); })) ==
                  errc::cancelled);
            CHECK(other.send("still whole"));
            CHECK(text_of(*receive_some(stream, bytes_of(buffer))) == "still whole");

            CHECK(error_of(cancelled_in([&] { return stream.write_all(much); })) == errc::cancelled);
            CHECK(error_of(cancelled_in([&] { return stream.writev(pieces); })) == errc::cancelled);
            CHECK(error_of(cancelled_in([&] {
                      return stream.exchange_into(as_bytes(much), no_deadline, space).written;
                  })) == errc::cancelled);
            auto [plain, plain_peer] = connect_pair(4096);
            CHECK(error_of(cancelled_in([&] {
                      return plain.exchange(as_bytes(much), no_deadline, bytes_of(buffer)).written;
                  })) == errc::cancelled);
            CHECK(error_of(cancelled_in([&] { return stream.finish(no_deadline); })) == errc::cancelled);
        });
    }
    CHECK(open_descriptors() == before);
}

// A client that sends without end kept a cancelled connection alive, because each of its reads had something
// to return.
TEST_CASE("tcp: a fiber that is cancelled while its peer never stops sending is told so") {
    watchdog dog("a peer that never stops sending keeps a cancelled fiber");
    auto running = make_runtime(1, 100);
    for (const bool through_stream : {false, true}) {
        for (const std::size_t bytes : {std::size_t{1000}, std::size_t{100'000}}) {
            std::atomic<bool> over{false};
            std::jthread flood;
            run_in_fiber(*running, [&] {
                auto [stream, other] = connect_pair();
                flood = in_thread([&over, from = other.descriptor()] {
                    const std::string much(100'000, 'x');
                    while (!over)
                        static_cast<void>(
                            ::send(from, much.data(), much.size(), MSG_NOSIGNAL | MSG_DONTWAIT));
                });
                std::string buffer(bytes, '\0');
                const std::error_code error = cancelled_in([&] {
                    if (through_stream) static_cast<void>(receive_some(stream, bytes_of(buffer)));
                    for (;;) {
                        const auto read = stream.read_some(bytes_of(buffer));
                        if (!read) return read.error();
                    }
                });
                over = true;
                CHECK(error == errc::cancelled);
                flood.join();
            });
        }
    }
}

TEST_CASE("tcp: a fiber that was cancelled is told so although there is something to be had at once") {
    auto running = make_runtime(1, 100);
    run_in_fiber(*running, [] {
        tcp_listener listener = listen_at();
        CHECK(error_of(listener.accept(in_ms(1))) == errc::timed_out);
        const peer waiting = peer::connect(*listener.local_address());
        auto [stream, other] = connect_pair();
        CHECK(other.send("here it is"));
        auto fiber = spawn([&] {
            CHECK(cancel(this_fiber::id()));
            std::string buffer(20'000, '\0');
            CHECK(error_of(stream.read_some(std::as_writable_bytes(std::span(buffer).first(4)))) ==
                  errc::cancelled);
            CHECK(error_of(stream.read_some(bytes_of(buffer))) == errc::cancelled);
            CHECK(error_of(receive_some(stream, bytes_of(buffer))) == errc::cancelled);
            CHECK(error_of(stream.write_all("x")) == errc::cancelled);
            CHECK(error_of(stream.exchange(as_bytes("x"), no_deadline, bytes_of(buffer)).read) ==
                  errc::cancelled);
            CHECK(error_of(listener.accept()) == errc::cancelled);
        });
        REQUIRE(fiber);
        fiber->join();
        std::string buffer(20, '\0');
        CHECK(text_of(*receive_some(stream, bytes_of(buffer))) == "here it is");
        CHECK(listener.accept());
    });
}

TEST_CASE(
    "tcp: a stream of the default kind and one whose descriptor is bad report errors, and nothing worse") {
    auto running = make_runtime(1, 100);
    run_in_fiber(*running, [] {
        tcp_stream nothing;
        std::string buffer(10, '\0');
        CHECK(error_of(nothing.read_some(bytes_of(buffer))) == std::errc::bad_file_descriptor);
        CHECK(error_of(nothing.write_all("x")) == std::errc::bad_file_descriptor);
        CHECK(error_of(nothing.peer_address()) == std::errc::bad_file_descriptor);
        CHECK(error_of(nothing.shutdown(shutdown_side::both)) == std::errc::bad_file_descriptor);
    });
}

TEST_CASE("tcp: a buffer of 4 GiB and more is read into and written from like any other") {
    if (sanitizer::active) return;  // they would have to shadow it
    constexpr std::size_t bytes = std::size_t{1} << 32;
    auto memory = reserved_memory::reserve(bytes);
    REQUIRE(memory);
    auto running = make_runtime(1, 100);
    run_in_fiber(*running, [&] {
        auto [stream, other] = connect_pair();
        CHECK(other.send("hello"));
        const auto read = stream.read_some(std::span(memory->data(), bytes));
        REQUIRE(read);
        CHECK(text_of(*read) == "hello");
        // Far more than the peer takes: it is given up, and not taken for done.
        CHECK(error_of(stream.write_all(std::span<const std::byte>(memory->data(), bytes), in_ms(20))) ==
              errc::timed_out);
    });
}
