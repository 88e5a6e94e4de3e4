// TCP: connections and the sockets that accept them, as blocking-style calls that park the fiber.
//
// A stream or a listener is used by one fiber at a time, and moves with it by being moved. A stream may go on
// in a fiber of another worker: what has come for it is brought there first. Every call that
// may wait takes a deadline; when it has passed, or when the fiber was asked to stop, the call returns
// errc::timed_out or errc::cancelled, and the kernel has let go of the caller's memory by then. Other errors
// are the system's (std::system_category). No call raises SIGPIPE.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include <weft/net/address.hpp>
#include <weft/runtime/buffer_source.hpp>
#include <weft/runtime/clock.hpp>
#include <weft/runtime/result.hpp>

namespace weft {

struct accept_stream;
struct receive_stream;

/// What a read that would have to wait does while its server drains (net/serve.hpp).
enum class draining : std::uint8_t {
    ends_input,  ///< It reports the end of the stream: nothing more is expected from the peer.
    is_ignored,  ///< It waits on: the rest of a request is still to come.
};

enum class shutdown_side : std::uint8_t { receiving, sending, both };

/// A connection. Owns its descriptor and closes it, without waiting, when it is destroyed.
class tcp_stream {
  public:
    tcp_stream() = default;
    /// Takes over a connected, blocking-mode stream socket.
    explicit tcp_stream(int descriptor) noexcept : descriptor_(descriptor) {}
    tcp_stream(tcp_stream&& other) noexcept
        : descriptor_(std::exchange(other.descriptor_, -1)), input_(std::exchange(other.input_, nullptr)) {}
    tcp_stream& operator=(tcp_stream&& other) noexcept {
        tcp_stream taken(std::move(other));  // what this one had is closed with it
        std::swap(descriptor_, taken.descriptor_);
        std::swap(input_, taken.input_);
        return *this;
    }
    ~tcp_stream() { close(); }

    /// Parks until the connection is made. TCP_NODELAY is set.
    [[nodiscard]] static result<tcp_stream> connect(const address& to, time_point deadline = no_deadline);

    /// Parks until there is something, and returns the part of `buffer` that was filled; empty when the peer
    /// has finished sending (or `buffer` is empty).
    [[nodiscard]] result<std::span<std::byte>> read_some(std::span<std::byte> buffer,
                                                         time_point deadline = no_deadline,
                                                         draining drain = draining::ends_input);
    /// Fills `buffer`. errc::end_of_stream when the peer finishes sending before that.
    [[nodiscard]] result<void> read_exactly(std::span<std::byte> buffer, time_point deadline = no_deadline);
    /// Parks until the kernel has taken all of it. After an error it is unknown how much it has taken.
    [[nodiscard]] result<void> write_all(std::span<const std::byte> bytes, time_point deadline = no_deadline);
    [[nodiscard]] result<void> write_all(std::string_view text, time_point deadline = no_deadline) {
        return write_all(std::as_bytes(std::span(text)), deadline);
    }
    /// The same for several pieces, in order, as one.
    [[nodiscard]] result<void> writev(std::span<const std::span<const std::byte>> pieces,
                                      time_point deadline = no_deadline);

    struct exchange_result {
        result<void> written;
        result<std::span<std::byte>> read;  ///< When the write failed, the same error.
    };
    /// write_all(to_write) and read_some(buffer) in one entry into the kernel: what a server does between two
    /// requests. The two must not overlap: bytes may arrive while a slow peer still takes what is written.
    [[nodiscard]] exchange_result exchange(std::span<const std::byte> to_write, time_point write_deadline,
                                           std::span<std::byte> buffer,
                                           time_point read_deadline = no_deadline,
                                           draining drain = draining::ends_input);

