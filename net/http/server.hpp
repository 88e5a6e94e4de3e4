// An HTTP/1.1 and 1.0 server: a fiber for each connection, a handler for its requests.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>

#include <weft/net/http/message.hpp>
#include <weft/net/http/parser.hpp>
#include <weft/net/http/router.hpp>
#include <weft/net/serve.hpp>
#include <weft/runtime/runtime.hpp>

namespace weft::http {

struct server_options {
    listen_addresses listen = {};
    std::string server_name = "weft";                    ///< The Server header; empty: none is sent.
    limits head = {};                                    ///< More is answered 414 or 431.
    std::size_t body_bytes_max = 1024 * 1024;            ///< More is answered 413.
    duration header_timeout = std::chrono::seconds(10);  ///< From a head's first byte to its last; then 408.
    duration body_timeout = std::chrono::seconds(10);    ///< For the next bytes of a body; then 408.
    duration idle_timeout =
        std::chrono::seconds(60);  ///< For the next request; then the connection is closed.
    duration write_timeout = std::chrono::seconds(30);  ///< For the peer to take an answer; then likewise.
    duration drain_grace = std::chrono::milliseconds(250);  ///< serve_options says what these two do.
    duration drain_deadline = std::chrono::seconds(10);
    std::function<void(const address&)> on_listening = {};
    std::uint64_t* requests_served = nullptr;  ///< Set when the server has ended.
};

namespace detail {
struct request_handler {
    result<void> (*call)(const void* handler, request&, response&);
    const void* handler;
};
result<void> serve(const server_options& options, request_handler answer);
}  // namespace detail

/// Parks until the runtime is asked to stop and every connection has ended, like weft::serve.
///
/// The handler is called as handler(request&, response&) const and returns nothing or result<void>; router is
/// one. When it returns status_error(n) before it has answered, the answer is n. Any other error, or an
/// exception, is logged and answered 500; when part of an answer is out already, the connection is closed.
///
/// Answers to pipelined requests leave together, in order, once the last complete one has been handled.
template <class Handler>
[[nodiscard]] result<void> serve(const server_options& options, const Handler& answer) {
    const auto invoke = [&answer](request& request, response& response) -> result<void> {
        if constexpr (std::is_void_v<std::invoke_result_t<const Handler&, http::request&, http::response&>>) {
            answer(request, response);
            return {};
        } else {
            return answer(request, response);
        }
    };
    const auto erased = [](const void* invoke_it, request& request, response& response) {
        return (*static_cast<decltype(invoke)*>(invoke_it))(request, response);
    };
    return detail::serve(options, {erased, &invoke});
}

/// A whole program: weft::run with http::serve in it. Returns the exit status.
template <class Handler>
int run(const server_options& options, const Handler& answer, const runtime_options& runtime = {}) {
    return weft::run(runtime, [&] { return serve(options, answer); });
}

}  // namespace weft::http
