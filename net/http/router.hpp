// Which handler answers a request: by method and path, in the order in which the routes were written.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <weft/net/http/message.hpp>

namespace weft::http {

/// Answers a request. One object serves all connections: it is called by many fibers on many workers at once.
/// An error that it returns, or an exception that it lets out, is answered as server.hpp says.
using handler = std::function<result<void>(request&, response&)>;

/// Filled in before it serves, and not changed afterwards. It is a handler itself.
class router {
  public:
    /// A pattern is a path whose segments are literal, or `{name}` for exactly one segment that is not empty.
    /// GET also answers HEAD. A malformed pattern is a programming error.
    void add(method verb, std::string pattern, handler answer);

    void get(std::string pattern, handler answer) { add(method::get, std::move(pattern), std::move(answer)); }
    void post(std::string pattern, handler answer) {
        add(method::post, std::move(pattern), std::move(answer));
    }
    void put(std::string pattern, handler answer) { add(method::put, std::move(pattern), std::move(answer)); }
    void patch(std::string pattern, handler answer) {
        add(method::patch, std::move(pattern), std::move(answer));
    }
    void del(std::string pattern, handler answer) {
        add(method::delete_, std::move(pattern), std::move(answer));
    }

    /// The first route that fits, or 404; 405 with Allow when the path has routes for other methods only; 501
    /// for a method that no route anywhere could have. OPTIONS is answered with Allow where there is no route
    /// for it.
    result<void> operator()(request& request, response& response) const;

  private:
    struct route {
        method verb;
        std::string pattern;
        bool has_params;
        handler answer;
    };

    static bool fits(const route& candidate, request& request);
    std::string allowed(request& request) const;

    std::vector<route> routes_;
};

}  // namespace weft::http
