// Which route answers, from requests that are written down, not sent.
#include "support.hpp"
#include "transaction.hpp"

#include <weft/net/http/router.hpp>

using namespace weft::http;
using weft::result;
using weft::testing::fake_transaction;
using weft::testing::signal_of_death;

namespace {

handler answering(std::string text) {
    return [text](request&, response& response) { return response.send(text); };
}

handler telling(std::string name) {
    return [name](request& request, response& response) { return response.send(request.param(name)); };
}

// "200 body", "405 Allow: ..." or "404" for an error that was returned.
std::string outcome(const router& routes, std::string_view name, std::string_view path) {
    request_head head;
    head.method_name = name;
    head.verb = name == "GET"       ? method::get
                : name == "HEAD"    ? method::head
                : name == "POST"    ? method::post
                : name == "PUT"     ? method::put
                : name == "DELETE"  ? method::delete_
                : name == "PATCH"   ? method::patch
                : name == "TRACE"   ? method::trace
                : name == "OPTIONS" ? method::options
                : name == "CONNECT" ? method::connect
                                    : method::other;
    head.path = path;
    fake_transaction owner;
    request asked(head, owner);
    response given(owner);
    const result<void> returned = routes(asked, given);
    if (!returned) return std::to_string(status_of(returned.error()));
    CHECK(given.sent());
    const std::string status = std::to_string(owner.status);
    if (owner.fields.starts_with("Allow: "))
        return status + " " + owner.fields.substr(0, owner.fields.find("\r\n"));
    return status + " " + owner.body;
}

}  // namespace

TEST_CASE("http router: the first route that fits answers") {
    router routes;
    routes.get("/a", answering("first"));
    routes.get("/a", answering("second"));
    routes.get("/{x}", telling("x"));
    routes.get("/b", answering("behind the parameter"));
    CHECK(outcome(routes, "GET", "/a") == "200 first");
    CHECK(outcome(routes, "GET", "/b") == "200 b");
    CHECK(outcome(routes, "GET", "/c") == "200 c");
}

TEST_CASE("http router: each method has its own routes") {
    router routes;
    routes.get("/x", answering("get"));
    routes.post("/x", answering("post"));
    routes.put("/x", answering("put"));
    routes.patch("/x", answering("patch"));
    routes.del("/x", answering("delete"));
    routes.add(method::trace, "/x", answering("trace"));
    CHECK(outcome(routes, "GET", "/x") == "200 get");
    CHECK(outcome(routes, "POST", "/x") == "200 post");
    CHECK(outcome(routes, "PUT", "/x") == "200 put");
    CHECK(outcome(routes, "PATCH", "/x") == "200 patch");
    CHECK(outcome(routes, "DELETE", "/x") == "200 delete");
    CHECK(outcome(routes, "TRACE", "/x") == "200 trace");
}

TEST_CASE("http router: GET answers HEAD, unless a route of its own stands before it") {
    router routes;
    routes.get("/a", answering("get"));
    routes.add(method::head, "/b", answering("head"));
    routes.get("/b", answering("get"));
    routes.post("/c", answering("post"));
    CHECK(outcome(routes, "HEAD", "/a") == "200 get");
    CHECK(outcome(routes, "HEAD", "/b") == "200 head");
    CHECK(outcome(routes, "HEAD", "/c") == "405 Allow: OPTIONS, POST");
}

TEST_CASE("http router: a parameter is exactly one segment that is not empty") {
    router routes;
    routes.get("/users/{id}", telling("id"));
    routes.get("/users/{id}/posts/{post}", telling("post"));
    routes.get("/{a}/{b}/c/{d}", [](request& request, response& response) {
        return response.send(std::string(request.param("d")) + "," + std::string(request.param("a")) + "," +
                             std::string(request.param("b")) + "," + std::string(request.param("none")));
    });
    CHECK(outcome(routes, "GET", "/users/7") == "200 7");
    CHECK(outcome(routes, "GET", "/users/%2F") == "200 %2F");  // it is not decoded
    CHECK(outcome(routes, "GET", "/users/{id}") == "200 {id}");
    CHECK(outcome(routes, "GET", "/users/7/posts/8") == "200 8");
    CHECK(outcome(routes, "GET", "/1/2/c/3") == "200 3,1,2,");
    CHECK(outcome(routes, "GET", "/users/") == "404");
    CHECK(outcome(routes, "GET", "/users") == "404");
    CHECK(outcome(routes, "GET", "/users/7/") == "404");
    CHECK(outcome(routes, "GET", "/users//posts/8") == "404");
    CHECK(outcome(routes, "GET", "/users/7/posts/") == "404");
    CHECK(outcome(routes, "GET", "/users/7/posts/8/9") == "404");
    CHECK(outcome(routes, "GET", "/1/2/x/3") == "404");
}

