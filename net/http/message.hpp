// A request and its response, as a handler sees them: whatever protocol carries them.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <weft/net/http/parser.hpp>
#include <weft/net/http/status.hpp>
#include <weft/runtime/result.hpp>

namespace weft::http {

/// What a response says before its body.
struct response_head {
    int status = 200;
    std::string_view content_type = {};  ///< Empty: none is sent.
    std::string_view fields = {};        ///< Further header lines, each `Name: value` and CRLF.
};

/// The connection's side of one request: implemented once for each protocol.
class transaction {
  public:
    /// The whole body, which stays valid until the request has been answered and left. May park.
    virtual result<std::string_view> read_body() = 0;
    /// The whole answer. May park.
    virtual result<void> respond(const response_head& head, std::string_view body) = 0;

  protected:
    ~transaction() = default;
};

/// Lives on the stack of the connection's fiber for as long as its handler runs; so do the views that it
/// gives out.
class request {
  public:
    request(const request_head& head, transaction& owner) noexcept : head_(head), owner_(owner) {}
    request(const request&) = delete;
    request& operator=(const request&) = delete;

    method verb() const noexcept { return head_.verb; }
    std::string_view method_name() const noexcept { return head_.method_name; }
    std::string_view target() const noexcept { return head_.target; }
    /// Not percent-decoded; "*" for OPTIONS *.
    std::string_view path() const noexcept { return head_.path; }
    std::string_view query() const noexcept { return head_.query; }
    std::string_view host() const noexcept { return head_.host; }
    std::span<const http::header> headers() const noexcept { return head_.headers; }
    /// The first header of that name, which is given in lower case.
    std::optional<std::string_view> header(std::string_view lowercase_name) const noexcept {
        const http::header* found = head_.find(lowercase_name);
        return found != nullptr ? std::optional(found->value) : std::nullopt;
    }

    /// The whole body; empty when there is none. Parks until it has come; the second call returns the same.
    /// Errors: status_error(413) when it is larger than the server takes, status_error(400) for a malformed
    /// one, status_error(408) when it comes too slowly, others when the connection breaks. A handler returns
    /// them as they are.
    [[nodiscard]] result<std::string_view> body() { return owner_.read_body(); }

    /// What stood in the path for `{name}` in the route; empty when the route has no such part. Not
    /// percent-decoded.
    std::string_view param(std::string_view name) const noexcept;

    static constexpr std::size_t params_max = 8;
    void add_param(std::string_view name, std::string_view value) noexcept;
    void clear_params() noexcept { params_count_ = 0; }

  private:
    const request_head& head_;
    transaction& owner_;
    struct named_value {
        std::string_view name, value;
    };
    std::array<named_value, params_max> params_;
    std::size_t params_count_ = 0;
};

/// One answer, sent once. A handler that returns without having sent anything has sent an empty one.
class response {
  public:
    explicit response(transaction& owner) noexcept : owner_(owner) {}
    response(const response&) = delete;
    response& operator=(const response&) = delete;

    /// 200 to 599; with any other send() answers 500 instead.
    response& status(int code) noexcept {
        status_ = code;
        return *this;
    }
    /// Adds a header line. Date, Server, Connection, Content-Length and Transfer-Encoding are the server's
    /// own affair. A name or value with bytes that no header may hold (a line break, say) makes send() answer
    /// 500 instead.
    response& header(std::string_view name, std::string_view value);

    /// Sends the answer. May park. An answer to HEAD, and a 204 or 304, goes without the body.
    result<void> send(std::string_view body = {}, std::string_view content_type = "text/plain");
    bool sent() const noexcept { return sent_; }

  private:
    transaction& owner_;
    int status_ = 200;
    bool sent_ = false;
    bool malformed_ = false;
    std::string fields_;
};

}  // namespace weft::http
