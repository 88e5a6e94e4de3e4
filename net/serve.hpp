// A server: listening sockets on every worker, a fiber for each connection, and an orderly end.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include <weft/net/address.hpp>
#include <weft/net/tcp.hpp>
#include <weft/runtime/clock.hpp>
#include <weft/runtime/fiber.hpp>
#include <weft/runtime/result.hpp>

namespace weft {

/// One address to listen on, or several: "127.0.0.1:8080", or {"127.0.0.1:8080", "[::1]:8080"}
/// (address::parse).
struct listen_addresses : std::vector<std::string> {
    listen_addresses() = default;
    listen_addresses(const char* one) : vector{one} {}
    listen_addresses(std::string one) : vector{std::move(one)} {}
    listen_addresses(std::vector<std::string> several) : vector(std::move(several)) {}
    listen_addresses(std::initializer_list<std::string> several) : vector(several) {}
};

struct serve_options {
    listen_addresses listen = {};
    std::string name = "connection";  ///< Of the connections' fibers.
    /// Where a connection's fiber may be moved to when its worker has too much to do (spawn_options). It is
    /// placed by load in any case. A handler that runs in a mobile fiber must not rely on thread-locals
    /// across calls that park.
    fiber_affinity affinity = fiber_affinity::worker;
    int backlog = 4096;  ///< Connections that the kernel keeps until they are accepted.
    /// When the runtime is asked to stop, connections may go on as they like for this long; then those that
    /// wait for input are told that it has ended, and when `drain_deadline` has passed the rest is cancelled.
    duration drain_grace = std::chrono::milliseconds(250);
    duration drain_deadline = std::chrono::seconds(10);
    /// Called once for each address when all are listening, with the port that was given for port 0.
    std::function<void(const address&)> on_listening = {};
};

namespace detail {
struct connection_handler {
    result<void> (*call)(void* handler, tcp_stream&& connection);
    void* handler;
};
result<void> serve(const serve_options& options, connection_handler handler);
}  // namespace detail

/// Accepts connections on every worker, each worker with a socket of its own (SO_REUSEPORT), and runs
/// handler(stream) in a new fiber for each, where few live. The handler takes a tcp_stream, or a
/// reference to one, and returns nothing or result<void>; there is one handler for all connections, called by
/// many fibers on many workers at once. An error that it returns, or an exception that it lets out, ends that
/// connection alone and is logged.
///
/// Parks the calling fiber until the runtime is asked to stop and every connection has ended (see
/// serve_options for how), or until that fiber is cancelled. Errors: errc::reported when it cannot listen;
/// the log names the address and the cause.
template <class Handler>
[[nodiscard]] result<void> serve(const serve_options& options, Handler&& handler) {
    auto invoke = [&handler](tcp_stream&& connection) -> result<void> {
        const auto call = [&]() -> decltype(auto) {
            if constexpr (std::is_invocable_v<Handler&, tcp_stream&>)
                return handler(connection);
            else
                return handler(std::move(connection));
        };
        if constexpr (std::is_void_v<decltype(call())>) {
            call();
            return {};
        } else {
            return call();
        }
    };
    const auto erased = [](void* invoke_it, tcp_stream&& connection) -> result<void> {
        return (*static_cast<decltype(invoke)*>(invoke_it))(std::move(connection));
    };
    return detail::serve(options, {erased, &invoke});
}

}  // namespace weft
