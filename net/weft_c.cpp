#include <weft/net/weft_c.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <weft/net/weft.h>
#include <weft/net/address.hpp>
#include <weft/net/serve.hpp>
#include <weft/net/tcp.hpp>
#include <weft/runtime/fiber.hpp>
#include <weft/runtime/log.hpp>
#include <weft/runtime/runtime.hpp>
#include <weft/runtime/scheduler.hpp>
#include <weft/runtime/worker.hpp>

struct weft_runtime {
    std::unique_ptr<weft::runtime> own;
};

struct weft_fiber {
    weft::fiber<int> own;
    const weft::scheduler* runs_in = nullptr;  // ids are unique in one runtime only
};

struct weft_tcp {
    weft::tcp_stream own;
    bool is_freed_by_close = true;
};

struct weft_listener {
    weft::tcp_listener own;
    const weft::worker* belongs_to = nullptr;  // from the first accept on
};

namespace weft {
namespace {

constexpr int errno_max = 4095;  // the kernel's; what is larger, a callback has made up

}  // namespace

int detail::negative_errno(const std::error_code& error) noexcept {
    if (error.category() == std::system_category() || error.category() == std::generic_category())
        return -error.value();
    if (error.category() == error_category()) {
        switch (static_cast<errc>(error.value())) {
            case errc::timed_out:
                return -ETIMEDOUT;
            case errc::cancelled:
                return -ECANCELED;
            case errc::closed:
                return -EBADF;
            case errc::end_of_stream:
                return -ENODATA;
            case errc::address_invalid:
                return -EINVAL;
            case errc::no_such_fiber:
                return -ESRCH;
            case errc::too_many_fibers:
                return -EAGAIN;
            case errc::reported:
                return -ENOTRECOVERABLE;
        }
    }
    log::error("{}", error.message());
    return -ENOTRECOVERABLE;
}

int detail::negative_errno(const std::exception_ptr& thrown) noexcept {
    try {
        std::rethrow_exception(thrown);
    } catch (const std::bad_alloc&) {
        return -ENOMEM;
    } catch (const std::system_error& error) {
        return negative_errno(error.code());
    } catch (const std::exception& error) {
        log::error("an exception: {}", error.what());
    } catch (...) {
        log::error("an exception of an unknown type");
    }
    return -ENOTRECOVERABLE;
}

std::error_code detail::error_of_errno(int negative_errno) noexcept {
    switch (negative_errno) {
        case -ETIMEDOUT:
            return errc::timed_out;
        case -ECANCELED:
            return errc::cancelled;
        case -ENOTRECOVERABLE:
            return errc::reported;
        default:
            return system_error(-std::max(negative_errno, -errno_max));
    }
}

namespace {

// Any larger transfer is cut by Linux to this (read(2)), and the engine's lengths have 32 bits.
constexpr std::size_t transfer_bytes_max = 0x7ffff000;
// A struct larger than this has a size that nobody has set.
constexpr std::size_t options_bytes_max = 4096;

bool in_fiber() noexcept {
    const worker* here = worker::current();
    return here != nullptr && here->running() != nullptr;
}

// The end of every function: nothing is thrown into C.
template <class Function>
auto guarded(Function function) noexcept -> decltype(function()) {
    try {
        return function();
    } catch (...) {
        return detail::negative_errno(std::current_exception());
    }
}

template <class T>
int status_of(const result<T>& done) noexcept {
    return done ? 0 : detail::negative_errno(done.error());
}

result<void> result_of(int returned) noexcept {
    if (returned >= 0) return {};
    return failure(detail::error_of_errno(returned));
}

// The part of the caller's struct that this library knows; what it does not know must be zero.
template <class Options>
int copy_options(const Options* given, Options& copy) noexcept {
    copy = {};
    if (given == nullptr) return 0;
    const std::size_t bytes = given->size;
    if (bytes < sizeof given->size) return -EINVAL;
    if (bytes > options_bytes_max) return -E2BIG;
    const auto* const from = reinterpret_cast<const unsigned char*>(given);
    if (std::any_of(from + std::min(bytes, sizeof copy), from + bytes,
                    [](unsigned char b) { return b != 0; }))
        return -E2BIG;
    std::memcpy(&copy, given, std::min(bytes, sizeof copy));
    return 0;
}

int read_options(const weft_options* given, runtime_options& options) {
    weft_options copy;
    if (const int error = copy_options(given, copy); error != 0) return error;
    if (copy.cpus == nullptr && copy.cpu_count != 0) return -EINVAL;
    options.workers = copy.workers;
    options.cpus.assign(copy.cpus, copy.cpus + copy.cpu_count);
    if (copy.fibers_max != 0) options.fibers_max = copy.fibers_max;
    if (copy.stack_bytes != 0) options.stack_bytes = copy.stack_bytes;
    return 0;
}

int read_options(const weft_spawn_options* given, unsigned workers, spawn_options& options) {
    weft_spawn_options copy;
    if (const int error = copy_options(given, copy); error != 0) return error;
    if (copy.name != nullptr) options.name = copy.name;
    options.worker = copy.worker;
    switch (copy.placement) {
        case WEFT_PLACE_NEAR:
            return 0;
        case WEFT_PLACE_SPREAD:
            options.where = placement::spread;
            return 0;
        case WEFT_PLACE_FIXED:
            options.where = placement::fixed;
            return copy.worker < workers ? 0 : -EINVAL;
        default:
            return -EINVAL;
    }
}

int read_options(const weft_listen_options* given, listen_options& options) {
    weft_listen_options copy;
    if (const int error = copy_options(given, copy); error != 0) return error;
    if (copy.backlog < 0) return -EINVAL;
    if (copy.backlog != 0) options.backlog = copy.backlog;
    options.v6_only = copy.v6_only != 0;
    return 0;
}

std::vector<std::string> split_at_commas(std::string_view text) {
    std::vector<std::string> parts;
    for (;;) {
        const auto comma = text.find(',');
        parts.emplace_back(text.substr(0, comma));
        if (comma == text.npos) return parts;
        text.remove_prefix(comma + 1);
    }
}

void read_duration(std::int64_t nanoseconds, duration& option) noexcept {
    if (nanoseconds != 0) option = duration(std::max<std::int64_t>(nanoseconds, 0));
}

int read_options(const weft_serve_options* given, void* argument, serve_options& options) {
    weft_serve_options copy;
    if (const int error = copy_options(given, copy); error != 0) return error;
    if (copy.listen == nullptr || copy.backlog < 0) return -EINVAL;
    options.listen = split_at_commas(copy.listen);
    if (copy.name != nullptr) options.name = copy.name;
    if (copy.backlog != 0) options.backlog = copy.backlog;
    read_duration(copy.drain_grace_ns, options.drain_grace);
    read_duration(copy.drain_deadline_ns, options.drain_deadline);
    if (copy.on_listening != nullptr)
        options.on_listening = [call = copy.on_listening, argument](const address& at) {
            call(at.to_string().c_str(), argument);
        };
    return 0;
}

time_point deadline_of(std::int64_t nanoseconds) noexcept {
    return time_point(duration(nanoseconds));
}

int write_text(const result<address>& from, char* text, std::size_t bytes) {
    if (!from) return status_of(from);
    const std::string written = from->to_string();
    if (written.size() >= bytes) return -ENOSPC;
    std::memcpy(text, written.c_str(), written.size() + 1);
    return 0;
}

// What a function that works on a connection and may park says at first.
int refuse_to_park(const weft_tcp* connection) noexcept {
    if (connection == nullptr) return -EINVAL;
    if (!in_fiber()) return -EPERM;
    return connection->own.is_open() ? 0 : -EBADF;
}

int refuse(const weft_tcp* connection) noexcept {
    if (connection == nullptr) return -EINVAL;
    return connection->own.is_open() ? 0 : -EBADF;
}

int address_of(const weft_tcp* connection, result<address> (tcp_stream::*which)() const, char* text,
               std::size_t bytes) noexcept {
    if (text == nullptr) return -EINVAL;
    if (const int error = refuse(connection); error != 0) return error;
    return guarded([&] { return write_text((connection->own.*which)(), text, bytes); });
}

int exit_after(const char* sentence) noexcept {
    std::fprintf(stderr, "weft: %s\n", sentence);
    return 1;
}

int run_main(const weft_options* options, weft_function main_function, void* argument) {
    if (main_function == nullptr) return exit_after("weft_run was given no main function");
    if (in_fiber()) return exit_after("weft_run was called by a fiber, which would block its worker");
    runtime_options read;
    if (const int error = read_options(options, read); error != 0)
        return exit_after("weft_run was given options that are not valid");
    int returned = 0;
    const int status = run(read, [&] {
        returned = main_function(argument);
        return result_of(returned);
    });
    return returned > 0 ? returned : status;
}

}  // namespace

}  // namespace weft

