#include <weft/http.hpp>

int main(int, char** arguments) {
    weft::http::router routes;
    routes.get("/hello", [](auto&, auto& response) { return response.send("Hello, World!"); });
    return weft::http::run({.listen = arguments[1]}, routes);
}
