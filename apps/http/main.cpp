// weft-http: an HTTP server. Without a document root it has a few built-in routes.
#include <CLI/CLI.hpp>
#include <string>

#include <weft/http.hpp>

#include "apps/daemon.hpp"

namespace {

constexpr std::string_view front_page = R"(<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>weft</title></head>
<body>
<h1>weft</h1>
<p>This is weft-http, an HTTP server that gives every connection a fiber of its own, on io_uring.</p>
<ul>
<li><a href="/hello">GET /hello</a> says hello, and is what to point a load generator at</li>
<li>POST /echo sends the body back</li>
<li><a href="/healthz">GET /healthz</a> says that the server is well</li>
</ul>
</body>
</html>
)";

weft::http::router built_in_routes() {
    weft::http::router routes;
    routes.get("/hello", [](auto&, auto& response) { return response.send("Hello, World!"); });
    routes.get("/",
               [](auto&, auto& response) { return response.send(front_page, "text/html; charset=utf-8"); });
    routes.get("/healthz", [](auto&, auto& response) { return response.send("ok"); });
    routes.post("/echo", [](auto& request, auto& response) -> weft::result<void> {
        const std::string_view body = WEFT_TRY(request.body());
        return response.send(body, request.header("content-type").value_or("application/octet-stream"));
    });
    return routes;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("An HTTP server on fibers and io_uring.", "weft-http");
    weft::apps::daemon_flags flags{.listen = {"127.0.0.1:8080"}};
    if (const auto status = weft::apps::parse_flags(app, argc, argv, flags)) return *status;
    const weft::http::router routes = built_in_routes();
    std::uint64_t requests = 0;
    return weft::apps::run_daemon(
        flags,
        [&] {
            return weft::http::serve({.listen = flags.listen,
                                      .drain_deadline = flags.drain_deadline(),
                                      .on_listening = weft::apps::print_listening,
                                      .requests_served = &requests},
                                     routes);
        },
        [&] { return " requests=" + std::to_string(requests); });
}
