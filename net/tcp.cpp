#include <weft/net/tcp.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include <weft/runtime/fiber.hpp>
#include <weft/runtime/io.hpp>

namespace weft {
namespace {

// A read of at least so much is for bulk: the kernel writes to the caller's memory, not to the engine's small
// buffers.
constexpr std::size_t direct_bytes_min = 16 * 1024;

result<void> set_option(int descriptor, int level, int name, const void* value, std::size_t bytes) {
    if (setsockopt(descriptor, level, name, value, static_cast<socklen_t>(bytes)) == 0) return {};
    return failure(system_error(errno));
}

result<void> set_option(int descriptor, int level, int name, int value) {
    return set_option(descriptor, level, name, &value, sizeof value);
}

result<address> address_of(int descriptor, int (*which)(int, sockaddr*, socklen_t*)) {
    sockaddr_storage found{};
    socklen_t length = sizeof found;
    if (which(descriptor, reinterpret_cast<sockaddr*>(&found), &length) != 0)
        return failure(system_error(errno));
    return address::from_sockaddr(reinterpret_cast<const sockaddr*>(&found), length);
}

operation receive_into(int descriptor, std::span<std::byte> buffer) {
    return {.what = operation::kind::receive,
            .descriptor = descriptor,
            .data = buffer.data(),
            .length = buffer.size()};
}

operation send_from(int descriptor, std::span<const std::byte> bytes) {
    // The engine only reads from `data` in a send. MSG_WAITALL: the kernel goes on after a short send.
    return {.what = operation::kind::send,
            .descriptor = descriptor,
            .flags = MSG_NOSIGNAL | MSG_WAITALL,
            .data = const_cast<std::byte*>(bytes.data()),
            .length = bytes.size()};
}

wait_options for_input(time_point deadline, draining drain) {
    return {.deadline = deadline, .ends_with_input = drain == draining::ends_input};
}

}  // namespace

result<tcp_stream> tcp_stream::connect(const address& to, time_point deadline) {
    const int descriptor = socket(to.data()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return failure(system_error(errno));
    tcp_stream stream(descriptor);
    operation connect{.what = operation::kind::connect,
                      .descriptor = descriptor,
                      .data = const_cast<sockaddr*>(to.data()),
                      .length = to.size()};
    WEFT_TRY(perform(connect, {.deadline = deadline}));
    WEFT_TRY(stream.set_no_delay(true));
    return stream;
}

result<std::span<std::byte>> tcp_stream::read_some(std::span<std::byte> buffer, time_point deadline,
                                                   draining drain) {
    const wait_options options = for_input(deadline, drain);
    if (input_ == nullptr) {
        operation receive = receive_into(descriptor_, buffer);
        return buffer.first(WEFT_TRY(perform(receive, options)));
    }
    if (buffer.size() >= direct_bytes_min) return receive_directly(*input_, buffer, options);
    const auto get = [buffer] { return buffer; };
    return receive_from(*input_, get, options);
}

result<void> tcp_stream::read_exactly(std::span<std::byte> buffer, time_point deadline) {
    while (!buffer.empty()) {
        const auto received = WEFT_TRY(read_some(buffer, deadline, draining::is_ignored));
        if (received.empty()) return failure(errc::end_of_stream);
        buffer = buffer.subspan(received.size());
    }
    return {};
}

result<void> tcp_stream::write_all(std::span<const std::byte> bytes, time_point deadline) {
    while (!bytes.empty()) {
        operation send = send_from(descriptor_, bytes.first(std::min(bytes.size(), operation_bytes_max)));
        bytes = bytes.subspan(WEFT_TRY(perform(send, {.deadline = deadline})));
    }
    return {};
}

result<void> tcp_stream::writev(std::span<const std::span<const std::byte>> pieces, time_point deadline) {
    std::size_t skip = 0;  // bytes of the first piece that have been sent
    while (!pieces.empty()) {
        std::array<iovec, 16> vectors;
        std::size_t count = 0;
        for (const auto& piece : pieces.first(std::min(pieces.size(), vectors.size()))) {
            const auto rest = piece.subspan(count == 0 ? skip : 0);
            vectors[count++] = {const_cast<std::byte*>(rest.data()), rest.size()};
        }
        msghdr message{};
        message.msg_iov = vectors.data();
        message.msg_iovlen = count;
        operation send{.what = operation::kind::send_message,
                       .descriptor = descriptor_,
                       .flags = MSG_NOSIGNAL | MSG_WAITALL,
                       .data = &message};
        std::size_t sent = skip + WEFT_TRY(perform(send, {.deadline = deadline}));
        while (!pieces.empty() && sent >= pieces.front().size()) {
            sent -= pieces.front().size();
            pieces = pieces.subspan(1);
        }
        skip = sent;
    }
    return {};
}

tcp_stream::exchange_result tcp_stream::exchange(std::span<const std::byte> to_write,
                                                 time_point write_deadline, std::span<std::byte> buffer,
                                                 time_point read_deadline, draining drain) {
    if (to_write.empty()) return {{}, read_some(buffer, read_deadline, drain)};
    if (to_write.size() > operation_bytes_max) {
        const std::size_t before = to_write.size() - operation_bytes_max;
        if (auto written = write_all(to_write.first(before), write_deadline); !written)
            return {written, failure(written.error())};
        to_write = to_write.subspan(before);
    }
    if (input_ != nullptr) {
        const auto get = [buffer] { return buffer; };
        return exchange_into_source(to_write, write_deadline, get, read_deadline, drain);
    }
    operation send = send_from(descriptor_, to_write);
    operation receive = receive_into(descriptor_, buffer);
    exchanged done = send_and_perform(send, write_deadline, receive, for_input(read_deadline, drain));
    return {std::move(done.sent), done.received.map([&](std::size_t bytes) { return buffer.first(bytes); })};
}

tcp_stream::exchange_result tcp_stream::exchange_into_source(std::span<const std::byte> to_write,
                                                             time_point write_deadline, buffer_source buffer,
                                                             time_point read_deadline, draining drain) {
    if (input_ == nullptr) input_ = open_stream(descriptor_);
    if (input_ == nullptr || to_write.size() > operation_bytes_max)
        return exchange(to_write, write_deadline, buffer(), read_deadline, drain);
    const wait_options options = for_input(read_deadline, drain);
    if (to_write.empty()) return {{}, receive_from(*input_, buffer, options)};
    operation send = send_from(descriptor_, to_write);
    exchanged_bytes done = send_and_receive_from(send, write_deadline, *input_, buffer, options);
    return {std::move(done.sent), std::move(done.received)};
}

result<void> tcp_stream::shutdown(shutdown_side side) {
    const int how = side == shutdown_side::receiving ? SHUT_RD
                    : side == shutdown_side::sending ? SHUT_WR
                                                     : SHUT_RDWR;
    if (::shutdown(descriptor_, how) == 0) return {};
    return failure(system_error(errno));
}

result<void> tcp_stream::finish(time_point deadline) {
    WEFT_TRY(shutdown(shutdown_side::sending));
    std::array<std::byte, 512> dropped;
    while (!WEFT_TRY(read_some(dropped, deadline, draining::is_ignored)).empty()) {
        // A read that has something never waits, so a peer that does not stop sending would keep this up for
        // ever.
        if (this_fiber::now() >= deadline) return failure(errc::timed_out);
    }
    return {};
}

void tcp_stream::close() noexcept {
    if (input_ != nullptr) end_stream(*std::exchange(input_, nullptr));
    if (descriptor_ >= 0) close_descriptor(std::exchange(descriptor_, -1));
}

result<address> tcp_stream::peer_address() const {
    return address_of(descriptor_, getpeername);
}
result<address> tcp_stream::local_address() const {
    return address_of(descriptor_, getsockname);
}

result<void> tcp_stream::set_no_delay(bool on) {
    return set_option(descriptor_, IPPROTO_TCP, TCP_NODELAY, on ? 1 : 0);
}

result<void> tcp_stream::set_keep_alive(duration idle, duration interval, int probes) {
    const auto seconds = [](duration time) {
        return static_cast<int>(
            std::max<std::int64_t>(1, std::chrono::round<std::chrono::seconds>(time).count()));
    };
    WEFT_TRY(set_option(descriptor_, IPPROTO_TCP, TCP_KEEPIDLE, seconds(idle)));
    WEFT_TRY(set_option(descriptor_, IPPROTO_TCP, TCP_KEEPINTVL, seconds(interval)));
    WEFT_TRY(set_option(descriptor_, IPPROTO_TCP, TCP_KEEPCNT, probes));
    return set_option(descriptor_, SOL_SOCKET, SO_KEEPALIVE, 1);
}

result<void> tcp_stream::set_receive_buffer_bytes(int bytes) {
    return set_option(descriptor_, SOL_SOCKET, SO_RCVBUF, bytes);
}
result<void> tcp_stream::set_send_buffer_bytes(int bytes) {
    return set_option(descriptor_, SOL_SOCKET, SO_SNDBUF, bytes);
}

result<void> tcp_stream::set_reset_on_close(bool on) {
    const linger at_close{.l_onoff = on ? 1 : 0, .l_linger = 0};
    return set_option(descriptor_, SOL_SOCKET, SO_LINGER, &at_close, sizeof at_close);
}

tcp_listener::tcp_listener(int descriptor) : stream_(std::make_unique<accept_stream>()) {
    stream_->descriptor = descriptor;
}
tcp_listener::tcp_listener(tcp_listener&&) noexcept = default;
tcp_listener& tcp_listener::operator=(tcp_listener&& other) noexcept {
    tcp_listener taken(std::move(other));  // what this one had is closed with it
    std::swap(stream_, taken.stream_);
    return *this;
}

tcp_listener::~tcp_listener() {
    if (!stream_) return;
    if (stream_->armed) {
        abandon(std::move(stream_));
        return;
    }
    for (const int connection : stream_->accepted) close_descriptor(connection);
    close_descriptor(stream_->descriptor);
}

result<tcp_listener> tcp_listener::open(const address& at, const listen_options& options) {
    const int descriptor = socket(at.data()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return failure(system_error(errno));
    tcp_listener listener(descriptor);
    WEFT_TRY(set_option(descriptor, SOL_SOCKET, SO_REUSEADDR, 1));
    WEFT_TRY(set_option(descriptor, IPPROTO_TCP, TCP_NODELAY, 1));  // accepted sockets inherit it
    if (at.is_v6()) WEFT_TRY(set_option(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, options.v6_only ? 1 : 0));
    if (options.join_shared) WEFT_TRY(set_option(descriptor, SOL_SOCKET, SO_REUSEPORT, 1));
    if (bind(descriptor, at.data(), at.size()) != 0) return failure(system_error(errno));
    // Bound without it, so the bind has failed if anybody else has the address; from here on others may join.
    if (options.share_address && !options.join_shared)
        WEFT_TRY(set_option(descriptor, SOL_SOCKET, SO_REUSEPORT, 1));
    if (listen(descriptor, options.backlog) != 0) return failure(system_error(errno));
    return listener;
}

result<tcp_stream> tcp_listener::accept(time_point deadline) {
    accept_stream& stream = *stream_;
    if (!may_arm()) {
        WEFT_ASSERT(!stream.armed,
                    "a listener from which a pinned fiber has accepted is no use to a mobile one");
        operation accept{.what = operation::kind::accept, .descriptor = stream.descriptor};
        return tcp_stream(static_cast<int>(WEFT_TRY(perform(accept, {.deadline = deadline}))));
    }
    for (;;) {
        if (this_fiber::cancelled())
            return failure(errc::cancelled);  // also while connections never stop coming
        if (!stream.accepted.empty()) {
            tcp_stream connection(stream.accepted.front());
            stream.accepted.pop_front();
            return connection;
        }
        if (stream.error != 0) return failure(system_error(std::exchange(stream.error, 0)));
        if (!stream.armed) arm(stream);
        WEFT_TRY(wait_for_connection(stream, deadline));
    }
}

tcp_stream tcp_listener::take_last() {
    disarm_and_wait(*stream_);
    if (!stream_->accepted.empty()) {
        tcp_stream connection(stream_->accepted.front());
        stream_->accepted.pop_front();
        return connection;
    }
    // Connections that are complete but were not reported: closing the listener would reset them.
    pollfd waiting{.fd = stream_->descriptor, .events = POLLIN, .revents = 0};
    if (poll(&waiting, 1, 0) <= 0) return {};
    return tcp_stream(accept4(stream_->descriptor, nullptr, nullptr, SOCK_CLOEXEC));
}

result<address> tcp_listener::local_address() const {
    return address_of(stream_->descriptor, getsockname);
}

}  // namespace weft