using namespace weft;

const char* weft_strerror(int error) {
    switch (error) {
        case -ETIMEDOUT:
            return "timed out";
        case -ECANCELED:
            return "cancelled";
        case -ENODATA:
            return "the peer finished sending too early";
        case -EAGAIN:
            return "too many fibers";
        case -EBADF:
            return "already closed";
        case -EINVAL:
            return "not a valid address or argument";
        case -EPERM:
            return "not allowed, or not from here";
        case -EDEADLK:
            return "a fiber cannot wait for its own end";
        case -ENOTRECOVERABLE:
            return "the log says why";
        default:
            break;
    }
    if (error >= 0) return "no error";
    const char* const description = error >= -errno_max ? strerrordesc_np(-error) : nullptr;
    return description != nullptr ? description : "unknown error";
}

int weft_run(const weft_options* options, weft_function main_function, void* argument) {
    try {
        return run_main(options, main_function, argument);
    } catch (const std::exception& error) {
        return exit_after(error.what());
    } catch (...) {
        return exit_after("an exception of an unknown type ended it");
    }
}

int weft_runtime_create(const weft_options* options, weft_runtime** created) {
    if (created == nullptr) return -EINVAL;
    if (in_fiber()) return -EPERM;
    return guarded([&] {
        runtime_options read;
        if (const int error = read_options(options, read); error != 0) return error;
        auto made = runtime::create(read);
        if (!made) return status_of(made);
        *created = new weft_runtime{std::move(*made)};
        return 0;
    });
}

