// Reads the head of an HTTP/1.x request, strictly by RFC 9110 and RFC 9112. No I/O, no allocation, no copies.
#pragma once

#include <weft/net/http/refusal.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace weft::http {

struct header {
    std::string_view name;
    std::string_view value;  ///< Without the white space around it.
};

enum class method : std::uint8_t { get, head, post, put, delete_, connect, options, trace, patch, other };

enum class body_framing : std::uint8_t { none, content_length, chunked };

struct limits {
    /// The request line with its CRLF, and with the empty lines that were skipped before it.
    std::size_t request_line_bytes_max = 8192;
    /// The whole head, from the first byte through the empty line. A buffer of this size always holds it.
    std::size_t header_bytes_max = 32768;
    std::size_t headers_max = 100;
};

/// What a request's head says. The views lie in the caller's buffer and its header storage: they are valid
/// while neither is moved, changed or given to another request.
struct request_head {
    method verb = method::other;
    std::string_view method_name;
    std::string_view target;  ///< As it was sent.
    /// Not decoded, but each '%' has its two digits. "*" in asterisk form, empty for CONNECT.
    std::string_view path;
    std::string_view query;  ///< What follows the '?'; as for the path.
    std::string_view host;   ///< With its port. From the target where that names one, else from Host.
    int version_minor = 0;   ///< 0 or 1: a later 1.x is served as 1.1.
    std::span<const header> headers;  ///< In the order of arrival.
    body_framing framing = body_framing::none;
    std::uint64_t content_length = 0;  ///< At most 2^63-1; 0 unless framing is content_length.
    bool keep_alive = false;       ///< Whether the client is ready for another request on this connection.
    bool expect_continue = false;  ///< True exactly when the client holds a body back until it sees a 100.

    /// The first header of that name, or null.
    const header* find(std::string_view lowercase_name) const;
};

/// One request's head at a time. Holds no memory but the header storage that it is lent; cheap to make.
class request_parser {
  public:
    enum class status { complete, incomplete, refused };

    /// Keeps at most as many headers as the storage holds, whatever the limits say.
    explicit request_parser(std::span<header> storage, limits = {});

    /// `bytes` begins at the first byte of the request and holds all that has come so far. After
    /// `incomplete`, call again with more; the buffer may lie elsewhere by then. The scan goes on where it
    /// stopped, does not look at what follows the head, and comes to the same verdict however the bytes were
    /// split. Any other status stays until reset().
    status parse(std::span<const char> bytes);

    /// After `complete`.
    const request_head& head() const { return head_; }

    /// After `complete`: the size of the head, skipped empty lines included. The body starts there.
    std::size_t head_bytes() const { return position_; }

    /// After `refused`.
    const refusal& why() const { return *why_; }

    /// Makes ready for the next request, whose first byte is then the first of `bytes`.
    void reset();

  private:
    enum class state : std::uint8_t {
        empty_line,
        empty_line_lf,
        method,
        target,
        version,
        request_line_lf,
        field,  // from here on the request line is known
        field_name,
        value_start,
        value,
        field_lf,
        head_lf,
        complete,
        refused,
    };

    status read_request_line(std::span<const char> bytes);
    status read_fields(std::span<const char> bytes);
    status finish();
    const refusal* take_field(const header& field);
    const refusal* take_expectation(std::string_view list);
    void take_connection(std::string_view list);
    const refusal* take_content_length(std::string_view digits);
    const refusal* take_transfer_encoding(std::string_view list);
    const refusal* take_target();
    status continue_at(state in, const char* token, const char* at);
    status refuse(const refusal& why);
    void follow(const char* base);

    std::span<header> storage_;
    limits limits_;
    const char* base_ = nullptr;   // where the last call's bytes began: all views are relative to it
    std::size_t position_ = 0;     // bytes read so far
    std::size_t token_start_ = 0;  // where the part that is being read began: method, target, name and so on
    std::size_t headers_count_ = 0;  // the header that is being read is among them once its name is known
    const refusal* why_ = nullptr;
    request_head head_;
    state state_ = state::empty_line;
    bool host_seen_ = false;
    bool length_seen_ = false;
    bool coding_seen_ = false;
    bool close_seen_ = false;
    bool keep_alive_seen_ = false;
    bool continue_seen_ = false;
};

}  // namespace weft::http
