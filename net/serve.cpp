#include <weft/net/serve.hpp>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <stop_token>

#include <weft/runtime/io.hpp>
#include <weft/runtime/log.hpp>
#include <weft/runtime/runtime.hpp>
#include <weft/runtime/thread_mutex.hpp>
#include <weft/runtime/worker.hpp>

namespace weft {
namespace {

// How often a server that ends looks whether the last connection has.
constexpr duration ending_check = std::chrono::milliseconds(2);
// After an error that is the process's (no descriptors, no memory), accepting waits: twice as long each time.
constexpr duration backoff_min = std::chrono::milliseconds(5);
constexpr duration backoff_max = std::chrono::milliseconds(500);

// Errors of a connection that broke before it was taken (accept(2)); whatever else fails may fail again at
// once.
bool is_of_one_connection(const std::error_code& error) {
    if (error.category() != std::system_category()) return false;
    switch (error.value()) {
        case ECONNABORTED:
        case EINTR:
        case EPROTO:
        case ENOPROTOOPT:
        case ENETDOWN:
        case ENETUNREACH:
        case EHOSTDOWN:
        case EHOSTUNREACH:
        case ENONET:
        case EOPNOTSUPP:
        case ETIMEDOUT:
        case EPERM:
            return true;
        default:
            return false;
    }
}

const char* remedy(const std::error_code& error) {
    if (error == std::errc::address_in_use)
        return "; stop the program that listens there, or choose another port";
    if (error == std::errc::permission_denied)
        return "; a port below 1024 needs root or CAP_NET_BIND_SERVICE";
    if (error == std::errc::address_not_available) return "; no interface of this machine has that address";
    return "";
}

// A connection's place in its worker's list, on the stack of its fiber.
struct live_connection {
    fiber_block* fiber = nullptr;
    live_connection* next = nullptr;
    live_connection* previous = nullptr;
};

// The connections that began on one worker. One that is mobile may end on another; the lock is held for a few
// instructions and nobody parks under it.
struct alignas(64) worker_connections {
    thread_mutex lock;
    live_connection first;                 // not a connection: the head of the ring
    counter opened;                        // accepted by this worker, wherever they live
    std::atomic<std::uint64_t> closed{0};  // began here, and have ended

    worker_connections() { first.next = first.previous = &first; }

    void add(live_connection& connection) {
        const std::lock_guard held(lock);
        connection.next = &first;
        connection.previous = first.previous;
        first.previous->next = &connection;
        first.previous = &connection;
    }
    void remove(live_connection& connection) {
        {
            const std::lock_guard held(lock);
            connection.previous->next = connection.next;
            connection.next->previous = connection.previous;
        }
        // The last act: when all are closed the server ends, and this with it. Release: pairs with
        // all_closed.
        closed.fetch_add(1, std::memory_order_release);
    }
};

class server {
  public:
    server(const serve_options& options, detail::connection_handler handler)
        : options_(options), handler_(handler), connections_(this_fiber::worker_count()) {}

    result<void> open();
    result<void> run();

  private:
    using acceptor = fiber<void>;

    result<void> begin_accepting(std::vector<acceptor>& acceptors);
    void accept_connections(tcp_listener listener);
    void take(tcp_stream connection);
    void handle(tcp_stream connection);
    void drain(std::vector<acceptor>& acceptors);
    bool all_closed() const;
    void wait_until_all_closed(time_point until, bool heed_hurry);
    void request_all(std::uint8_t bits);