int weft_runtime_destroy(weft_runtime* runtime) {
    if (runtime == nullptr) return 0;
    if (in_fiber()) return -EPERM;
    delete runtime;
    return 0;
}

int weft_request_stop(weft_runtime* runtime) {
    if (runtime != nullptr) {
        runtime->own->request_stop();
        return 0;
    }
    if (!in_fiber()) return -EPERM;
    scheduler& here = detail::current_scheduler();
    if (!here.stop.request_stop()) here.stop_now.request_stop();
    return 0;
}

int weft_stop_requested(const weft_runtime* runtime) {
    if (runtime != nullptr) return runtime->own->stop_token().stop_requested() ? 1 : 0;
    if (!in_fiber()) return -EPERM;
    return this_fiber::stop_token().stop_requested() ? 1 : 0;
}

int weft_worker_count(const weft_runtime* runtime) {
    if (runtime != nullptr) return static_cast<int>(runtime->own->workers());
    if (!in_fiber()) return -EPERM;
    return static_cast<int>(this_fiber::worker_count());
}

int weft_spawn(weft_runtime* runtime, weft_function function, void* argument,
               const weft_spawn_options* options, weft_fiber** handle) {
    if (function == nullptr) return -EINVAL;
    if (runtime == nullptr && !in_fiber()) return -EPERM;
    return guarded([&] {
        scheduler& where =
            runtime != nullptr ? detail::scheduler_of(*runtime->own) : detail::current_scheduler();
        spawn_options read;
        if (const int error = read_options(options, where.worker_count(), read); error != 0) return error;
        const auto call = [function, argument] { return function(argument); };
        if (handle == nullptr)
            return status_of(runtime != nullptr ? runtime->own->post(call, read)
                                                : spawn_detached(call, read));
        auto made = std::make_unique<weft_fiber>();
        auto spawned = spawn_on(where, call, read);
        if (!spawned) return status_of(spawned);
        made->own = std::move(*spawned);
        made->runs_in = &where;
        *handle = made.release();
        return 0;
    });
}

