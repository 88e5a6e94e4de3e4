#include <weft/net/http/router.hpp>

#include <algorithm>

#include <weft/runtime/assert.hpp>

namespace weft::http {
namespace {

std::string_view name_of(method verb) {
    switch (verb) {
        case method::get:
            return "GET";
        case method::head:
            return "HEAD";
        case method::post:
            return "POST";
        case method::put:
            return "PUT";
        case method::delete_:
            return "DELETE";
        case method::connect:
            return "CONNECT";
        case method::options:
            return "OPTIONS";
        case method::trace:
            return "TRACE";
        case method::patch:
            return "PATCH";
        case method::other:
            break;
    }
    return "";
}

// Takes the first segment, without the slash before it, off a path that begins with a slash.
std::string_view next_segment(std::string_view& path) {
    path.remove_prefix(1);
    const std::string_view segment = path.substr(0, path.find('/'));
    path.remove_prefix(segment.size());
    return segment;
}

bool is_param(std::string_view segment) {
    return segment.size() > 2 && segment.front() == '{' && segment.back() == '}';
}

}  // namespace

void router::add(method verb, std::string pattern, handler answer) {
    WEFT_ASSERT(pattern.starts_with('/'), "a route's pattern begins with a slash");
    WEFT_ASSERT(verb != method::other && verb != method::connect, "a route needs a method that servers know");
    std::size_t params = 0;
    for (std::string_view rest = pattern; !rest.empty();) {
        const std::string_view segment = next_segment(rest);
        if (is_param(segment))
            ++params;
        else
            WEFT_ASSERT(segment.find_first_of("{}") == segment.npos,
                        "a brace in a route's pattern encloses a whole segment");
    }
    WEFT_ASSERT(params <= request::params_max, "a route has too many parameters");
    routes_.push_back({verb, std::move(pattern), params != 0, std::move(answer)});
}

bool router::fits(const route& candidate, request& request) {
    if (!candidate.has_params) return candidate.pattern == request.path();
    request.clear_params();
    std::string_view pattern = candidate.pattern, path = request.path();
    while (!pattern.empty() && path.starts_with('/')) {
        const std::string_view expected = next_segment(pattern), found = next_segment(path);
        if (is_param(expected) && !found.empty())
            request.add_param(expected.substr(1, expected.size() - 2), found);
        else if (expected != found)
            return false;
    }
    return pattern.empty() && path.empty();
}

result<void> router::operator()(request& request, response& response) const {
    for (const route& each : routes_) {
        const bool verb_fits =
            each.verb == request.verb() || (each.verb == method::get && request.verb() == method::head);
        if (verb_fits && fits(each, request)) return each.answer(request, response);
    }
    if (request.verb() == method::other || request.verb() == method::connect)
        return failure(status_error(501));
    const std::string allow = allowed(request);
    if (allow.empty()) return failure(status_error(404));
    response.header("Allow", allow);
    if (request.verb() == method::options) return response.status(204).send();
    return response.status(405).send("Method Not Allowed\n");
}

// The methods that the path has routes for (RFC 9110, section 10.2.1); for "*", those of the whole server.
std::string router::allowed(request& request) const {
    std::vector<std::string_view> verbs;
    for (const route& each : routes_) {
        if (request.path() != "*" && !fits(each, request)) continue;
        verbs.push_back(name_of(each.verb));
        if (each.verb == method::get) verbs.push_back("HEAD");
    }
    if (verbs.empty()) return {};
    verbs.push_back("OPTIONS");
    std::sort(verbs.begin(), verbs.end());
    verbs.erase(std::unique(verbs.begin(), verbs.end()), verbs.end());
    std::string list;
    for (const std::string_view verb : verbs) list.append(list.empty() ? "" : ", ").append(verb);
    return list;
}

}  // namespace weft::http
