#include <weft/net/http/parser.hpp>

#include <weft/net/http/syntax.hpp>

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <limits>
#include <optional>
#include <utility>

namespace weft::http {

namespace {

constexpr std::size_t empty_lines_max = 2;
constexpr std::ptrdiff_t method_bytes_max = 32;
constexpr std::uint64_t content_length_max = std::numeric_limits<std::int64_t>::max();

// Everything that is refused, and the section that says so (of RFC 9112 where no other is named).
constexpr refusal bare_cr{400, "CR without LF"};                                         // 2.2
constexpr refusal bare_lf{400, "line end without CR"};                                   // 2.2
constexpr refusal too_many_empty_lines{400, "too many empty lines before the request"};  // 2.2
constexpr refusal bad_method{400, "method is not a token"};                              // 3.1
constexpr refusal long_method{501, "method is longer than any known one"};               // 3
constexpr refusal bad_target_byte{400, "byte that no target may hold"};                  // 3.2
constexpr refusal empty_target{400, "target is missing"};                                // 3
constexpr refusal bad_target_form{400, "target has no form that goes with the method"};  // 3.2
constexpr refusal bad_percent{400, "'%' without two hexadecimal digits in the target"};  // RFC 3986 2.1
constexpr refusal bad_target_host{400, "invalid host or port in the target"};            // 3.2.2, 3.2.3
constexpr refusal bad_version{400, "malformed HTTP version"};                            // 2.3
constexpr refusal other_version{505, "HTTP version is not 1.x"};                         // RFC 9110 15.6.6
constexpr refusal long_request_line{414, "request line is too long"};                    // 3
constexpr refusal long_head{431, "head is too long"};                                    // RFC 6585 5
constexpr refusal too_many_headers{431, "too many headers"};                             // RFC 6585 5
constexpr refusal folded_line{400, "line starts with white space"};                      // 2.2, 5.2
constexpr refusal bad_name{400, "field name is not a token"};                            // 5
constexpr refusal blank_after_name{400, "white space before the colon"};                 // 5.1
constexpr refusal bad_value{400, "control byte in a field value"};                       // RFC 9110 5.5
constexpr refusal no_host{400, "Host is missing"};                                       // 3.2
constexpr refusal second_host{400, "more than one Host"};                                // 3.2
constexpr refusal bad_host{400, "invalid Host"};                                         // 3.2
constexpr refusal bad_length{400, "Content-Length is not one number below 2^63"};        // 6.3
constexpr refusal second_length{400, "more than one Content-Length"};                    // 6.3
constexpr refusal length_and_coding{400, "Content-Length beside Transfer-Encoding"};     // 6.1
constexpr refusal coding_in_1_0{400, "Transfer-Encoding in an HTTP/1.0 request"};        // 6.1
constexpr refusal bad_coding{400, "malformed Transfer-Encoding"};                        // 6.1, 7.1
constexpr refusal chunked_not_last{400, "chunked is not the last transfer coding, applied once"};  // 6.1
constexpr refusal unknown_coding{501, "transfer coding is not known"};                             // 6.1
constexpr refusal bad_expectation{417, "expectation is not 100-continue"};  // RFC 9110 10.1.1

method method_of(std::string_view name);
bool has_valid_percents(std::string_view text);
std::optional<std::string_view> port_of(std::string_view authority);
bool is_ipv6_literal(std::string_view text);

constexpr std::string_view between(const char* begin, const char* end) {
    return {begin, static_cast<std::size_t>(end - begin)};
}

}  // namespace

request_parser::request_parser(std::span<header> storage, limits limits)
    : storage_(storage.first(std::min(storage.size(), limits.headers_max))), limits_(limits) {}

void request_parser::reset() {
    *this = request_parser(storage_, limits_);
}

request_parser::status request_parser::parse(std::span<const char> bytes) {
    if (state_ == state::complete) return status::complete;
    if (state_ == state::refused) return status::refused;
    assert(bytes.size() >= position_);
    follow(bytes.data());
    // A limit cuts the input. What is still incomplete when it is reached can only go on beyond it.
    if (state_ < state::field) {
        const std::size_t line_bytes_max = std::min(limits_.request_line_bytes_max, limits_.header_bytes_max);
        const status line = read_request_line(bytes.first(std::min(bytes.size(), line_bytes_max)));
        if (line == status::incomplete && bytes.size() >= line_bytes_max) return refuse(long_request_line);
        if (line != status::complete) return line;
    }
    const std::size_t bytes_max = limits_.header_bytes_max;
    const status head = read_fields(bytes.first(std::min(bytes.size(), bytes_max)));
    return head == status::incomplete && bytes.size() >= bytes_max ? refuse(long_head) : head;
}

// empty_line ⇄ empty_line_lf, then method → target → version → request_line_lf. Each state reads a run of
// bytes up to the first that does not belong to it. Where the input ends first, the next call continues
// there.
request_parser::status request_parser::read_request_line(std::span<const char> bytes) {
    const char* const end = bytes.data() + bytes.size();
    const char* at = bytes.data() + position_;
    const char* token = bytes.data() + token_start_;

    for (;;) {
        switch (state_) {
            case state::empty_line:
                if (at == end) return continue_at(state::empty_line, at, at);
                if (*at != '\r') {
                    token = at;
                    state_ = state::method;
                    continue;
                }
                if (at - bytes.data() >= static_cast<std::ptrdiff_t>(2 * empty_lines_max))
                    return refuse(too_many_empty_lines);
                ++at;
                [[fallthrough]];
            case state::empty_line_lf:
                if (at == end) return continue_at(state::empty_line_lf, at, at);
                if (*at != '\n') return refuse(bare_cr);
                ++at;
                state_ = state::empty_line;
                continue;

            case state::method:
                at = skip(token_byte, at, token + std::min(end - token, method_bytes_max));
                if (at == end) return continue_at(state::method, token, at);
                if (is(token_byte, *at)) return refuse(long_method);
                if (*at != ' ' || at == token) return refuse(bad_method);
                head_.method_name = between(token, at);
                head_.verb = method_of(head_.method_name);
                token = ++at;
                [[fallthrough]];
            case state::target:
                at = skip(target_byte, at, end);
                if (at == end) return continue_at(state::target, token, at);
                if (*at != ' ') return refuse(bad_target_byte);
                if (at == token) return refuse(empty_target);
                head_.target = between(token, at);
                token = ++at;
                [[fallthrough]];
            case state::version: {
                constexpr std::string_view form = "HTTP/0.0\r";
                for (; at - token < static_cast<std::ptrdiff_t>(form.size()); ++at) {
                    if (at == end) return continue_at(state::version, token, at);
                    const char expected = form[static_cast<std::size_t>(at - token)];
                    if (expected == '0' ? !is_digit(*at) : *at != expected)
                        return refuse(*at == '\n' ? bare_lf : bad_version);
                }
                if (token[5] != '1') return refuse(other_version);
                head_.version_minor = token[7] == '0' ? 0 : 1;
                [[fallthrough]];
            }
            case state::request_line_lf:
                if (at == end) return continue_at(state::request_line_lf, at, at);
                if (*at != '\n') return refuse(bare_cr);
                continue_at(state::field, at + 1, at + 1);
                return status::complete;

            default:
                std::abort();
        }
    }
}

// field → field_name → value_start → value → field_lf → field, and from field by an empty line over head_lf
// to complete.
request_parser::status request_parser::read_fields(std::span<const char> bytes) {
    const char* const end = bytes.data() + bytes.size();
    const char* at = bytes.data() + position_;
    const char* token = bytes.data() + token_start_;

    for (;;) {
        switch (state_) {
            case state::field:
                if (at == end) return continue_at(state::field, at, at);
                if (*at == '\r') {
                    ++at;
                    state_ = state::head_lf;
                    continue;
                }
                if (is_blank(*at)) return refuse(folded_line);
                if (*at == '\n') return refuse(bare_lf);
                if (headers_count_ == storage_.size()) return refuse(too_many_headers);
                token = at;
                [[fallthrough]];
            case state::field_name:
                at = skip(token_byte, at, end);
                if (at == end) return continue_at(state::field_name, token, at);
                if (is_blank(*at)) return refuse(blank_after_name);
                if (*at != ':' || at == token) return refuse(bad_name);
                storage_[headers_count_++] = {between(token, at), {}};
                ++at;
                [[fallthrough]];
            case state::value_start:
                while (at != end && is_blank(*at)) ++at;
                if (at == end) return continue_at(state::value_start, at, at);
                token = at;
                [[fallthrough]];
            case state::value:
                at = skip_value(at, end);
                if (at == end) return continue_at(state::value, token, at);
                if (*at != '\r') return refuse(*at == '\n' ? bare_lf : bad_value);
                storage_[headers_count_ - 1].value = trim_right(between(token, at));
                ++at;
                [[fallthrough]];
            case state::field_lf:
                if (at == end) return continue_at(state::field_lf, at, at);
                if (*at != '\n') return refuse(bare_cr);
                ++at;
                if (const refusal* const why = take_field(storage_[headers_count_ - 1])) return refuse(*why);
                state_ = state::field;
                continue;

            case state::head_lf:
                if (at == end) return continue_at(state::head_lf, at, at);
                if (*at != '\n') return refuse(bare_cr);
                continue_at(state::complete, at + 1, at + 1);
                return finish();

            default:
                std::abort();
        }
    }
}

/// Keeps what a field says about the message itself.
const refusal* request_parser::take_field(const header& field) {
    const auto named = [&](std::string_view name) { return equals_ignoring_case(field.name, name); };
    switch (field.name.size()) {
        case 4:
            if (!named("host")) break;
            if (std::exchange(host_seen_, true)) return &second_host;
            if (!field.value.empty() && !port_of(field.value)) return &bad_host;
            head_.host = field.value;
            break;
        case 6:
            if (named("expect")) return take_expectation(field.value);
            break;
        case 10:
            if (named("connection")) take_connection(field.value);
            break;
        case 14:
            if (named("content-length")) return take_content_length(field.value);
            break;
        case 17:
            if (named("transfer-encoding")) return take_transfer_encoding(field.value);
            break;
        default:
            break;
    }
    return nullptr;
}

const refusal* request_parser::take_expectation(std::string_view list) {
    if (head_.version_minor == 0) return nullptr;  // RFC 9110 10.1.1: HTTP/1.0 has no expectations
    while (!list.empty()) {
        const std::string_view member = next_member(list);
        if (member.empty()) continue;
        if (!equals_ignoring_case(member, "100-continue")) return &bad_expectation;
        continue_seen_ = true;
    }
    return nullptr;
}

void request_parser::take_connection(std::string_view list) {
    while (!list.empty()) {
        const std::string_view member = next_member(list);
        close_seen_ = close_seen_ || equals_ignoring_case(member, "close");
        keep_alive_seen_ = keep_alive_seen_ || equals_ignoring_case(member, "keep-alive");
    }
}

/// RFC 9110 8.6 lets a recipient merge equal lengths. Honest clients send one, and a recipient on the way
/// that picks another than we do is how requests are smuggled; so a second one and a list are refused, equal
/// or not.
const refusal* request_parser::take_content_length(std::string_view digits) {
    if (std::exchange(length_seen_, true)) return &second_length;
    if (digits.empty()) return &bad_length;
    for (const char digit : digits) {
        if (!is_digit(digit)) return &bad_length;
        const auto units = static_cast<std::uint64_t>(digit - '0');
        if (head_.content_length > (content_length_max - units) / 10) return &bad_length;
        head_.content_length = head_.content_length * 10 + units;
    }
    return nullptr;
}

/// `chunked` alone is taken. What else is said decides only between two refusals: no connection survives it,
/// and for a coding that we do not know a 501 (6.1) tells the client more than a 400 (6.3) does.
const refusal* request_parser::take_transfer_encoding(std::string_view list) {
    if (head_.version_minor == 0) return &coding_in_1_0;
    if (std::exchange(coding_seen_, true)) return &chunked_not_last;
    if (equals_ignoring_case(list, "chunked")) return nullptr;
    if (list.empty() || list.back() == ',') return &bad_coding;
    while (!list.empty()) {
        const std::string_view member = next_member(list);
        const std::string_view coding = trim(member.substr(0, member.find(';')));
        if (coding.empty() || !consists_of(token_byte, coding)) return &bad_coding;
        const bool last_and_bare = list.empty() && coding.size() == member.size();
        if (equals_ignoring_case(coding, "chunked") && !last_and_bare) return &chunked_not_last;
    }
    return &unknown_coding;
}

/// What only the whole head can tell.
request_parser::status request_parser::finish() {
    if (!host_seen_ && head_.version_minor == 1) return refuse(no_host);
    if (length_seen_ && coding_seen_) return refuse(length_and_coding);
    if (const refusal* const why = take_target()) return refuse(*why);
    if (coding_seen_) head_.framing = body_framing::chunked;
    if (length_seen_) head_.framing = body_framing::content_length;
    head_.headers = storage_.first(headers_count_);
    head_.keep_alive = !close_seen_ && (head_.version_minor == 1 || keep_alive_seen_);
    head_.expect_continue = continue_seen_ && (coding_seen_ || head_.content_length > 0);
    return status::complete;
}

/// Splits the target by its form, RFC 9112 3.2. A host in it outranks the Host header (3.2.2, RFC 9110 7.2).
const refusal* request_parser::take_target() {
    std::string_view target = head_.target;
    if (head_.verb == method::connect) {
        // RFC 9110 9.3.6: the port is required.
        if (port_of(target).value_or("").empty()) return &bad_target_host;
        head_.host = target;
        return nullptr;
    }
    if (target == "*") {
        if (head_.verb != method::options) return &bad_target_form;
        head_.path = target;
        return nullptr;
    }
    if (target.front() != '/') {
        const std::size_t scheme_end = target.find("://");
        const std::string_view scheme = target.substr(0, scheme_end);
        if (!equals_ignoring_case(scheme, "http") && !equals_ignoring_case(scheme, "https"))
            return &bad_target_form;
        target.remove_prefix(scheme_end + 3);
        head_.host = target.substr(0, target.find_first_of("/?"));
        if (!port_of(head_.host)) return &bad_target_host;
        target.remove_prefix(head_.host.size());
    }
    if (!has_valid_percents(target)) return &bad_percent;
    const std::size_t mark = target.find('?');
    head_.path = target.substr(0, mark);
    if (head_.path.empty()) head_.path = "/";  // RFC 9110 4.2.3
    if (mark != std::string_view::npos) head_.query = target.substr(mark + 1);
    return nullptr;
}

request_parser::status request_parser::continue_at(state in, const char* token, const char* at) {
    state_ = in;
    token_start_ = static_cast<std::size_t>(token - base_);
    position_ = static_cast<std::size_t>(at - base_);
    return status::incomplete;
}

request_parser::status request_parser::refuse(const refusal& why) {
    state_ = state::refused;
    why_ = &why;
    return status::refused;
}

/// Moves the views to where the bytes are now. Those that finish() makes need no moving.
void request_parser::follow(const char* base) {
    const auto move = [&](std::string_view& view) {
        if (view.data() != nullptr) view = {base + (view.data() - base_), view.size()};
    };
    if (base == base_) return;
    move(head_.method_name);
    move(head_.target);
    move(head_.host);
    for (std::size_t i = 0; i < headers_count_; ++i) {
        move(storage_[i].name);
        move(storage_[i].value);
    }
    base_ = base;
}

const header* request_head::find(std::string_view lowercase_name) const {
    for (const header& field : headers) {
        if (equals_ignoring_case(field.name, lowercase_name)) return &field;
    }
    return nullptr;
}

namespace {

/// Methods are case-sensitive, RFC 9110 9.1.
method method_of(std::string_view name) {
    switch (name.size()) {
        case 3:
            return name == "GET" ? method::get : name == "PUT" ? method::put : method::other;
        case 4:
            return name == "POST" ? method::post : name == "HEAD" ? method::head : method::other;
        case 5:
            return name == "PATCH" ? method::patch : name == "TRACE" ? method::trace : method::other;
        case 6:
            return name == "DELETE" ? method::delete_ : method::other;
        case 7:
            return name == "OPTIONS" ? method::options : name == "CONNECT" ? method::connect : method::other;
        default:
            return method::other;
    }
}

/// Whether each '%' has its two digits, so that whoever decodes the text can't fail.
bool has_valid_percents(std::string_view text) {
    for (std::size_t at = text.find('%'); at != std::string_view::npos; at = text.find('%', at + 1)) {
        if (text.size() - at < 3 || !is(hex_byte, text[at + 1]) || !is(hex_byte, text[at + 2])) return false;
    }
    return true;
}

/// The port of uri-host [ ":" port ], RFC 9110 4.2.1: empty when there is none, nothing when the text is not
/// of that form or its host is empty.
std::optional<std::string_view> port_of(std::string_view authority) {
    std::size_t host_size = std::min(authority.find(':'), authority.size());
    if (authority.starts_with('[')) {
        host_size = std::min(authority.find(']') + 1, authority.size());  // 0 without a ']'
        if (!is_ipv6_literal(authority.substr(0, host_size))) return std::nullopt;
    } else if (const std::string_view name = authority.substr(0, host_size);
               name.empty() || !consists_of(host_byte, name) || !has_valid_percents(name)) {
        return std::nullopt;
    }
    std::string_view port = authority.substr(host_size);
    if (port.empty()) return port;
    if (port.front() != ':') return std::nullopt;
    port.remove_prefix(1);
    unsigned number = 0;
    for (const char digit : port) {
        if (!is_digit(digit)) return std::nullopt;
        number = number * 10 + static_cast<unsigned>(digit - '0');
        if (number > 65535) return std::nullopt;
    }
    return port;
}

/// Judged by its bytes alone: whoever connects to it has to parse it anyhow.
bool is_ipv6_literal(std::string_view text) {
    if (text.size() < 4 || text.front() != '[' || text.back() != ']') return false;
    const std::string_view address = text.substr(1, text.size() - 2);
    return std::ranges::all_of(address,
                               [](char byte) { return is(hex_byte, byte) || byte == ':' || byte == '.'; });
}

}  // namespace

}  // namespace weft::http