int weft_join(weft_fiber* fiber, int* returned) {
    if (fiber == nullptr) return -EINVAL;
    if (in_fiber() && fiber->runs_in == &detail::current_scheduler() && fiber->own.id() == this_fiber::id())
        return -EDEADLK;
    const std::unique_ptr<weft_fiber> owned(fiber);
    return guarded([&] {
        const int value = owned->own.join();
        if (returned != nullptr) *returned = value;
        return 0;
    });
}

int weft_detach(weft_fiber* fiber) {
    if (fiber == nullptr) return 0;
    fiber->own.detach();
    delete fiber;
    return 0;
}

int weft_cancel(weft_fiber* fiber) {
    if (fiber == nullptr) return -EINVAL;
    fiber->own.cancel();
    return 0;
}

int weft_cancelled() {
    if (!in_fiber()) return -EPERM;
    return this_fiber::cancelled() ? 1 : 0;
}

int weft_yield() {
    if (!in_fiber()) return -EPERM;
    this_fiber::yield();
    return 0;
}

int weft_worker_index() {
    if (!in_fiber()) return -EPERM;
    return static_cast<int>(this_fiber::worker_index());
}

std::int64_t weft_now() {
    const time_point now = in_fiber() ? this_fiber::now() : monotonic_clock().now();
    return now.time_since_epoch().count();
}

std::int64_t weft_deadline_in(std::int64_t nanoseconds) {
    // Not this turn's time: what the fiber has done since would count.
    const time_point now = in_fiber() ? detail::current_scheduler().time().now() : monotonic_clock().now();
    return deadline_after(now, duration(nanoseconds)).time_since_epoch().count();
}

int weft_sleep_ns(std::int64_t nanoseconds) {
    if (!in_fiber()) return -EPERM;
    return status_of(this_fiber::sleep_for(duration(nanoseconds)));
}

int weft_sleep_until(std::int64_t deadline) {
    if (!in_fiber()) return -EPERM;
    return status_of(this_fiber::sleep_until(deadline_of(deadline)));
}

int weft_tcp_listen(const char* address, const weft_listen_options* options, weft_listener** listening) {
    if (address == nullptr || listening == nullptr) return -EINVAL;
    return guarded([&] {
        listen_options read;
        if (const int error = read_options(options, read); error != 0) return error;
        const auto at = weft::address::parse(address);
        if (!at) return status_of(at);
        auto opened = tcp_listener::open(*at, read);
        if (!opened) return status_of(opened);
        *listening = new weft_listener{std::move(*opened)};
        return 0;
    });
}

int weft_tcp_accept(weft_listener* listener, std::int64_t deadline, weft_tcp** accepted) {
    if (listener == nullptr || accepted == nullptr) return -EINVAL;
    if (!in_fiber()) return -EPERM;
    if (listener->belongs_to != nullptr && listener->belongs_to != worker::current()) return -EPERM;
    listener->belongs_to = worker::current();
    return guarded([&] {
        auto made = std::make_unique<weft_tcp>();
        auto connection = listener->own.accept(deadline_of(deadline));
        if (!connection) return status_of(connection);
        made->own = std::move(*connection);
        *accepted = made.release();
        return 0;
    });
}

int weft_listener_address(const weft_listener* listener, char* text, std::size_t bytes) {
    if (listener == nullptr || text == nullptr) return -EINVAL;
    return guarded([&] { return write_text(listener->own.local_address(), text, bytes); });
}

int weft_listener_close(weft_listener* listener) {
    if (listener == nullptr) return 0;
    if (listener->belongs_to != nullptr && listener->belongs_to != worker::current()) return -EPERM;
    delete listener;
    return 0;
}

int weft_tcp_connect(const char* address, std::int64_t deadline, weft_tcp** connected) {
    if (address == nullptr || connected == nullptr) return -EINVAL;
    if (!in_fiber()) return -EPERM;
    return guarded([&] {
        const auto to = weft::address::parse(address);
        if (!to) return status_of(to);
        auto made = std::make_unique<weft_tcp>();
        auto connection = tcp_stream::connect(*to, deadline_of(deadline));
        if (!connection) return status_of(connection);
        made->own = std::move(*connection);
        *connected = made.release();
        return 0;
    });
}

