#include <doctest/doctest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <weft/runtime/io.hpp>
#include <weft/runtime/worker.hpp>

#include "support.hpp"

using namespace std::chrono_literals;
using weft::errc;
using weft::operation;
using weft::placement;
using weft::testing::run_in_fiber;
using weft::testing::scaled;
using weft::testing::watchdog;
namespace this_fiber = weft::this_fiber;

namespace {

template <unsigned Rung>
weft::result<std::unique_ptr<weft::engine>> ring_on_rung() {
    return weft::make_ring({.first_rung = Rung});
}

// Runs the test on a runtime of each kind of ring.
template <class Test>
void on_every_rung(unsigned workers, Test test) {
    const weft::engine_factory rungs[] = {ring_on_rung<0>, ring_on_rung<1>, ring_on_rung<2>};
    for (std::size_t rung = 0; rung < std::size(rungs); ++rung) {
        CAPTURE(rung);
        const watchdog watch("an operation never ended");
        const auto runtime =
            weft::testing::make_runtime({.workers = workers, .fibers_max = 1000, .make_engine = rungs[rung]});
        test(*runtime);
    }
}

// Two ends of a stream.
struct stream_pair {
    stream_pair() { REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0); }
    stream_pair(const stream_pair&) = delete;
    ~stream_pair() {
        for (const int end : ends)
            if (end >= 0) close(end);
    }
    void close_peer() { close(std::exchange(ends[1], -1)); }
    int mine() const { return ends[0]; }
    int peer() const { return ends[1]; }

    std::array<int, 2> ends{};
};

operation receive_into(int descriptor, std::span<char> bytes, int flags = 0) {
    return {.what = operation::kind::receive,
            .descriptor = descriptor,
            .flags = flags,
            .data = bytes.data(),
            .length = bytes.size()};
}
operation send_of(int descriptor, std::string& bytes) {
    return {.what = operation::kind::send,
            .descriptor = descriptor,
            .data = bytes.data(),
            .length = bytes.size()};
}
weft::result<std::size_t> receive(int descriptor, std::span<char> bytes,
                                  const weft::wait_options& options = {}) {
    operation receiving = receive_into(descriptor, bytes);
    return weft::perform(receiving, options);
}