    const serve_options& options_;
    const detail::connection_handler handler_;
    std::vector<worker_connections> connections_;       // by worker
    std::vector<std::vector<tcp_listener>> listeners_;  // by worker
    std::atomic<std::uint64_t> never_begun_{0};         // opened, but there was no fiber for them
    std::atomic<std::uint8_t> asked_{0};  // of all connections: one that begins after the walk asks itself
    std::stop_token stop_ = this_fiber::stop_token();
    std::stop_token hurry_ = this_fiber::stop_now_token();
};

result<void> server::open() {
    listeners_.resize(connections_.size());
    std::vector<address> bound;
    for (const std::string& text : options_.listen) {
        const auto listen_on_all = [&]() -> result<void> {
            address at = WEFT_TRY(address::parse(text));
            for (auto& of_worker : listeners_) {
                const bool first = &of_worker == &listeners_.front();
                of_worker.push_back(WEFT_TRY(tcp_listener::open(at, {.backlog = options_.backlog,
                                                                     .share_address = listeners_.size() > 1,
                                                                     .join_shared = !first,
                                                                     .v6_only = true})));
                if (first) at = WEFT_TRY(of_worker.back().local_address());
            }
            bound.push_back(at);
            return {};
        };
        if (auto listening = listen_on_all(); !listening) {
            log::error("cannot listen on {}: {}{}", text, listening.error().message(),
                       remedy(listening.error()));
            return failure(errc::reported);
        }
    }
    if (options_.on_listening)
        for (const address& at : bound) options_.on_listening(at);
    return {};
}

result<void> server::run() {
    std::vector<acceptor> acceptors;
    const auto accepting = begin_accepting(acceptors);
    const fiber_id self = this_fiber::id();
    fiber_block& block = current_fiber();
    if (accepting) {
        const std::stop_callback when_stopped(stop_,
                                              [&] { scheduler::wake_if_live(block, self.generation); });
        block.waits_for = "the request to stop";
        block.waits_since = this_fiber::now();
        while (!stop_.stop_requested() && !this_fiber::cancelled()) park();
    }
    drain(acceptors);  // also when some could not begin: the others are using this object
    return accepting;
}

result<void> server::begin_accepting(std::vector<acceptor>& acceptors) {
    for (unsigned n = 0; n < listeners_.size(); ++n) {
        for (tcp_listener& listener : listeners_[n]) {
            acceptors.push_back(WEFT_TRY(
                spawn([this, own = std::move(listener)]() mutable { accept_connections(std::move(own)); },
                      {.name = "acceptor", .where = placement::fixed, .worker = n})));
        }
    }
    return {};
}

void server::accept_connections(tcp_listener listener) {
    duration backoff = backoff_min;
    for (;;) {
        auto accepted = listener.accept();
        if (accepted) {
            take(std::move(*accepted));
            backoff = backoff_min;
        } else if (accepted.error() == errc::cancelled) {
            break;
        } else if (!is_of_one_connection(accepted.error())) {
            if (backoff == backoff_min) log::warn("accepting pauses: {}", accepted.error().message());
            static_cast<void>(this_fiber::sleep_for(backoff));
            backoff = std::min(backoff * 2, backoff_max);
        }
    }
    // What had been accepted for this server when it was told to stop is served; not what goes on coming.
    for (int left = options_.backlog; left > 0; --left) {
        tcp_stream last = listener.take_last();
        if (!last.is_open()) return;
        take(std::move(last));
    }
}

void server::take(tcp_stream connection) {
    connections_[this_fiber::worker_index()].opened.add();
    const auto spawned =
        spawn_detached([this, own = std::move(connection)]() mutable { handle(std::move(own)); },
                       {.name = options_.name, .where = placement::spread, .affinity = options_.affinity});
    if (!spawned) {
        never_begun_.fetch_add(1, std::memory_order_release);
        log::warn("a connection was dropped: {}", spawned.error().message());
    }
}

void server::handle(tcp_stream connection) {
    worker_connections& here = connections_[this_fiber::worker_index()];
    struct registered : live_connection {
        registered(worker_connections& at, const std::atomic<std::uint8_t>& asked) : where(at) {
            fiber = &current_fiber();
            where.add(*this);
            if (const std::uint8_t bits = asked.load(std::memory_order_relaxed))
                request(*fiber, fiber->word.generation(), bits);
        }
        ~registered() { where.remove(*this); }
        worker_connections& where;
    } const listed(here, asked_);
    const auto ended = handler_.call(handler_.handler, std::move(connection));
    if (!ended) log::debug("{} {}: {}", options_.name, this_fiber::id().index, ended.error().message());
}

void server::drain(std::vector<acceptor>& acceptors) {
    for (acceptor& each : acceptors) each.cancel();
    for (acceptor& each : acceptors) each.join();
    const time_point begin = worker::current()->owner().time().now();
    wait_until_all_closed(deadline_after(begin, options_.drain_grace), true);
    request_all(request_end_input);
    wait_until_all_closed(deadline_after(begin, options_.drain_deadline), true);
    if (all_closed()) return;
    request_all(request_cancel);
    wait_until_all_closed(no_deadline, false);
}

// Every connection counts as opened before its fiber exists, and the closed ones are summed first: when the
// sums are equal, all had ended. Nothing is opened any more when this is asked.
bool server::all_closed() const {
    std::uint64_t closed = never_begun_.load(std::memory_order_acquire), opened = 0;
    for (const auto& each : connections_) closed += each.closed.load(std::memory_order_acquire);
    for (const auto& each : connections_) opened += each.opened.read();
    return opened == closed;
}

void server::wait_until_all_closed(time_point until, bool heed_hurry) {
    const clock& time = worker::current()->owner().time();
    while (!all_closed() && time.now() < until) {
        if (heed_hurry && (hurry_.stop_requested() || this_fiber::cancelled())) return;
        sleep_regardless(time.now() + ending_check);
    }
}

void server::request_all(std::uint8_t bits) {
    // Before the walk: who is added behind it asks itself. The lists' locks order the two.
    asked_.fetch_or(bits, std::memory_order_relaxed);
    for (worker_connections& each : connections_) {
        const std::lock_guard held(each.lock);
        for (live_connection* at = each.first.next; at != &each.first; at = at->next)
            request(*at->fiber, at->fiber->word.generation(), bits);
    }
}

}  // namespace

result<void> detail::serve(const serve_options& options, connection_handler handler) {
    server one(options, handler);
    WEFT_TRY(one.open());
    return one.run();
}

}  // namespace weft