ssize_t weft_tcp_read(weft_tcp* connection, void* buffer, std::size_t bytes, std::int64_t deadline) {
    if (buffer == nullptr && bytes != 0) return -EINVAL;
    if (const int error = refuse_to_park(connection); error != 0) return error;
    if (bytes == 0) return 0;
    const std::span space(static_cast<std::byte*>(buffer), std::min(bytes, transfer_bytes_max));
    return guarded([&]() -> ssize_t {
        const auto received = connection->own.read_some(space, deadline_of(deadline));
        return received ? static_cast<ssize_t>(received->size()) : detail::negative_errno(received.error());
    });
}

int weft_tcp_read_exactly(weft_tcp* connection, void* buffer, std::size_t bytes, std::int64_t deadline) {
    if (buffer == nullptr && bytes != 0) return -EINVAL;
    if (const int error = refuse_to_park(connection); error != 0) return error;
    return guarded([&] {
        for (std::span rest(static_cast<std::byte*>(buffer), bytes); !rest.empty();) {
            const auto piece = rest.first(std::min(rest.size(), transfer_bytes_max));
            if (const auto filled = connection->own.read_exactly(piece, deadline_of(deadline)); !filled)
                return status_of(filled);
            rest = rest.subspan(piece.size());
        }
        return 0;
    });
}

int weft_tcp_write_all(weft_tcp* connection, const void* buffer, std::size_t bytes, std::int64_t deadline) {
    if (buffer == nullptr && bytes != 0) return -EINVAL;
    if (const int error = refuse_to_park(connection); error != 0) return error;
    return guarded([&] {
        for (std::span rest(static_cast<const std::byte*>(buffer), bytes); !rest.empty();) {
            const auto piece = rest.first(std::min(rest.size(), transfer_bytes_max));
            if (const auto written = connection->own.write_all(piece, deadline_of(deadline)); !written)
                return status_of(written);
            rest = rest.subspan(piece.size());
        }
        return 0;
    });
}

int weft_tcp_shutdown(weft_tcp* connection, int side) {
    if (const int error = refuse(connection); error != 0) return error;
    switch (side) {
        case WEFT_SHUTDOWN_RECEIVING:
            return status_of(connection->own.shutdown(shutdown_side::receiving));
        case WEFT_SHUTDOWN_SENDING:
            return status_of(connection->own.shutdown(shutdown_side::sending));
        case WEFT_SHUTDOWN_BOTH:
            return status_of(connection->own.shutdown(shutdown_side::both));
        default:
            return -EINVAL;
    }
}

int weft_tcp_finish(weft_tcp* connection, std::int64_t deadline) {
    if (const int error = refuse_to_park(connection); error != 0) return error;
    return guarded([&] { return status_of(connection->own.finish(deadline_of(deadline))); });
}

int weft_tcp_local_address(const weft_tcp* connection, char* text, std::size_t bytes) {
    return address_of(connection, &tcp_stream::local_address, text, bytes);
}

int weft_tcp_peer_address(const weft_tcp* connection, char* text, std::size_t bytes) {
    return address_of(connection, &tcp_stream::peer_address, text, bytes);
}

int weft_tcp_descriptor(const weft_tcp* connection) {
    if (const int error = refuse(connection); error != 0) return error;
    return connection->own.native_handle();
}

int weft_tcp_close(weft_tcp* connection) {
    if (connection == nullptr) return 0;
    connection->own.close();
    if (connection->is_freed_by_close) delete connection;
    return 0;
}

int weft_serve(const weft_serve_options* options, weft_handler handler, void* argument) {
    if (options == nullptr || handler == nullptr) return -EINVAL;
    if (!in_fiber()) return -EPERM;
    return guarded([&] {
        serve_options read;
        if (const int error = read_options(options, argument, read); error != 0) return error;
        return status_of(serve(read, [handler, argument](tcp_stream connection) {
            weft_tcp lent{std::move(connection), false};
            return result_of(handler(&lent, argument));
        }));
    });
}
