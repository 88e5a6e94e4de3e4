// What comes through exchange_into(): bytes that the engine receives ahead of the fiber that wants them. None
// may be lost, doubled or moved, whatever the fiber does meanwhile, and a peer that sends too much is held
// back.
#include "conversation.hpp"

#include <array>
#include <vector>

using namespace weft;
using namespace weft::testing;
using namespace std::chrono_literals;

namespace {

std::span<const std::byte> as_bytes(std::string_view text) {
    return std::as_bytes(std::span(text));
}

result<std::span<std::byte>> answer_and_receive(tcp_stream& stream, std::string_view answer,
                                                std::span<std::byte> buffer,
                                                time_point deadline = no_deadline) {
    auto [written, read] =
        stream.exchange_into(as_bytes(answer), no_deadline, [&] { return buffer; }, deadline);
    CHECK(written);
    return read;
}

// Reads the pattern from `offset` on in pieces of at most `piece` bytes until `until`; false at the first
// byte that is wrong.
bool read_pattern(tcp_stream& stream, std::size_t offset, std::size_t until, std::size_t piece) {
    std::string buffer(piece, '\0');
    while (offset < until) {
        const auto read = receive_some(stream, bytes_of(buffer).first(std::min(piece, until - offset)));
        if (!read || read->empty() || text_of(*read) != pattern(offset, read->size())) return false;
        offset += read->size();
    }
    return true;
}

// Arms the stream without anything to receive.
void arm(tcp_stream& stream) {
    std::string buffer(1, '\0');
    CHECK(error_of(receive_some(stream, bytes_of(buffer), in_ms(1))) == errc::timed_out);
}

void raise_descriptor_limit() {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

TEST_CASE("stream: the buffer is asked for only when something has come") {
    auto running = make_runtime(1, 100);
    run_in_fiber(*running, [] {
        auto [stream, other] = connect_pair();
        int asked = 0;
        std::string buffer(100, '\0');
        const auto space = [&] {
            ++asked;
            return bytes_of(buffer);
        };
        CHECK(error_of(stream.exchange_into({}, no_deadline, space, in_ms(5)).read) == errc::timed_out);
        CHECK(error_of(stream.exchange_into(as_bytes("hi"), no_deadline, space, in_ms(5)).read) ==
              errc::timed_out);
        CHECK(asked == 0);
        CHECK(other.receive(2) == "hi");
        CHECK(other.send("come"));
        CHECK(text_of(*stream.exchange_into({}, no_deadline, space).read) == "come");
        CHECK(asked == 1);
        other.finish_sending();
        CHECK(stream.exchange_into({}, no_deadline, space).read->empty());
        CHECK(stream.exchange_into({}, no_deadline, space).read->empty());  // and so it stays
        CHECK(stream.read_some(bytes_of(buffer))->empty());
        CHECK(asked == 1);
    });
}

TEST_CASE("stream: a request and its answer, ten thousand times") {
    constexpr int rounds = scaled(10'000, 1'500);
    converse(
        [](tcp_stream& stream) {
            std::string buffer(64, '\0'), answer;
            for (int n = 0; n < rounds; ++n) {
                const auto read = answer_and_receive(stream, answer, bytes_of(buffer));
                REQUIRE(read);
                answer = "answer to " + std::string(text_of(*read));
            }
            CHECK(stream.write_all(answer));
        },
        [](client_socket& socket) {
            for (int n = 0; n < rounds; ++n) {
                const std::string request = std::to_string(n);
                asio_send(socket, request);
                if (asio_receive(socket, 10 + request.size()) != "answer to " + request) {
                    FAIL_CHECK("round " << n << " was answered wrongly");
                    return;
                }
            }
        });
}

TEST_CASE("stream: what comes while the fiber does something else is there afterwards, in order") {
    watchdog dog("bytes that came while nobody waited are gone");
    auto running = make_runtime(1, 100);
    run_in_fiber(*running, [] {
        auto [stream, other] = connect_pair();
        arm(stream);
        std::size_t sent = 0, read = 0;
        for (int round = 0; round < 20; ++round) {
            for (int burst = 0; burst < 3; ++burst) {
                CHECK(other.send(pattern(sent, 1000)));
                sent += 1000;
                CHECK(this_fiber::sleep_for(1ms));
            }
            // Not all of it is taken before the next comes.
            CHECK(read_pattern(stream, read, sent - 1500, 700));
            read = sent - 1500;
        }
        CHECK(read_pattern(stream, read, sent, 100'000));
    });
}

TEST_CASE("stream: buffers of one byte and of three do") {
    constexpr std::size_t bytes = scaled(30'000, 6'000);
    converse(
        [](tcp_stream& stream) {
            CHECK(read_pattern(stream, 0, bytes / 2, 1));
            CHECK(read_pattern(stream, bytes / 2, bytes, 3));
        },
        [](client_socket& socket) {
            for (std::size_t at = 0; at < bytes; at += 500) asio_send(socket, pattern(at, 500));
        });
}

TEST_CASE("stream: no space to read into loses nothing") {
    auto running = make_runtime(1, 100);
    run_in_fiber(*running, [] {
        auto [stream, other] = connect_pair();
        CHECK(other.send("all of it"));
        CHECK(receive_some(stream, {})->empty());
        CHECK(receive_some(stream, {})->empty());
        std::string buffer(20, '\0');
        CHECK(text_of(*receive_some(stream, bytes_of(buffer).first(3))) == "all");
        CHECK(receive_some(stream, {})->empty());
        CHECK(text_of(*receive_some(stream, bytes_of(buffer))) == " of it");
    });
}

TEST_CASE("stream: a peer that sends while nobody reads is held back, and loses nothing") {
    constexpr std::size_t bytes = 64'000'000;  // would be sent in a moment
    std::atomic<std::size_t> sent{0};
    std::atomic<bool> stalled{false};
    watchdog dog("a peer that was held back is never let on");
    auto running = make_runtime(1, 100);
    std::jthread sender;
    run_in_fiber(*running, [&] {
        auto [stream, other] = connect_pair();
        other.set(SO_SNDBUF, 64 * 1024);
        CHECK(stream.set_receive_buffer_bytes(64 * 1024));
        arm(stream);
        sender = in_thread([&, other = std::move(other)] {
            while (sent < bytes) {
                if (!other.writable_within(stalled ? 30'000ms : 100ms)) {
                    if (stalled.exchange(true)) break;
                    continue;
                }
                sent += other.send_now(pattern(sent, std::min<std::size_t>(50'000, bytes - sent)));
                if (stalled && sent > 8'000'000) break;
            }
            other.finish_sending();
            CHECK(other.receive_all().empty());
        });
        sleep_until_true([&] { return stalled.load(); });
        CHECK(sent < 2'000'000);  // 64 KiB kept, and what the kernel holds on both sides
        std::size_t read = 0;
        std::string buffer(5000, '\0');
        for (;;) {
            const auto some = receive_some(stream, bytes_of(buffer));
            REQUIRE(some);
            if (some->empty()) break;
            REQUIRE(text_of(*some) == pattern(read, some->size()));
            read += some->size();
        }
        CHECK(read == sent);
    });
}

TEST_CASE("stream: small reads, large reads, waits and answers in any order see every byte once") {
    const std::size_t bytes = scaled(6'000'000, 1'500'000);
    seeded_random random;
    const unsigned seed = random.seed();
    std::atomic<std::size_t> answered{0};
    converse(
        [&](tcp_stream& stream) {
            std::size_t at = 0;
            std::string buffer(200'000, '\0');
            const auto check = [&](const result<std::span<std::byte>>& read) {
                if (!read) {
                    CHECK_MESSAGE(read.error() == errc::timed_out, "seed " << seed);
                    return;
                }
                REQUIRE_MESSAGE(!read->empty(), "seed " << seed << ", the end at byte " << at);
                REQUIRE_MESSAGE(text_of(*read) == pattern(at, read->size()),
                                "seed " << seed << ", from byte " << at);
                at += read->size();
            };
            while (at < bytes) {
                const std::size_t small = 1 + random.below(5000), large = 16 * 1024 + random.below(150'000);
                const auto deadline =
                    std::chrono::steady_clock::now() + std::chrono::microseconds(random.below(2000));
                switch (random.below(9)) {
                    case 0:
                        check(receive_some(stream, bytes_of(buffer).first(small)));
                        break;
                    case 1:
                        check(receive_some(stream, bytes_of(buffer).first(small), deadline));
                        break;
                    case 2:
                        check(stream.read_some(bytes_of(buffer).first(small), deadline));
                        break;
                    case 3:
                        check(stream.read_some(bytes_of(buffer).first(large)));
                        break;
                    case 4:
                        check(stream.read_some(bytes_of(buffer).first(large), deadline));
                        break;
                    case 5: {
                        const std::size_t exactly =
                            std::min(random.below(2) != 0 ? small : large, bytes - at);
                        REQUIRE(stream.read_exactly(bytes_of(buffer).first(exactly)));
                        check(bytes_of(buffer).first(exactly));
                        break;
                    }
                    case 6:
                        CHECK(this_fiber::sleep_for(std::chrono::microseconds(random.below(1500))));
                        break;
                    case 7:
                        check(answer_and_receive(stream, pattern(answered, small),
                                                 bytes_of(buffer).first(small), deadline));
                        answered += small;
                        break;
                    case 8: {
                        const std::string answer = pattern(answered, small);
                        auto [written, read] = stream.exchange(as_bytes(answer), no_deadline,
                                                               bytes_of(buffer).first(large), deadline);
                        CHECK(written);
                        check(read);
                        answered += small;
                        break;
                    }
                }
            }
            CHECK_MESSAGE(at == bytes, "seed " << seed);
        },
        [&](client_socket& socket) {
            std::mt19937 sizes(seed);
            std::jthread reader = in_thread([&] {
                const std::string all = asio_receive_all(socket);
                CHECK(all.size() == answered);
                CHECK_MESSAGE(all == pattern(0, all.size()), "seed " << seed);
            });
            for (std::size_t at = 0; at < bytes;) {
                const std::size_t next =
                    std::min<std::size_t>(1 + sizes() % (sizes() % 4 == 0 ? 100'000 : 3000), bytes - at);
                asio_send(socket, pattern(at, next));
                at += next;
                if (sizes() % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds(sizes() % 1000));
            }
        });
}

TEST_CASE("stream: a time-out at the moment when data comes loses no byte, two thousand times") {
    const std::size_t rounds = scaled(2000, 300);
    seeded_random random;
    const unsigned seed = random.seed();
    std::atomic<unsigned> timed_out{0};
    converse(
        [&](tcp_stream& stream) {
            std::string buffer(20'000, '\0');
            std::size_t at = 0;
            while (at < rounds * 10) {
                const auto deadline =
                    std::chrono::steady_clock::now() + std::chrono::microseconds(random.below(400));
                const std::size_t most = random.below(8) == 0 ? 20'000 : 4;
                const auto read = random.below(2) != 0
                                      ? stream.read_some(bytes_of(buffer).first(most), deadline)
                                      : receive_some(stream, bytes_of(buffer).first(most), deadline);
                if (!read) {
                    REQUIRE_MESSAGE(read.error() == errc::timed_out, "seed " << seed);
                    ++timed_out;
                    continue;
                }
                REQUIRE_MESSAGE(!read->empty(), "seed " << seed << ", the end at byte " << at);
                REQUIRE_MESSAGE(text_of(*read) == pattern(at, read->size()),
                                "seed " << seed << ", from byte " << at);
                at += read->size();
            }
        },
        [&](client_socket& socket) {
            std::mt19937 pauses(seed);
            for (std::size_t n = 0; n < rounds; ++n) {
                std::this_thread::sleep_for(std::chrono::microseconds(pauses() % 300));
                asio_send(socket, pattern(n * 10, 10));
            }
        });
    CHECK(timed_out > 0);
}

TEST_CASE("stream: an answer that the peer takes slowly is sent whole while the peer goes on sending") {
    const std::size_t bytes = scaled(8'000'000, 6'000'000);
    converse(
        [&](tcp_stream& stream) {
            std::string buffer(3000, '\0');
            CHECK(read_pattern(stream, 0, 5, 5));
            const std::string answer = pattern(0, bytes);
            const auto read = answer_and_receive(stream, answer, bytes_of(buffer));
            REQUIRE(read);
            REQUIRE(text_of(*read) == pattern(5, read->size()));
            CHECK(read_pattern(stream, 5 + read->size(), 1'000'000, 3000));
        },
        [&](client_socket& socket) {
            asio_send(socket, pattern(0, 5));
            std::this_thread::sleep_for(20ms);
            // It sends all its own before it reads: more than is kept, and less than the kernel's buffers
            // hold.
            const std::jthread writer = in_thread([&] { asio_send(socket, pattern(5, 999'995)); });
            std::this_thread::sleep_for(20ms);
            CHECK(asio_receive(socket, bytes) == pattern(0, bytes));
        });
}

// While they waited for their answers to be taken, a few such peers could fill every buffer that the engine
// has, and nobody else on the worker received anything.
TEST_CASE("stream: peers that send without end and read nothing stop nobody else from receiving") {
    watchdog dog("greedy peers have all the buffers");
    auto running = make_runtime(1, 100);
    std::atomic<bool> over{false};
    std::jthread flood;
    const std::string answer(64 * 1024 * 1024, 'x');
    run_in_fiber(*running, [&] {
        std::array<connected, 12> greedy;
        std::vector<fiber<result<void>>> stuck;
        for (connected& each : greedy) {
            each = connect_pair(4096);
            CHECK(each.stream.set_receive_buffer_bytes(4'000'000));
            arm(each.stream);
            auto spawned = spawn([&each, &answer] {
                std::string buffer(10, '\0');
                return each.stream
                    .exchange_into(as_bytes(answer), no_deadline, [&] { return bytes_of(buffer); })
                    .written;
            });
            REQUIRE(spawned);
            stuck.push_back(std::move(*spawned));
        }
        CHECK(this_fiber::sleep_for(20ms));  // all answers are under way
        flood = in_thread([&] {
            const std::string much(100'000, 'x');
            while (!over) {
                for (const connected& each : greedy) static_cast<void>(each.other.send_now(much));
                std::this_thread::sleep_for(1ms);
            }
        });
        CHECK(this_fiber::sleep_for(scaled(300, 1000) * 1ms));
        const auto before = this_fiber::counters();
        auto [modest, modest_peer] = connect_pair();
        std::string buffer(10, '\0');
        for (int n = 0; n < 100; ++n) {
            CHECK(modest_peer.send("hello"));
            const auto read = receive_some(modest, bytes_of(buffer), in_ms(10'000));
            REQUIRE(read);
            CHECK(text_of(*read) == "hello");
        }
        CHECK(this_fiber::sleep_for(50ms));
        CHECK(this_fiber::counters().enters - before.enters < 3000);  // nor do they keep the worker busy
        for (auto& each : stuck) each.cancel();
        for (auto& each : stuck) CHECK(error_of(each.join()) == errc::cancelled);
        over = true;
        flood.join();
    });
}

TEST_CASE("stream: a write that gives up leaves what came meanwhile in order") {
    watchdog dog("a write never gives up");
    auto running = make_runtime(1, 100);
    run_in_fiber(*running, [] {
        auto [stream, other] = connect_pair(4096);
        arm(stream);
        const std::string much(64 * 1024 * 1024, 'x');
        std::string buffer(1000, '\0');
        std::size_t sent = 0;
        for (int round = 0; round < 5; ++round) {
            auto sender = spawn([&other = other, &sent] {
                CHECK(this_fiber::sleep_for(5ms));
                CHECK(other.send(pattern(sent, 5000)));
                sent += 5000;
            });
            const auto done =
                stream.exchange_into(as_bytes(much), in_ms(20), [&] { return bytes_of(buffer); });
            CHECK(error_of(done.written) == errc::timed_out);
            CHECK(error_of(done.read) == errc::timed_out);
            sender->join();
            CHECK(other.send(pattern(sent, 3000)));
            sent += 3000;
            CHECK(this_fiber::sleep_for(2ms));
        }
        CHECK(read_pattern(stream, 0, sent, 900));
    });
}

TEST_CASE("stream: after the end and after a reset, what had come before is read first") {
    watchdog dog("the end is not seen");
    auto running = make_runtime(1, 100);
    run_in_fiber(*running, [] {
        for (const bool reset : {false, true}) {
            for (const std::size_t piece : {std::size_t{100}, std::size_t{20'000}}) {
                auto [stream, other] = connect_pair();
                arm(stream);
                CHECK(other.send(pattern(0, 30'000)));
                CHECK(this_fiber::sleep_for(10ms));
                if (reset)
                    other.reset();
                else
                    other.finish_sending();
                CHECK(this_fiber::sleep_for(10ms));
                CHECK(read_pattern(stream, 0, 30'000, piece));
                std::string buffer(piece, '\0');
                for (int n = 0; n < 3; ++n) {
                    const auto end =
                        n == 1 ? stream.read_some(bytes_of(buffer)) : receive_some(stream, bytes_of(buffer));
                    if (reset)
                        CHECK(error_of(end) == std::errc::connection_reset);
                    else
                        CHECK((end && end->empty()));
                }
            }
        }
    });
}

TEST_CASE("stream: a close with unread bytes and an armed receive is seen by the peer at once") {
    const auto before = open_descriptors();
    {
        auto running = make_runtime(1, 100);
        std::vector<peer> others;
        run_in_fiber(*running, [&] {
            for (const bool unread : {false, true}) {
                auto [stream, other] = connect_pair();
                arm(stream);
                if (unread) {
                    CHECK(other.send("nobody reads this"));
                    CHECK(this_fiber::sleep_for(5ms));
                }
                stream.close();
                others.push_back(std::move(other));
            }
        });
        for (const peer& other : others) {
            CHECK(other.readable_within(5000ms));
            int how = -1;
            CHECK(other.receive_all(&how).empty());
            CHECK(how == 0);  // the bytes had been received, so there is no reset
        }
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("stream: a thousand connections that end in whatever state leave nothing behind") {
    watchdog dog("a connection does not end");
    constexpr int connections = scaled(1000, 400);
    seeded_random random;
    CAPTURE(random.seed());
    raise_descriptor_limit();
    const auto before = open_descriptors();
    {
        auto running = make_runtime(2, 3000);
        run_in_fiber(*running, [&] {
            tcp_listener listener = listen_at();
            std::vector<fiber<void>> fibers;
            std::vector<peer> others;
            const std::string much(2'000'000, 'x');
            for (int n = 0; n < connections; ++n) {
                others.push_back(peer::connect(*listener.local_address(), 4096));
                auto accepted = listener.accept();
                REQUIRE(accepted);
                const unsigned how = random.below(7), size = 1 + random.below(40'000);
                auto spawned = spawn(
                    [stream = std::move(*accepted), how, size, &much]() mutable {
                        std::string buffer(size, '\0');
                        static_cast<void>(receive_some(stream, bytes_of(buffer), in_ms(1)));
                        switch (how) {
                            case 0:
                                return;
                            case 1:
                                static_cast<void>(stream.write_all(much, in_ms(5)));
                                return;
                            case 2:
                                static_cast<void>(receive_some(stream, bytes_of(buffer)));
                                return;
                            case 3:
                                static_cast<void>(stream.read_some(bytes_of(buffer)));
                                return;
                            case 4:
                                static_cast<void>(stream.exchange_into(as_bytes(much), no_deadline,
                                                                       [&] { return bytes_of(buffer); }));
                                return;
                            case 5:
                                static_cast<void>(this_fiber::sleep_for(20ms));
                                return;
                            case 6:
                                static_cast<void>(stream.finish(in_ms(20)));
                                return;
                        }
                    },
                    {.where = placement::spread});
                REQUIRE(spawned);
                fibers.push_back(std::move(*spawned));
                if (random.below(8) == 0) this_fiber::yield();
                // Something happens to one of those that are there.
                peer& other = others[random.below(static_cast<unsigned>(others.size()))];
                switch (other.descriptor() < 0 ? 5 : random.below(6)) {
                    case 0:
                        other.close();
                        break;
                    case 1:
                        other.reset();
                        break;
                    case 2:
                        other.finish_sending();
                        break;
                    case 3:
                        static_cast<void>(other.send_now(much.substr(0, random.below(100'000))));
                        break;
                    default:
                        break;
                }
            }
            CHECK(this_fiber::sleep_for(20ms));
            for (auto& each : fibers) each.cancel();
            for (auto& each : fibers) each.join();
        });
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("stream: a runtime that ends while receives are armed and being closed leaves nothing behind") {
    const auto before = open_descriptors();
    for (int round = 0; round < 20; ++round) {
        std::vector<peer> others;
        auto running = make_runtime(1, 1000);
        for (int n = 0; n < 10; ++n) {
            others.push_back(run_in_fiber(*running, [&] {
                auto pair = connect_pair();
                CHECK(spawn_detached([stream = std::move(pair.stream)]() mutable {
                    std::string buffer(10, '\0');
                    static_cast<void>(receive_some(stream, bytes_of(buffer)));
                }));
                if (n % 2 == 0) CHECK(pair.other.send("0123456789abcdef"));
                return std::move(pair.other);
            }));
        }
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE(
    "stream: more connections than there are buffers receive in the same turn, and each gets its bytes") {
    watchdog dog("a connection gets nothing although its bytes have come");
    raise_descriptor_limit();
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    for (const std::size_t connections : {std::size_t{600}, std::size_t{4500}}) {
        if (sanitizer::active && connections > 1000) continue;
        if (limit.rlim_cur < 2 * connections + 100) {
            MESSAGE("skipped: " << connections
                                << " connections need more descriptors than this process may have");
            continue;
        }
        auto running = make_runtime(1, 6000);
        std::vector<peer> others;
        std::vector<fiber<bool>> fibers;
        std::atomic<std::size_t> in_second_round{0};
        run_in_fiber(*running, [&] {
            tcp_listener listener = listen_at();
            for (std::size_t n = 0; n < connections; ++n) {
                others.push_back(peer::connect(*listener.local_address()));
                auto accepted = listener.accept();
                REQUIRE(accepted);
                auto spawned = spawn([stream = std::move(*accepted), n, &in_second_round]() mutable {
                    const bool first = read_pattern(stream, n, n + 5, 3);
                    ++in_second_round;
                    // This time many pieces come for each before it runs.
                    return first && read_pattern(stream, n + 5, n + 7000, 7000);
                });
                REQUIRE(spawned);
                fibers.push_back(std::move(*spawned));
            }
            CHECK(this_fiber::sleep_for(20ms));  // all are armed
            // The worker is kept busy until everything has been sent.
            for (std::size_t n = 0; n < connections; ++n) CHECK(others[n].send(pattern(n, 5)));
            sleep_until_true([&] { return in_second_round == connections; });
            CHECK(this_fiber::sleep_for(20ms));
            for (std::size_t n = 0; n < connections; ++n) CHECK(others[n].send(pattern(n + 5, 6995)));
            std::size_t right = 0;
            for (auto& each : fibers) right += each.join();
            CHECK(right == connections);
        });
    }
}

TEST_CASE("stream: several large answers in a row to a peer that reads late arrive whole") {
    constexpr std::size_t rounds = 10, bytes = 700'000;
    converse(
        [](tcp_stream& stream) {
            std::string buffer(16, '\0');
            for (std::size_t n = 0; n < rounds; ++n) {
                const std::string answer = pattern(n * bytes, bytes);
                const auto read = answer_and_receive(stream, answer, bytes_of(buffer).first(1));
                REQUIRE(read);
                REQUIRE(read->size() == 1);
            }
        },
        [](client_socket& socket) {
            asio_send(socket, std::string(rounds, 'g'));  // all requests at once
            std::this_thread::sleep_for(30ms);
            CHECK(asio_receive_all(socket) == pattern(0, rounds * bytes));
        });
}