    /// The same for a reader that holds no memory while it waits: `buffer()` is asked for a span once
    /// something has come. From its first call on the stream belongs to the worker of the fiber that called.
    template <class Buffer>
    [[nodiscard]] exchange_result exchange_into(std::span<const std::byte> to_write,
                                                time_point write_deadline, Buffer&& buffer,
                                                time_point read_deadline = no_deadline,
                                                draining drain = draining::ends_input) {
        return exchange_into_source(to_write, write_deadline, buffer, read_deadline, drain);
    }

    /// shutdown(2): the peer sees the end of the stream when the sending side is shut. Does not park.
    [[nodiscard]] result<void> shutdown(shutdown_side side);
    /// The gentle end: says that nothing more will be sent, then drops what still arrives until the peer has
    /// finished too. Closing while bytes from the peer are unread would reset the connection, and the peer
    /// might lose the last answer (RFC 9112, section 9.6). Errors: errc::timed_out.
    [[nodiscard]] result<void> finish(time_point deadline);
    /// At once and without parking; nothing when it is closed already.
    void close() noexcept;
    bool is_open() const noexcept { return descriptor_ >= 0; }

    [[nodiscard]] result<address> peer_address() const;
    [[nodiscard]] result<address> local_address() const;

    // Options; none of these parks.

    /// TCP_NODELAY. On by default for connections made or accepted by weft.
    [[nodiscard]] result<void> set_no_delay(bool on);
    /// SO_KEEPALIVE with its times, rounded to whole seconds; `probes` unanswered ones end the connection.
    [[nodiscard]] result<void> set_keep_alive(duration idle, duration interval, int probes);
    [[nodiscard]] result<void> set_receive_buffer_bytes(int bytes);
    [[nodiscard]] result<void> set_send_buffer_bytes(int bytes);
    /// A close sends a reset, and drops what is unsent (SO_LINGER with time 0).
    [[nodiscard]] result<void> set_reset_on_close(bool on);

    int native_handle() const noexcept { return descriptor_; }

  private:
    exchange_result exchange_into_source(std::span<const std::byte> to_write, time_point write_deadline,
                                         buffer_source buffer, time_point read_deadline, draining drain);

    int descriptor_ = -1;
    receive_stream* input_ = nullptr;  // from the first exchange_into() on: what is read comes through it
};

struct listen_options {
    int backlog = 4096;  ///< Cut by the kernel to net.core.somaxconn.
    /// Several listeners of this process share the address, and the kernel spreads connections over them
    /// (SO_REUSEPORT). The first one is opened without it, so that an address that another program uses is an
    /// error.
    bool share_address = false;
    bool join_shared = false;  ///< Not the first of those.
    bool v6_only = false;      ///< An IPv6 socket does not take IPv4 connections too.
};

/// A listening socket. After the first accept() by a pinned fiber it belongs to that fiber's worker, and is
/// closed there; a mobile fiber leaves nothing of it behind.
class tcp_listener {
  public:
    tcp_listener() = default;
    tcp_listener(tcp_listener&&) noexcept;
    tcp_listener& operator=(tcp_listener&&) noexcept;
    ~tcp_listener();

    /// Binds and listens. Port 0 takes a free one. SO_REUSEADDR is set. Does not park.
    [[nodiscard]] static result<tcp_listener> open(const address& at, const listen_options& options = {});

    /// Parks until there is a connection. It has TCP_NODELAY set. Errors of one connection (ECONNABORTED) or
    /// of the process (EMFILE) do not end the listener: accept again.
    [[nodiscard]] result<tcp_stream> accept(time_point deadline = no_deadline);
    /// Stops accepting and returns, one a call, the connections that the kernel had completed by then; a
    /// stream that is not open when there are no more. Parks only until the kernel has let go of the
    /// listener. For a server that ends.
    [[nodiscard]] tcp_stream take_last();

    [[nodiscard]] result<address> local_address() const;

  private:
    explicit tcp_listener(int descriptor);
    std::unique_ptr<accept_stream> stream_;
};

}  // namespace weft
