// One connection between a fiber and a blocking Asio client in a thread of its own.
#pragma once

#include "peer.hpp"
#include "support.hpp"

#ifndef ASIO_STANDALONE
#define ASIO_STANDALONE
#endif
#include <asio.hpp>
#include <atomic>
#include <cstring>
#include <memory>
#include <thread>

#include <weft/net/tcp.hpp>

namespace weft::testing {

using client_socket = asio::ip::tcp::socket;

inline void asio_send(client_socket& socket, std::string_view bytes) {
    asio::write(socket, asio::buffer(bytes));
}
inline std::string asio_receive(client_socket& socket, std::size_t bytes) {
    std::string all(bytes, '\0');
    asio::read(socket, asio::buffer(all));
    return all;
}
/// Until the end of the stream; throws what else ends it.
inline std::string asio_receive_all(client_socket& socket) {
    std::string all;
    asio::error_code error;
    asio::read(socket, asio::dynamic_buffer(all), error);
    if (error != asio::error::eof) throw asio::system_error(error);
    return all;
}

/// What a thread of the test does. An exception fails the test, and not the process.
template <class Function>
std::jthread in_thread(Function function) {
    return std::jthread([function = std::move(function)]() mutable {
        try {
            function();
        } catch (const std::exception& error) {
            FAIL_CHECK("a thread of the test: " << error.what());
        } catch (...) {  // a REQUIRE, which has reported itself
        }
    });
}

inline tcp_listener listen_at(std::string_view where = "127.0.0.1:0", const listen_options& options = {}) {
    auto opened = tcp_listener::open(*address::parse(where), options);
    if (!opened) FAIL("cannot listen: " << opened.error().message());
    return std::move(*opened);
}

inline client_socket asio_connect(asio::io_context& context, const address& to) {
    client_socket socket(context);
    asio::ip::tcp::endpoint endpoint;
    std::memcpy(endpoint.data(), to.data(), to.size());
    endpoint.resize(to.size());
    socket.connect(endpoint);
    socket.set_option(asio::ip::tcp::no_delay(true));
    return socket;
}

/// In a fiber: until `condition()` holds, which a thread brings about.
template <class Condition>
void sleep_until_true(Condition condition) {
    while (!condition()) static_cast<void>(this_fiber::sleep_for(std::chrono::milliseconds(1)));
}

/// Runs server(tcp_stream&) in a fiber and client(client_socket&) in a thread, and returns when both have
/// ended.
template <class Server, class Client>
void converse(Server server, Client client, std::string_view where = "127.0.0.1:0") {
    watchdog dog("one end of a connection waits for ever");
    auto running = make_runtime(1, 1000);
    std::jthread thread;
    run_in_fiber(*running, [&] {
        tcp_listener listener = listen_at(where);
        thread = in_thread([&client, to = *listener.local_address()] {
            asio::io_context context;
            client_socket socket = asio_connect(context, to);
            client(socket);
        });
        auto accepted = listener.accept();
        REQUIRE(accepted);
        server(*accepted);
    });
}

/// A fiber's end and a plain socket of the same connection, in the fiber that calls.
struct connected {
    tcp_stream stream;
    peer other;
};
inline connected connect_pair(int peer_receive_buffer_bytes = 0) {
    tcp_listener listener = listen_at();
    connected made;
    made.other = peer::connect(*listener.local_address(), peer_receive_buffer_bytes);
    auto accepted = listener.accept();
    REQUIRE(accepted);
    made.stream = std::move(*accepted);
    return made;
}

/// exchange_into without anything to write.
inline result<std::span<std::byte>> receive_some(tcp_stream& stream, std::span<std::byte> buffer,
                                                 time_point deadline = no_deadline) {
    return stream.exchange_into({}, no_deadline, [&] { return buffer; }, deadline).read;
}

/// None when there is a value.
template <class T>
std::error_code error_of(const result<T>& from) {
    return from ? std::error_code{} : from.error();
}

inline time_point in_ms(int milliseconds) {
    return std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
}

}  // namespace weft::testing