void write_all(int descriptor, std::string_view text) {
    REQUIRE(::write(descriptor, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

// Blocks the thread until the end of the stream, or until so much has come.
std::string read_fully(int descriptor, std::size_t bytes) {
    std::string all;
    std::array<char, 8192> piece;
    while (all.size() < bytes) {
        const auto got = ::read(descriptor, piece.data(), std::min(piece.size(), bytes - all.size()));
        if (got <= 0) break;
        all.append(piece.data(), static_cast<std::size_t>(got));
    }
    return all;
}

// Bytes that show when a piece is missing or in the wrong place.
std::string recognisable(std::size_t bytes) {
    std::string text(bytes, '\0');
    for (std::size_t n = 0; n < bytes; ++n) text[n] = static_cast<char>((n * 2654435761u) >> 13);
    return text;
}

// By a fiber of the same runtime.
void end_input_of(weft::fiber_id id) {
    weft::fiber_block& block = weft::worker::current()->owner().fibers().block(id.index);
    weft::request(block, id.generation, weft::request_end_input);
}

weft::time_point soon(weft::duration time) {
    return std::chrono::steady_clock::now() + time;
}

}  // namespace

TEST_CASE("io: a receive parks until there is data, and the end of the stream is no bytes") {
    on_every_rung(1, [](weft::runtime& runtime) {
        stream_pair pair;
        auto reader = runtime.spawn([&] {
            std::array<char, 100> bytes;
            std::string all;
            for (;;) {
                const auto got = receive(pair.mine(), bytes);
                REQUIRE(got);
                if (*got == 0) return all;
                all.append(bytes.data(), *got);
            }
        });
        for (const char* text : {"bread", " and ", "butter"}) {
            write_all(pair.peer(), text);
            std::this_thread::sleep_for(1ms);
        }
        pair.close_peer();
        CHECK(reader->join() == "bread and butter");
    });
}

TEST_CASE("io: an error of the kernel is the system's error") {
    on_every_rung(1, [](weft::runtime& runtime) {
        std::array<char, 10> bytes;
        const auto got = run_in_fiber(runtime, [&] { return receive(-1, bytes); });
        CHECK(got.error() == weft::system_error(EBADF));
    });
}

TEST_CASE("io: after a time-out the kernel has let go of the buffer, and what comes later is not lost") {
    on_every_rung(1, [](weft::runtime& runtime) {
        stream_pair pair;
        run_in_fiber(runtime, [&] {
            std::array<char, 16> bytes;
            bytes.fill('-');
            const auto deadline = soon(10ms);
            CHECK(receive(pair.mine(), bytes, {.deadline = deadline}).error() == errc::timed_out);
            CHECK(std::chrono::steady_clock::now() >= deadline);
            write_all(pair.peer(), "late");
            CHECK(this_fiber::sleep_for(5ms));
            CHECK(std::all_of(bytes.begin(), bytes.end(), [](char c) { return c == '-'; }));
            CHECK(receive(pair.mine(), bytes, {.deadline = soon(5s)}) == 4);
            CHECK(std::string_view(bytes.data(), 4) == "late");
            // The deadline of a wait that has ended counts no more.
            CHECK(receive(pair.mine(), bytes, {.deadline = soon(2ms)}).error() == errc::timed_out);
            CHECK(this_fiber::sleep_for(5ms));
        });
    });
}

TEST_CASE("io: a deadline that has passed already still takes what is there") {
    on_every_rung(1, [](weft::runtime& runtime) {
        stream_pair pair;
        write_all(pair.peer(), "here");
        run_in_fiber(runtime, [&] {
            std::array<char, 16> bytes;
            CHECK(receive(pair.mine(), bytes, {.deadline = weft::time_point{}}) == 4);
            CHECK(receive(pair.mine(), bytes, {.deadline = weft::time_point{}}).error() == errc::timed_out);
        });
    });
}

TEST_CASE("io: cancelling from a thread and from a fiber ends a wait, and every later one") {
    on_every_rung(2, [](weft::runtime& runtime) {
        stream_pair pair;
        const auto waits = [&] {
            std::array<char, 16> bytes;
            return receive(pair.mine(), bytes).error() == errc::cancelled &&
                   receive(pair.mine(), bytes).error() == errc::cancelled;
        };
        auto first = runtime.spawn(waits);
        std::this_thread::sleep_for(5ms);
        first->cancel();
        CHECK(first->join());
        run_in_fiber(runtime, [&] {
            for (unsigned at = 0; at < 2; ++at) {
                auto second = weft::spawn(waits, {.where = placement::fixed, .worker = at});
                CHECK(this_fiber::sleep_for(2ms));
                CHECK(weft::cancel(second->id()));
                CHECK(second->join());
            }
        });
    });
}

TEST_CASE("io: a cancel that races with the completion loses no byte") {
    on_every_rung(2, [](weft::runtime& runtime) {
        stream_pair pair;
        const unsigned rounds = scaled(10'000, 500);
        unsigned received = 0, cancelled = 0, left = 0;
        run_in_fiber(runtime,
                     [&] {
                         for (unsigned round = 0; round < rounds; ++round) {
                             auto reader = weft::spawn(
                                 [&] {
                                     char byte = 0;
                                     return receive(pair.mine(), {&byte, 1});
                                 },
                                 {.where = placement::fixed, .worker = round % 2});
                             for (unsigned n = 0; n < round % 5; ++n) this_fiber::yield();
                             if (round % 3 != 0) write_all(pair.peer(), "x");
                             reader->cancel();
                             if (round % 3 == 0) write_all(pair.peer(), "x");
                             const auto got = reader->join();
                             if (got)
                                 received += *got == 1;
                             else
                                 cancelled += got.error() == errc::cancelled;
                             char byte;
                             left += ::recv(pair.mine(), &byte, 1, MSG_DONTWAIT) == 1;
                         }
                     },
                     {.where = placement::fixed, .worker = 0});
        CHECK(received + cancelled == rounds);
        CHECK(received + left == rounds);
    });
}

TEST_CASE("io: a request to end the input ends a wait for input, and no other") {
    on_every_rung(1, [](weft::runtime& runtime) {
        stream_pair pair;
        run_in_fiber(runtime, [&] {
            std::array<char, 16> bytes;
            const auto read_with = [&](bool ends_with_input) {
                return weft::spawn([&, ends_with_input] {
                    return receive(pair.mine(), bytes, {.ends_with_input = ends_with_input});
                });
            };
            auto idle = read_with(true);
            CHECK(this_fiber::sleep_for(1ms));
            end_input_of(idle->id());
            CHECK(idle->join() == 0);

            auto busy = read_with(false);
            CHECK(this_fiber::sleep_for(1ms));
            end_input_of(busy->id());
            CHECK(this_fiber::sleep_for(2ms));
            write_all(pair.peer(), "more");
            CHECK(busy->join() == 4);

            // What has come already is taken before the end.
            write_all(pair.peer(), "rest");
            auto last = read_with(true);
            end_input_of(last->id());
            CHECK(last->join() == 4);
        });
    });
}

TEST_CASE("io: waiting for events tells which came, or that none did in time") {
    on_every_rung(1, [](weft::runtime& runtime) {
        stream_pair pair;
        run_in_fiber(runtime, [&] {
            CHECK(weft::wait_for_events(pair.mine(), POLLIN, {.deadline = soon(2ms)}).error() ==
                  errc::timed_out);
            CHECK(weft::wait_for_events(pair.mine(), POLLIN | POLLOUT) == POLLOUT);
            auto writer = weft::spawn([&] { write_all(pair.peer(), "x"); });
            CHECK(weft::wait_for_events(pair.mine(), POLLIN) == POLLIN);
            writer->join();
        });
    });
}

TEST_CASE("io: many fibers wait at once for descriptors of their own") {
    on_every_rung(2, [](weft::runtime& runtime) {
        constexpr unsigned count = 100;
        std::vector<stream_pair> pairs(count);
        std::vector<weft::fiber<unsigned>> readers;
        const unsigned rounds = scaled(100, 20);
        for (auto& pair : pairs)
            readers.push_back(*runtime.spawn([&] {
                unsigned right = 0;
                for (unsigned round = 0; round < rounds; ++round) {
                    std::array<char, 4> bytes;
                    std::string answer("pong");
                    if (receive(pair.mine(), bytes) != 4 || std::string_view(bytes.data(), 4) != "ping")
                        break;
                    operation sending = send_of(pair.mine(), answer);
                    right += weft::perform(sending) == 4;
                }
                return right;
            }));
        for (unsigned round = 0; round < rounds; ++round) {
            for (auto& pair : pairs) write_all(pair.peer(), "ping");
            for (auto& pair : pairs) REQUIRE(read_fully(pair.peer(), 4) == "pong");
        }
        for (auto& each : readers) CHECK(each.join() == rounds);
    });
}

TEST_CASE("io: an answer and the wait for the next request cost one system call") {
    const auto runtime = weft::testing::make_runtime({.workers = 1, .fibers_max = 100});
    const watchdog watch("a request got no answer");
    stream_pair pair;
    auto server = runtime->spawn([&] {
        std::array<char, 16> bytes;
        std::string answer("answer");
        auto got = receive(pair.mine(), bytes);
        while (got && *got > 0) {
            operation sending = send_of(pair.mine(), answer);
            operation receiving = receive_into(pair.mine(), bytes);
            got = weft::send_and_perform(sending, soon(5s), receiving).received;
        }
        return got.has_value();
    });
    constexpr unsigned requests = 1000;
    std::uint64_t enters_before = 0;
    for (unsigned n = 0; n < requests + 10; ++n) {
        if (n == 10) enters_before = runtime->counters().enters;
        write_all(pair.peer(), "request");
        REQUIRE(read_fully(pair.peer(), 6) == "answer");
    }
    const auto enters = runtime->counters().enters - enters_before;
    CHECK(enters >= requests - 1);
    CHECK(enters <= requests + 10);
    pair.close_peer();
    CHECK(server->join());
}

TEST_CASE(
    "io: a send that the peer is slow to read goes out whole and in order, whatever the peer says "
    "meanwhile") {
    for (const bool peer_speaks_first : {false, true})
        on_every_rung(1, [=](weft::runtime& runtime) {
            CAPTURE(peer_speaks_first);
            stream_pair pair;
            const std::string all = recognisable(3'000'000);
            auto sender = runtime.spawn([&] {
                std::string bytes = all;
                std::array<char, 16> answer;
                operation sending = send_of(pair.mine(), bytes);
                operation receiving = receive_into(pair.mine(), answer);
                const auto [sent, got] = weft::send_and_perform(sending, soon(50s), receiving);
                CHECK(sent);
                return got ? std::string(answer.data(), *got) : got.error().message();
            });
            if (peer_speaks_first) write_all(pair.peer(), "enough");
            std::this_thread::sleep_for(10ms);
            CHECK(read_fully(pair.peer(), all.size()) == all);
            if (!peer_speaks_first) write_all(pair.peer(), "thanks");
            CHECK(sender->join() == (peer_speaks_first ? "enough" : "thanks"));
        });
}

TEST_CASE("io: a send that the peer never reads ends with its own deadline, and by a cancel") {
    on_every_rung(1, [](weft::runtime& runtime) {
        for (const bool by_deadline : {true, false}) {
            stream_pair pair;
            auto sender = runtime.spawn([&] {
                std::string bytes = recognisable(3'000'000);
                std::array<char, 16> answer;
                operation sending = send_of(pair.mine(), bytes);
                operation receiving = receive_into(pair.mine(), answer);
                return weft::send_and_perform(sending, by_deadline ? soon(10ms) : weft::no_deadline,
                                              receiving);
            });
            if (!by_deadline) {
                std::this_thread::sleep_for(5ms);
                sender->cancel();
            }
            const auto [sent, received] = sender->join();
            const auto expected = by_deadline ? errc::timed_out : errc::cancelled;
            CHECK(sent.error() == expected);
            CHECK(received.error() == expected);
        }
    });
}

TEST_CASE("io: neither the deadline of the next request nor the end of all input cuts an answer short") {
    on_every_rung(1, [](weft::runtime& runtime) {
        stream_pair pair;
        const std::string all = recognisable(3'000'000);
        auto sender = runtime.spawn([&] {
            std::string bytes = all;
            std::array<char, 16> next;
            operation sending = send_of(pair.mine(), bytes);
            operation receiving = receive_into(pair.mine(), next);
            return weft::send_and_perform(sending, soon(50s), receiving,
                                          {.deadline = soon(2ms), .ends_with_input = true});
        });
        std::this_thread::sleep_for(5ms);
        const weft::fiber_id id = sender->id();
        run_in_fiber(runtime, [=] { end_input_of(id); });
        std::this_thread::sleep_for(5ms);
        CHECK(read_fully(pair.peer(), all.size()) == all);
        const auto [sent, received] = sender->join();
        CHECK(sent);
        CHECK(received == 0);
    });
}

TEST_CASE("io: an answer that was sent whole is no failure when the next request does not come in time") {
    on_every_rung(1, [](weft::runtime& runtime) {
        stream_pair pair;
        run_in_fiber(runtime, [&] {
            std::string bytes("answer");
            std::array<char, 16> next;
            operation sending = send_of(pair.mine(), bytes);
            operation receiving = receive_into(pair.mine(), next);
            const auto [sent, received] =
                weft::send_and_perform(sending, soon(50s), receiving, {.deadline = soon(3ms)});
            CHECK(sent);
            CHECK(received.error() == errc::timed_out);
        });
        CHECK(read_fully(pair.peer(), 6) == "answer");
    });
}

TEST_CASE("io: sending to a peer that has closed is an error, and no signal") {
    on_every_rung(1, [](weft::runtime& runtime) {
        stream_pair pair;
        pair.close_peer();
        run_in_fiber(runtime, [&] {
            std::string bytes("answer");
            std::array<char, 16> next;
            operation alone = send_of(pair.mine(), bytes);
            CHECK(weft::perform(alone).error() == weft::system_error(EPIPE));
            operation sending = send_of(pair.mine(), bytes);
            operation receiving = receive_into(pair.mine(), next);
            const auto [sent, received] = weft::send_and_perform(sending, soon(5s), receiving);
            REQUIRE_FALSE(sent);
            CHECK((sent.error() == weft::system_error(EPIPE) ||
                   sent.error() == weft::system_error(ECONNRESET)));
            CHECK(received.error() == sent.error());
        });
    });
}

TEST_CASE("io: connections come through an accept stream until it is disarmed") {
    on_every_rung(1, [](weft::runtime& runtime) {
        const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof address;
        auto* generic = reinterpret_cast<sockaddr*>(&address);
        REQUIRE(bind(listener, generic, length) == 0);
        REQUIRE(listen(listener, 16) == 0);
        REQUIRE(getsockname(listener, generic, &length) == 0);
        run_in_fiber(runtime, [&] {
            weft::accept_stream stream;
            stream.descriptor = listener;
            weft::arm(stream);
            CHECK(weft::wait_for_connection(stream, soon(2ms)).error() == errc::timed_out);
            for (int n = 0; n < 3; ++n) {
                const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
                operation connecting{.what = operation::kind::connect,
                                     .descriptor = client,
                                     .data = generic,
                                     .length = length};
                CHECK(weft::perform(connecting) == 0);
                REQUIRE(weft::wait_for_connection(stream, soon(5s)));
                REQUIRE(stream.accepted.size() == 1);
                write_all(client, "hello");
                CHECK(read_fully(stream.accepted[0], 5) == "hello");
                weft::close_descriptor(stream.accepted[0]);
                stream.accepted.clear();
                std::array<char, 1> byte;
                CHECK(receive(client, byte) == 0);  // it was closed without anybody waiting for that
                close(client);
            }
            weft::disarm_and_wait(stream);
            CHECK_FALSE(stream.armed);
            CHECK(stream.error == 0);
        });
        close(listener);
    });
}