TEST_CASE("http router: a route that fits only half leaves no parameter to the one that fits") {
    router routes;
    routes.get("/{wrong}/a", telling("wrong"));
    routes.get("/{right}/b", [](request& request, response& response) {
        return response.send(std::string(request.param("wrong")) + "|" + std::string(request.param("right")));
    });
    CHECK(outcome(routes, "GET", "/x/b") == "200 |x");
}

TEST_CASE("http router: a slash more or less is another path") {
    router routes;
    routes.get("/", answering("root"));
    routes.get("/a", answering("a"));
    routes.get("/b/", answering("b"));
    routes.get("/c/{x}/", telling("x"));
    CHECK(outcome(routes, "GET", "/") == "200 root");
    CHECK(outcome(routes, "GET", "//") == "404");
    CHECK(outcome(routes, "GET", "/a/") == "404");
    CHECK(outcome(routes, "GET", "//a") == "404");
    CHECK(outcome(routes, "GET", "/b/") == "200 b");
    CHECK(outcome(routes, "GET", "/b") == "404");
    CHECK(outcome(routes, "GET", "/c/1/") == "200 1");
    CHECK(outcome(routes, "GET", "/c/1") == "404");
    CHECK(outcome(routes, "GET", "/c//") == "404");
    CHECK(outcome(routes, "GET", "/A") == "404");  // and so is another case
}

TEST_CASE("http router: a path with routes for other methods is 405 with Allow, one without any is 404") {
    router routes;
    routes.get("/a", answering("a"));
    routes.del("/a", answering("a"));
    routes.post("/users/{id}", answering("b"));
    CHECK(outcome(routes, "POST", "/a") == "405 Allow: DELETE, GET, HEAD, OPTIONS");
    CHECK(outcome(routes, "GET", "/users/1") == "405 Allow: OPTIONS, POST");
    CHECK(outcome(routes, "GET", "/users/") == "404");
    CHECK(outcome(routes, "POST", "/none") == "404");
    CHECK(outcome(router(), "GET", "/") == "404");
}

TEST_CASE("http router: a method that no route could have is 501, also where there is no path") {
    router routes;
    routes.get("/a", answering("a"));
    CHECK(outcome(routes, "BREW", "/a") == "501");
    CHECK(outcome(routes, "get", "/a") == "501");
    CHECK(outcome(routes, "BREW", "/none") == "501");
    CHECK(outcome(routes, "CONNECT", "") == "501");
    CHECK(outcome(routes, "TRACE", "/a") == "405 Allow: GET, HEAD, OPTIONS");  // one could have it
}

TEST_CASE("http router: OPTIONS tells what a path, or the whole server, allows") {
    router routes;
    routes.get("/a", answering("a"));
    routes.post("/b/{x}", answering("b"));
    routes.add(method::options, "/own", answering("own"));
    CHECK(outcome(routes, "OPTIONS", "/a") == "204 Allow: GET, HEAD, OPTIONS");
    CHECK(outcome(routes, "OPTIONS", "/b/1") == "204 Allow: OPTIONS, POST");
    CHECK(outcome(routes, "OPTIONS", "/own") == "200 own");
    CHECK(outcome(routes, "OPTIONS", "/none") == "404");
    CHECK(outcome(routes, "OPTIONS", "*") == "204 Allow: GET, HEAD, OPTIONS, POST");
}

TEST_CASE("http router: a parameter does not take the asterisk for a path") {
    router routes;
    routes.add(method::options, "/{x}", telling("x"));
    CHECK(outcome(routes, "OPTIONS", "/*") == "200 *");
    CHECK(outcome(routes, "OPTIONS", "*") == "204 Allow: OPTIONS");
}

TEST_CASE("http router: an error that a handler returns passes through") {
    router routes;
    routes.get("/", [](request&, response&) -> result<void> { return weft::failure(status_error(418)); });
    CHECK(outcome(routes, "GET", "/") == "418");
}

TEST_CASE("http router: a malformed pattern stops the process") {
    for (const char* pattern :
         {"", "a", "*", "/{", "/}", "/{}", "/a{b}", "/{a}b", "/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}"}) {
        CAPTURE(pattern);
        CHECK(signal_of_death([&] { router().get(pattern, answering("")); }) == SIGABRT);
    }
    CHECK(signal_of_death([] { router().add(method::other, "/", answering("")); }) == SIGABRT);
    CHECK(signal_of_death([] { router().add(method::connect, "/", answering("")); }) == SIGABRT);
    router().get("/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}", answering(""));
}
