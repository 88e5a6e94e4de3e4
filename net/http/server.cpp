#include <weft/net/http/server.hpp>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>
#include <stop_token>
#include <vector>

#include <weft/net/buffer_pool.hpp>
#include <weft/net/http/chunked.hpp>
#include <weft/net/http/date.hpp>
#include <weft/net/http/syntax.hpp>
#include <weft/runtime/log.hpp>

namespace weft::http {
namespace {

// For so long an idle connection keeps the memory of the answer that it sent last. To find out earlier that
// it has been sent would take a switch to the fiber at each request.
constexpr duration answers_held_max = std::chrono::milliseconds(200);
// How long a connection that is being closed is read from, so that its last answer is not lost to a reset.
constexpr duration farewell_max = std::chrono::seconds(2);
// A body that the handler did not ask for is skipped up to this size, so that the connection can go on.
constexpr std::size_t skipped_body_bytes_max = 64 * 1024;
// Answers are collected up to this size before they are sent, and a larger body is sent from where it lies.
constexpr std::size_t collected_bytes_max = 64 * 1024;
constexpr std::size_t copied_body_bytes_max = 16 * 1024;
// The least space that a receive is worth.
constexpr std::size_t receive_bytes_min = 2048;
constexpr std::size_t body_step_bytes = 64 * 1024;
constexpr std::size_t buffers_per_worker_max = 1 << 20;

// What the connections of one worker share.
struct alignas(64) worker_state {
    explicit worker_state(buffer_pool made) : pool(std::move(made)) {}
    buffer_pool pool;
    date_cache date;
    std::uint64_t requests = 0;
};

struct server_state {
    const server_options& options;
    const detail::request_handler handler;
    const std::stop_token stop = this_fiber::stop_token();
    std::vector<worker_state> workers = {};
};

class connection final : transaction {
  public:
    connection(server_state& server, tcp_stream& stream) noexcept
        : server_(server),
          options_(server.options),
          worker_(server.workers[this_fiber::worker_index()]),
          stream_(stream) {}

    result<void> run();

  private:
    result<std::string_view> read_body() override;
    result<void> respond(const response_head& head, std::string_view body) override;

    request_parser::status parse();
    result<bool> receive();
    void handle();
    void call_handler(request& request, response& response);
    result<void> refuse(int status);
    result<std::string_view> read_sized_body();
    result<std::string_view> read_chunked_body();
    result<void> prepare_to_read_body();
    result<std::span<std::byte>> read_body_bytes(std::span<std::byte> buffer);
    bool body_can_be_skipped() const;
    result<void> skip_body();
    result<void> flush();

    server_state& server_;
    const server_options& options_;
    worker_state& worker_;
    tcp_stream& stream_;
    byte_buffer in_{worker_.pool};   // from the first byte of the request that is being read or handled
    byte_buffer out_{worker_.pool};  // answers that have not been sent
    byte_buffer headers_{
        worker_.pool};  // the parser's storage; it has memory exactly while a head is in work
    std::optional<request_parser> parser_;
    time_point head_deadline_ = no_deadline;

    // Of the request in hand:
    std::string body_;                        // when it did not come whole with the head
    std::size_t consumed_ = 0;                // bytes of in_ that belong to it
    byte_buffer after_chunks_{worker_.pool};  // what came behind a chunked body
    bool body_read_ = false;
    std::optional<result<std::string_view>> body_result_;  // what read_body() returned: it does so again
    bool continue_owed_ = false;                           // the client waits for a 100
    bool head_only_ = false;

