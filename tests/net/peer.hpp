// The other end of a connection under test: a plain blocking socket in a thread, which shares no code with
// weft; and what the tests of net say in a line.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include <weft/net/address.hpp>

namespace weft::testing {

/// A connected blocking socket. Its calls give up after half a minute, so that a test fails instead of
/// hanging.
class peer {
  public:
    peer() = default;
    explicit peer(int descriptor) : descriptor_(descriptor) {}
    peer(peer&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
    peer& operator=(peer&& other) noexcept {
        std::swap(descriptor_, other.descriptor_);
        return *this;
    }
    ~peer() { close(); }

    /// `receive_buffer_bytes`: as small as a test that fills it likes; 0 leaves it to the kernel.
    static peer connect(const address& to, int receive_buffer_bytes = 0) {
        peer made(socket(to.data()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
        REQUIRE(made.descriptor_ >= 0);
        if (receive_buffer_bytes != 0) made.set(SO_RCVBUF, receive_buffer_bytes);
        const timeval patience{.tv_sec = 30, .tv_usec = 0};
        setsockopt(made.descriptor_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        setsockopt(made.descriptor_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        REQUIRE(::connect(made.descriptor_, to.data(), to.size()) == 0);
        return made;
    }

    int descriptor() const { return descriptor_; }
    void set(int option, int value) const {
        setsockopt(descriptor_, SOL_SOCKET, option, &value, sizeof value);
    }

    /// False when the connection broke, or the peer did not take it in time.
    bool send(std::string_view bytes) const {
        while (!bytes.empty()) {
            const ssize_t sent = ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (sent <= 0) return false;
            bytes.remove_prefix(static_cast<std::size_t>(sent));
        }
        return true;
    }
    /// What one call to send takes without waiting.
    std::size_t send_now(std::string_view bytes) const {
        const ssize_t sent = ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        return sent < 0 ? 0 : static_cast<std::size_t>(sent);
    }
    /// Less than `bytes` when the stream ended or broke before.
    std::string receive(std::size_t bytes) const {
        std::string all(bytes, '\0');
        std::size_t have = 0;
        while (have < bytes) {
            const ssize_t received = ::recv(descriptor_, all.data() + have, bytes - have, 0);
            if (received <= 0) break;
            have += static_cast<std::size_t>(received);
        }
        all.resize(have);
        return all;
    }
    /// One call to recv: 0 at the end of the stream, or the negative errno.
    ssize_t receive_some(std::span<char> buffer) const {
        const ssize_t received = ::recv(descriptor_, buffer.data(), buffer.size(), 0);
        return received < 0 ? -errno : received;
    }
    std::string receive_until(std::string_view end) const {
        std::string all;
        while (!all.ends_with(end)) {
            const std::string next = receive(1);
            if (next.empty()) break;
            all += next;
        }
        return all;
    }
    /// Until the stream ends, and how it did: 0, or the errno.
    std::string receive_all(int* how = nullptr) const {
        std::string all;
        char buffer[16384];
        for (;;) {
            const ssize_t received = receive_some(buffer);
            if (received > 0) {
                all.append(buffer, static_cast<std::size_t>(received));
                continue;
            }
            if (how != nullptr) *how = static_cast<int>(-received);
            return all;
        }
    }
    /// Something can be read (also the end, or an error) within the time.
    bool readable_within(std::chrono::milliseconds time) const { return waits_for(POLLIN, time); }
    bool writable_within(std::chrono::milliseconds time) const { return waits_for(POLLOUT, time); }

    void finish_sending() const { ::shutdown(descriptor_, SHUT_WR); }
    void close() {
        if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
    }
    /// Closes with a reset.
    void reset() {
        const linger at_once{.l_onoff = 1, .l_linger = 0};
        setsockopt(descriptor_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        close();
    }

  private:
    bool waits_for(short events, std::chrono::milliseconds time) const {
        pollfd wanted{.fd = descriptor_, .events = events, .revents = 0};
        return poll(&wanted, 1, static_cast<int>(time.count())) == 1;
    }

    int descriptor_ = -1;
};

inline std::ptrdiff_t open_descriptors() {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                         std::filesystem::directory_iterator{});
}

/// Waits, in a thread, until `condition()` holds; false when it does not within ten seconds.
template <class Condition>
bool eventually(Condition condition) {
    for (int tries = 0; tries < 5000; ++tries) {
        if (condition()) return true;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return condition();
}

/// Bytes [offset, offset + count) of an endless stream in which a byte that is lost, doubled or moved is
/// seen.
inline std::string pattern(std::size_t offset, std::size_t count) {
    std::string bytes(count, '\0');
    for (std::size_t n = 0; n < count; ++n) {
        const std::uint64_t at = offset + n;
        bytes[n] = static_cast<char>((at * 0x9E3779B97F4A7C15) >> 56);
    }
    return bytes;
}

inline std::string_view text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline std::span<std::byte> bytes_of(std::string& text) {
    return std::as_writable_bytes(std::span(text));
}

/// The machine has IPv6 on its loopback interface.
inline bool has_ipv6_loopback() {
    const int descriptor = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return false;
    sockaddr_in6 loopback{};
    loopback.sin6_family = AF_INET6;
    loopback.sin6_addr = in6addr_loopback;
    const bool has = bind(descriptor, reinterpret_cast<const sockaddr*>(&loopback), sizeof loopback) == 0;
    ::close(descriptor);
    return has;
}

}  // namespace weft::testing