    bool last_ = false;    // no request is taken after this one
    bool unread_ = false;  // the peer may have sent what nobody will read: close gently
    result<void> broken_;  // the first error of the connection itself
};

result<void> connection::run() {
    while (!last_) {
        switch (parse()) {
            case request_parser::status::complete:
                handle();
                break;
            case request_parser::status::refused:
                log::debug("http: refused with {}: {}", parser_->why().status, parser_->why().reason);
                WEFT_TRY(refuse(parser_->why().status));
                break;
            case request_parser::status::incomplete:
                if (!WEFT_TRY(receive())) last_ = true;
                break;
        }
        if (!broken_) return broken_;
    }
    WEFT_TRY(flush());
    if (unread_) return stream_.finish(this_fiber::now() + farewell_max);
    return {};
}

request_parser::status connection::parse() {
    if (in_.empty()) return request_parser::status::incomplete;
    if (!parser_) {
        // A header is a trivial type, so bytes are storage enough.
        const auto storage =
            headers_.reserve(std::max<std::size_t>(options_.head.headers_max, 1) * sizeof(header));
        parser_.emplace(std::span(reinterpret_cast<header*>(storage.data()), storage.size() / sizeof(header)),
                        options_.head);
    }
    return parser_->parse(in_.chars());
}

// Sends what has been answered and waits for more of the peer, both in one entry into the kernel. False: the
// peer has finished, or nothing more is expected of it.
result<bool> connection::receive() {
    const bool idle = in_.empty();
    if (idle) {
        headers_.release();
        parser_.reset();
        in_.release();
    }
    const time_point now = this_fiber::now();
    const time_point deadline = idle ? deadline_after(now, options_.idle_timeout) : head_deadline_;
    // The answers' memory is held while the first wait lasts, because the kernel may still be sending from
    // it.
    const time_point first_deadline =
        idle && !out_.empty() ? std::min(deadline, now + answers_held_max) : deadline;
    const draining drain = idle ? draining::ends_input : draining::is_ignored;
    const auto space = [this] { return in_.reserve(receive_bytes_min); };

    auto [written, read] = stream_.exchange_into(out_.bytes(), deadline_after(now, options_.write_timeout),
                                                 space, first_deadline, drain);
    WEFT_TRY(std::move(written));
    out_.release();
    if (!read && read.error() == errc::timed_out && first_deadline < deadline)
        read = stream_.exchange_into({}, no_deadline, space, deadline, drain).read;
    if (!read && read.error() == errc::timed_out) {
        if (!idle) WEFT_TRY(refuse(408));
        unread_ = true;
        return false;
    }
    const auto bytes = WEFT_TRY(std::move(read));
    if (bytes.empty()) {
        // The peer has finished; or the server drains, and the peer may be sending at this moment.
        unread_ = server_.stop.stop_requested();
        return false;
    }
    if (idle) head_deadline_ = deadline_after(this_fiber::now(), options_.header_timeout);
    in_.commit(bytes.size());
    return true;
}

void connection::handle() {
    const request_head& head = parser_->head();
    ++worker_.requests;
    consumed_ = parser_->head_bytes();
    body_read_ = head.framing == body_framing::none;
    body_result_.reset();
    continue_owed_ = head.expect_continue;
    head_only_ = head.verb == method::head;
    if (!head.keep_alive) last_ = true;

    request request(head, *this);
    response response(*this);
    if (head.framing == body_framing::content_length && head.content_length > options_.body_bytes_max)
        broken_ = refuse(413);
    else
        call_handler(request, response);
    if (!broken_) return;

    if (!body_read_ && !last_) {
        if (auto skipped = skip_body(); !skipped) last_ = unread_ = true;
    }
    if (last_ && (!body_read_ || in_.size() > consumed_)) unread_ = true;
    parser_->reset();
    in_.consume(consumed_);
    if (!after_chunks_.empty()) {
        in_.append({after_chunks_.chars().data(), after_chunks_.size()});
        after_chunks_.release();
    }
    if (!body_.empty()) body_ = {};
    head_only_ = false;
    if (!in_.empty()) head_deadline_ = deadline_after(this_fiber::now(), options_.header_timeout);
}

// Whatever the handler does, the request has been answered, or the connection is broken, when this returns.
void connection::call_handler(request& request, response& response) {
    int status = 0;
    try {
        auto returned = server_.handler.call(server_.handler.handler, request, response);
        if (returned && !response.sent()) returned = response.send();
        if (returned) return;
        status = status_of(returned.error());
        if (status == 0 && broken_) {
            log::error("http: {} {}: {}", request.method_name(), request.target(),
                       returned.error().message());
            status = 500;
        }
    } catch (const std::exception& error) {
        log::error("http: {} {}: exception: {}", request.method_name(), request.target(), error.what());
        status = 500;
    } catch (...) {
        log::error("http: {} {}: an exception that is no std::exception", request.method_name(),
                   request.target());
        status = 500;
    }
    if (!broken_) return;
    if (response.sent())
        last_ = unread_ = true;  // what the peer has got may be incomplete, and it may go on sending
    else if (status < 400 || status > 599)
        broken_ = refuse(500);
    else if (!body_read_)
        broken_ = refuse(status);
    else
        static_cast<void>(respond({.status = status, .content_type = "text/plain"},
                                  std::string(reason_phrase(status)) + '\n'));
}

// Answers and takes nothing more: where the next request begins is unknown, or will not be waited for.
result<void> connection::refuse(int status) {
    last_ = unread_ = true;
    return respond({.status = status, .content_type = "text/plain"},
                   std::string(reason_phrase(status)) + '\n');
}

result<void> connection::respond(const response_head& head, std::string_view body) {
    if (!body_read_ && !body_can_be_skipped()) last_ = unread_ = true;
    if (server_.stop.stop_requested()) last_ = unread_ = true;

    const bool has_body = head.status >= 200 && head.status != 204 && head.status != 304;
    const std::string_view phrase = reason_phrase(head.status);
    std::array<char, 24> digits;
    const auto text_of = [&](std::uint64_t number) -> std::string_view {
        return {digits.data(), static_cast<std::size_t>(
                                   std::to_chars(digits.begin(), digits.end(), number).ptr - digits.data())};
    };
    // One reservation for the whole head, then plain copies.
    constexpr std::size_t fixed_bytes = 256;
    const auto space = out_.reserve(fixed_bytes + phrase.size() + options_.server_name.size() +
                                    head.content_type.size() + head.fields.size());
    char* const begin = reinterpret_cast<char*>(space.data());
    char* at = begin;
    const auto put = [&at](std::string_view text) {
        if (text.empty()) return;  // it may have no address
        std::memcpy(at, text.data(), text.size());
        at += text.size();
    };
    if (head.status == 200) {
        put("HTTP/1.1 200 OK\r\n");
    } else {
        put("HTTP/1.1 ");
        put(text_of(static_cast<std::uint64_t>(head.status)));
        put(" ");
        put(phrase);
        put("\r\n");
    }
    if (!options_.server_name.empty()) {
        put("Server: ");
        put(options_.server_name);
        put("\r\n");
    }
    put("Date: ");
    put(worker_.date.now());
    put("\r\n");
    if (!head.content_type.empty() && has_body) {
        put("Content-Type: ");
        put(head.content_type);
        put("\r\n");
    }
    if (has_body) {
        put("Content-Length: ");
        put(text_of(body.size()));
        put("\r\n");
    }
    if (last_)
        put("Connection: close\r\n");
    else if (parser_ && parser_->head().version_minor == 0)
        put("Connection: keep-alive\r\n");
    put(head.fields);
    put("\r\n");
    out_.commit(static_cast<std::size_t>(at - begin));

    if (head_only_ || !has_body) body = {};
    if (body.size() <= copied_body_bytes_max) {
        out_.append(body);
    } else {
        const std::array<std::span<const std::byte>, 2> pieces{out_.bytes(), std::as_bytes(std::span(body))};
        broken_ = stream_.writev(pieces, deadline_after(this_fiber::now(), options_.write_timeout));
        out_.release();
    }
    if (broken_ && out_.size() > collected_bytes_max) broken_ = flush();
    return broken_;
}

result<void> connection::flush() {
    if (out_.empty()) return {};
    const auto written =
        stream_.write_all(out_.bytes(), deadline_after(this_fiber::now(), options_.write_timeout));
    out_.release();
    return written;
}

result<std::string_view> connection::read_body() {
    if (!broken_) return failure(broken_.error());
    if (!body_result_) {
        switch (parser_->head().framing) {
            case body_framing::none:
                body_result_ = std::string_view();
                break;
            case body_framing::content_length:
                body_result_ = read_sized_body();
                break;
            case body_framing::chunked:
                body_result_ = read_chunked_body();
                break;
        }
    }
    return *body_result_;
}

result<std::string_view> connection::read_sized_body() {
    const auto length = static_cast<std::size_t>(parser_->head().content_length);
    const std::string_view come(in_.chars().data() + parser_->head_bytes(),
                                in_.size() - parser_->head_bytes());
    if (come.size() >= length) {
        consumed_ += length;
        body_read_ = true;
        return come.substr(0, length);
    }
    WEFT_TRY(prepare_to_read_body());
    body_.assign(come);
    consumed_ = in_.size();
    // Memory is taken as the bytes come, not as they are announced.
    while (body_.size() < length) {
        const std::size_t have = body_.size();
        body_.resize(have + std::min(length - have, std::max(body_step_bytes, have)));
        const auto read = WEFT_TRY(read_body_bytes(std::as_writable_bytes(std::span(body_).subspan(have))));
        body_.resize(have + read.size());
    }
    body_read_ = true;
    return std::string_view(body_);
}

result<std::string_view> connection::read_chunked_body() {
    WEFT_TRY(prepare_to_read_body());
    chunked_decoder decoder;
    const auto refuse_body = [this](int status) {
        last_ = unread_ = true;
        return failure(status_error(status));
    };
    std::span<const char> input = in_.chars().subspan(consumed_);
    consumed_ = in_.size();
    for (;;) {
        const auto step = decoder.next(input);
        input = input.subspan(step.consumed);
        switch (step.what) {
            case chunked_decoder::status::data:
                if (body_.size() + step.data.size() > options_.body_bytes_max) return refuse_body(413);
                body_.append(step.data.data(), step.data.size());
                break;
            case chunked_decoder::status::need_more: {
                after_chunks_.consume(after_chunks_.size());
                const auto read = WEFT_TRY(read_body_bytes(after_chunks_.reserve(receive_bytes_min)));
                after_chunks_.commit(read.size());
                input = after_chunks_.chars();
                break;
            }
            case chunked_decoder::status::refused:
                return refuse_body(decoder.why().status);
            case chunked_decoder::status::complete:
                // What follows belongs to the next request. It lies in in_ as long as nothing had to be read.
                if (after_chunks_.empty())
                    consumed_ -= input.size();
                else
                    after_chunks_.consume(after_chunks_.size() - input.size());
                body_read_ = true;
                return std::string_view(body_);
        }
    }
}

// Before a body is waited for: earlier answers must not wait with it, and the client may be waiting for a
// 100.
result<void> connection::prepare_to_read_body() {
    if (continue_owed_) {
        continue_owed_ = false;
        out_.append("HTTP/1.1 100 Continue\r\n\r\n");
    }
    broken_ = flush();
    return broken_;
}

result<std::span<std::byte>> connection::read_body_bytes(std::span<std::byte> buffer) {
    auto read = stream_.read_some(buffer, deadline_after(this_fiber::now(), options_.body_timeout),
                                  draining::is_ignored);
    if (!read && read.error() == errc::timed_out) {
        last_ = unread_ = true;
        return failure(status_error(408));
    }
    if (read && read->empty())
        broken_ = failure(errc::end_of_stream);
    else if (!read)
        broken_ = failure(read.error());
    if (!broken_) return failure(broken_.error());
    return read;
}

bool connection::body_can_be_skipped() const {
    const request_head& head = parser_->head();
    return head.framing == body_framing::content_length && head.content_length <= skipped_body_bytes_max &&
           !continue_owed_;
}

result<void> connection::skip_body() {
    WEFT_TRY(read_body());
    return {};
}

}  // namespace

result<void> detail::serve(const server_options& options, request_handler answer) {
    server_state server{.options = options, .handler = answer};
    for (unsigned n = 0; n < this_fiber::worker_count(); ++n)
        server.workers.emplace_back(WEFT_TRY(buffer_pool::create(buffers_per_worker_max)));
    const auto ended = weft::serve({.listen = options.listen,
                                    .name = "http",
                                    .drain_grace = options.drain_grace,
                                    .drain_deadline = options.drain_deadline,
                                    .on_listening = options.on_listening},
                                   [&](tcp_stream& stream) { return connection(server, stream).run(); });
    if (options.requests_served != nullptr) {
        *options.requests_served = 0;
        for (const worker_state& each : server.workers) *options.requests_served += each.requests;
    }
    return ended;
}

}  // namespace weft::http
