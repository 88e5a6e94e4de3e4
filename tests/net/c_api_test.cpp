// weft.h, called as C would: what each function does, and what it says to bad use. weft_run is in
// c_run_test.cpp.
#include <weft/weft.h>

#include "peer.hpp"
#include "support.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <functional>
#include <future>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <weft/net/weft_c.hpp>

using namespace weft::testing;

extern "C" int c_function(void* argument);
extern "C" int c_spawns(void* counter);
extern "C" int c_count_functions(void);

namespace {

constexpr std::int64_t millisecond = 1'000'000;

template <class Options>
Options sized() {
    Options made{};
    made.size = sizeof made;
    return made;
}

// A closure as a function and its argument. It must outlive the fiber.
template <class Closure>
int call(void* closure) {
    return (*static_cast<Closure*>(closure))();
}

class c_runtime {
  public:
    explicit c_runtime(unsigned workers, std::uint32_t fibers_max = 20'000) {
        auto options = sized<weft_options>();
        options.workers = workers;
        options.fibers_max = fibers_max;
        REQUIRE(weft_runtime_create(&options, &own_) == 0);
    }
    c_runtime(const c_runtime&) = delete;
    c_runtime& operator=(const c_runtime&) = delete;
    ~c_runtime() { CHECK(weft_runtime_destroy(own_) == 0); }

    operator weft_runtime*() const { return own_; }

  private:
    weft_runtime* own_ = nullptr;
};

// A fiber that is joined when this ends, at the latest.
class c_fiber {
  public:
    template <class Closure>
    c_fiber(weft_runtime* where, Closure& closure, const weft_spawn_options* options = nullptr) {
        REQUIRE(weft_spawn(where, call<Closure>, &closure, options, &own_) == 0);
    }
    c_fiber(const c_fiber&) = delete;
    c_fiber& operator=(const c_fiber&) = delete;
    ~c_fiber() {
        if (own_ != nullptr) join();
    }
    operator weft_fiber*() const { return own_; }
    int join() {
        int returned = 0;
        CHECK(weft_join(std::exchange(own_, nullptr), &returned) == 0);
        return returned;
    }

  private:
    weft_fiber* own_ = nullptr;
};

weft_spawn_options on_worker(unsigned worker) {
    return {
        .size = sizeof(weft_spawn_options), .name = nullptr, .placement = WEFT_PLACE_FIXED, .worker = worker};
}

// Runs `closure` in a fiber of worker 0, and returns what it returned, or 0.
template <class Closure>
int in_fiber_of(weft_runtime* where, Closure closure) {
    const auto options = on_worker(0);
    auto whole = [&] {
        if constexpr (std::is_void_v<decltype(closure())>) {
            closure();
            return 0;
        } else {
            return closure();
        }
    };
    return c_fiber(where, whole, &options).join();
}

weft_listener* listen_on(const char* where = "127.0.0.1:0", int backlog = 0) {
    const weft_listen_options options{.size = sizeof options, .backlog = backlog, .v6_only = 0};
    weft_listener* listening = nullptr;
    REQUIRE(weft_tcp_listen(where, &options, &listening) == 0);
    return listening;
}

std::string text_of(const weft_listener* listener) {
    std::array<char, WEFT_ADDRESS_BYTES> text;
    REQUIRE(weft_listener_address(listener, text.data(), text.size()) == 0);
    return text.data();
}

weft::address address_of(const weft_listener* listener) {
    return *weft::address::parse(text_of(listener));
}

// A fiber's end and a plain socket of the same connection; in a fiber.
struct connected {
    explicit connected(int peer_receive_buffer_bytes = 0) {
        weft_listener* listener = listen_on();
        other = peer::connect(address_of(listener), peer_receive_buffer_bytes);
        REQUIRE(weft_tcp_accept(listener, WEFT_NO_DEADLINE, &stream) == 0);
        CHECK(weft_listener_close(listener) == 0);
    }
    connected(const connected&) = delete;
    connected& operator=(const connected&) = delete;
    ~connected() { CHECK(weft_tcp_close(stream) == 0); }

    weft_tcp* stream = nullptr;
    peer other;
};

// Runs `closure` in a fiber of its own until it is in its last call, more likely than not, and cancels it;
// in a fiber. What it returned.
template <class Closure>
int cancelled_in(Closure closure) {
    std::atomic<bool> begun = false;
    auto whole = [&] {
        begun = true;
        return static_cast<int>(closure());
    };
    const auto here = on_worker(static_cast<unsigned>(weft_worker_index()));
    c_fiber made(nullptr, whole, &here);
    while (!begun) CHECK(weft_yield() == 0);
    for (int n = 0; n < 3; ++n) CHECK(weft_yield() == 0);
    CHECK(weft_cancel(made) == 0);
    return made.join();
}

// 4 GiB of address space: a length of which 32 bits keep nothing.
class huge_buffer {
  public:
    huge_buffer()
        : data_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                     0)) {
        REQUIRE(data_ != MAP_FAILED);
    }
    huge_buffer(const huge_buffer&) = delete;
    huge_buffer& operator=(const huge_buffer&) = delete;
    ~huge_buffer() { munmap(data_, bytes); }
    static constexpr std::size_t bytes = std::size_t{1} << 32;
    void* data() const { return data_; }

  private:
    void* data_;
};

// A server in a fiber.
class c_server {
  public:
    c_server(weft_runtime* where, std::function<int(weft_tcp*)> handler, weft_serve_options options = {})
        : where_(where), handler_(std::move(handler)), options_(options) {
        options_.size = sizeof options_;
        if (options_.listen == nullptr) options_.listen = "127.0.0.1:0";
        if (options_.drain_grace_ns == 0) options_.drain_grace_ns = 20 * millisecond;
        options_.on_listening = [](const char* address, void* server) {
            static_cast<c_server*>(server)->listens_on(*weft::address::parse(address));
        };
        const std::string_view texts = options_.listen;
        addresses_ = 1 + std::count(texts.begin(), texts.end(), ',');
        REQUIRE(weft_spawn(where, serve, this, nullptr, &serving_) == 0);
        listening_.get_future().get();
    }
    c_server(const c_server&) = delete;
    c_server& operator=(const c_server&) = delete;
    ~c_server() {
        if (serving_ != nullptr) CHECK(stop() == 0);
    }

    peer connect(std::size_t to = 0) const { return peer::connect(at_[to]); }
    weft_fiber* serving() const { return serving_; }
    int join() {
        int returned = 0;
        CHECK(weft_join(std::exchange(serving_, nullptr), &returned) == 0);
        return returned;
    }
    int stop() {
        CHECK(weft_request_stop(where_) == 0);
        return join();
    }

  private:
    static int serve(void* server) {
        return weft_serve(&static_cast<c_server*>(server)->options_, handle, server);
    }
    static int handle(weft_tcp* connection, void* server) {
        return static_cast<c_server*>(server)->handler_(connection);
    }
    void listens_on(const weft::address& at) {
        at_.push_back(at);
        if (std::ssize(at_) == addresses_) listening_.set_value();
    }

    weft_runtime* where_;
    std::function<int(weft_tcp*)> handler_;
    weft_serve_options options_;
    std::ptrdiff_t addresses_ = 0;
    std::vector<weft::address> at_;
    std::promise<void> listening_;
    weft_fiber* serving_ = nullptr;
};

int echo(weft_tcp* connection) {
    std::array<char, 1000> buffer;
    for (;;) {
        const ssize_t received = weft_tcp_read(connection, buffer.data(), buffer.size(), WEFT_NO_DEADLINE);
        if (received <= 0) return static_cast<int>(received);
        const int error = weft_tcp_write_all(connection, buffer.data(), static_cast<std::size_t>(received),
                                             WEFT_NO_DEADLINE);
        if (error < 0) return error;
    }
}

std::string ask(const peer& connection, std::string_view request) {
    CHECK(connection.send(request));
    return connection.receive(request.size());
}

class other_category final : public std::error_category {
  public:
    const char* name() const noexcept override { return "other"; }
    std::string message(int) const override { return "something without an errno"; }
};

int errno_of_exception(const auto& thrown) {
    return weft::detail::negative_errno(std::make_exception_ptr(thrown));
}

}  // namespace

TEST_CASE("c api: every error is one negative errno, and those that come back are what they were") {
    using weft::errc;
    using weft::detail::negative_errno;
    CHECK(negative_errno(errc::timed_out) == -ETIMEDOUT);
    CHECK(negative_errno(errc::cancelled) == -ECANCELED);
    CHECK(negative_errno(errc::closed) == -EBADF);
    CHECK(negative_errno(errc::end_of_stream) == -ENODATA);
    CHECK(negative_errno(errc::address_invalid) == -EINVAL);
    CHECK(negative_errno(errc::no_such_fiber) == -ESRCH);
    CHECK(negative_errno(errc::too_many_fibers) == -EAGAIN);
    CHECK(negative_errno(errc::reported) == -ENOTRECOVERABLE);
    CHECK(negative_errno(weft::system_error(EADDRINUSE)) == -EADDRINUSE);
    CHECK(negative_errno(std::make_error_code(std::errc::invalid_argument)) == -EINVAL);
    const other_category other;
    CHECK(negative_errno(std::error_code(5, other)) == -ENOTRECOVERABLE);

    CHECK(errno_of_exception(std::bad_alloc()) == -ENOMEM);
    CHECK(errno_of_exception(std::system_error(EMFILE, std::system_category())) == -EMFILE);
    CHECK(errno_of_exception(std::runtime_error("no errno says this")) == -ENOTRECOVERABLE);
    CHECK(errno_of_exception(17) == -ENOTRECOVERABLE);

    using weft::detail::error_of_errno;
    CHECK(error_of_errno(-ETIMEDOUT) == errc::timed_out);
    CHECK(error_of_errno(-ECANCELED) == errc::cancelled);
    CHECK(error_of_errno(-ENOTRECOVERABLE) == errc::reported);
    CHECK(error_of_errno(-ECONNRESET) == std::errc::connection_reset);
    CHECK(error_of_errno(INT32_MIN) == weft::system_error(4095));
}

TEST_CASE("c api: every error has a text, and one that is none says so") {
    CHECK(std::string_view(weft_strerror(-ETIMEDOUT)) == "timed out");
    CHECK(std::string_view(weft_strerror(-ECANCELED)) == "cancelled");
    CHECK(std::string_view(weft_strerror(-ENODATA)) == "the peer finished sending too early");
    CHECK(std::string_view(weft_strerror(-ENOTRECOVERABLE)) == "the log says why");
    CHECK(std::string_view(weft_strerror(-EAGAIN)) == "too many fibers");
    CHECK(std::string_view(weft_strerror(-EBADF)) == "already closed");
    CHECK(std::string_view(weft_strerror(-EINVAL)) == "not a valid address or argument");
    CHECK(std::string_view(weft_strerror(-EPERM)) == "not allowed, or not from here");
    CHECK(std::string_view(weft_strerror(-EDEADLK)) == "a fiber cannot wait for its own end");
    CHECK(std::string_view(weft_strerror(-ECONNREFUSED)) == "Connection refused");
    CHECK(std::string_view(weft_strerror(0)) == "no error");
    CHECK(std::string_view(weft_strerror(-100'000)) == "unknown error");
    CHECK(std::string_view(weft_strerror(INT32_MIN)) == "unknown error");
}

TEST_CASE("c api: a C program includes the header alone, and finds every function") {
    const c_runtime running(2);
    std::size_t bytes = 0;
    weft_fiber* made = nullptr;
    REQUIRE(weft_spawn(running, c_function, &bytes, nullptr, &made) == 0);
    int returned = 0;
    CHECK(weft_join(made, &returned) == 0);
    CHECK(returned == 7);
    CHECK(bytes == sizeof(weft_options) + sizeof(weft_spawn_options) + sizeof(weft_listen_options) +
                       sizeof(weft_serve_options));

    int counter = 0;
    CHECK(in_fiber_of(running, [&] { return c_spawns(&counter); }) == 0);
    CHECK(counter == 1);
    CHECK(c_count_functions() == 33);
}

TEST_CASE("c api: options may be older than the library, and newer where they ask for nothing new") {
    struct newer {
        weft_listen_options known;
        std::uint64_t unknown;
    } options{};
    options.known.v6_only = 1;
    const auto listen_with = [&](std::size_t size) {
        options.known.size = size;
        weft_listener* made = nullptr;
        const int error = weft_tcp_listen("127.0.0.1:0", &options.known, &made);
        weft_listener_close(made);
        return error;
    };
    CHECK(listen_with(0) == -EINVAL);
    CHECK(listen_with(sizeof(std::size_t)) == 0);
    CHECK(listen_with(sizeof(weft_listen_options)) == 0);
    CHECK(listen_with(sizeof options) == 0);
    options.unknown = 1;
    CHECK(listen_with(sizeof options) == -E2BIG);
    CHECK(listen_with(sizeof(weft_listen_options)) == 0);
    CHECK(listen_with(SIZE_MAX) == -E2BIG);
    // What is beyond the size that an older program gives is not looked at.
    options.known.backlog = -1;
    CHECK(listen_with(sizeof(weft_listen_options)) == -EINVAL);
    CHECK(listen_with(sizeof(std::size_t)) == 0);
}

TEST_CASE("c api: a runtime is made as the options say, or says why not") {
    const auto create = [](const weft_options& options) {
        weft_runtime* made = nullptr;
        const int error = weft_runtime_create(&options, &made);
        const int workers = error == 0 ? weft_worker_count(made) : error;
        CHECK((made != nullptr) == (error == 0));
        CHECK(weft_runtime_destroy(made) == 0);
        return workers;
    };
    auto options = sized<weft_options>();
    options.workers = 3;
    options.fibers_max = 100;
    options.stack_bytes = 32 * 1024;
    CHECK(create(options) == 3);
    options.size = 0;
    CHECK(create(options) == -EINVAL);
    options.size = sizeof options;

    const int no_such_cpu = 1 << 20;
    options.cpus = &no_such_cpu;
    CHECK(create(options) == 3);  // none is counted
    options.cpu_count = 1;
    CHECK(create(options) == -ENOTRECOVERABLE);
    options.cpus = nullptr;
    CHECK(create(options) == -EINVAL);
    options.cpu_count = 0;
    options.stack_bytes = SIZE_MAX;
    CHECK(create(options) == -EINVAL);
}

TEST_CASE("c api: what only a fiber may call refuses a thread") {
    const auto no_function = [](void*) { return 0; };
    weft_fiber* fiber = nullptr;
    weft_tcp* connection = nullptr;
    CHECK(weft_spawn(nullptr, no_function, nullptr, nullptr, &fiber) == -EPERM);
    CHECK(weft_request_stop(nullptr) == -EPERM);
    CHECK(weft_stop_requested(nullptr) == -EPERM);
    CHECK(weft_worker_count(nullptr) == -EPERM);
    CHECK(weft_cancelled() == -EPERM);
    CHECK(weft_yield() == -EPERM);
    CHECK(weft_worker_index() == -EPERM);
    CHECK(weft_sleep_ns(1) == -EPERM);
    CHECK(weft_sleep_until(1) == -EPERM);
    CHECK(weft_tcp_connect("127.0.0.1:1", WEFT_NO_DEADLINE, &connection) == -EPERM);
    weft_listener* listener = listen_on();
    CHECK(weft_tcp_accept(listener, WEFT_NO_DEADLINE, &connection) == -EPERM);
    CHECK(weft_listener_close(listener) == 0);

    auto serving = sized<weft_serve_options>();
    serving.listen = "127.0.0.1:0";
    const auto no_handler = [](weft_tcp*, void*) { return 0; };
    CHECK(weft_serve(&serving, no_handler, nullptr) == -EPERM);

    const c_runtime running(1);
    in_fiber_of(running, [&] {
        const connected pair;
        std::array<char, 1> byte{};
        std::thread([&] {
            CHECK(weft_tcp_read(pair.stream, byte.data(), 1, WEFT_NO_DEADLINE) == -EPERM);
            CHECK(weft_tcp_read_exactly(pair.stream, byte.data(), 1, WEFT_NO_DEADLINE) == -EPERM);
            CHECK(weft_tcp_write_all(pair.stream, byte.data(), 1, WEFT_NO_DEADLINE) == -EPERM);
            CHECK(weft_tcp_finish(pair.stream, WEFT_NO_DEADLINE) == -EPERM);
        }).join();
    });
}

TEST_CASE("c api: what only a thread may call refuses a fiber") {
    const c_runtime running(1);
    in_fiber_of(running, [&] {
        weft_runtime* made = nullptr;
        CHECK(weft_runtime_create(nullptr, &made) == -EPERM);
        CHECK(weft_runtime_destroy(running) == -EPERM);
        CHECK(weft_run(nullptr, c_function, nullptr) == 1);
    });
}

TEST_CASE("c api: NULL is refused where something is needed, and is nothing where something is to be ended") {
    weft_listener* listener = listen_on();
    std::array<char, WEFT_ADDRESS_BYTES> text;
    CHECK(weft_runtime_create(nullptr, nullptr) == -EINVAL);
    CHECK(weft_run(nullptr, nullptr, nullptr) == 1);
    CHECK(weft_join(nullptr, nullptr) == -EINVAL);
    CHECK(weft_cancel(nullptr) == -EINVAL);
    CHECK(weft_tcp_listen(nullptr, nullptr, &listener) == -EINVAL);
    CHECK(weft_tcp_listen("127.0.0.1:0", nullptr, nullptr) == -EINVAL);
    CHECK(weft_listener_address(nullptr, text.data(), text.size()) == -EINVAL);
    CHECK(weft_listener_address(listener, nullptr, 0) == -EINVAL);
    CHECK(weft_tcp_shutdown(nullptr, WEFT_SHUTDOWN_BOTH) == -EINVAL);
    CHECK(weft_tcp_local_address(nullptr, text.data(), text.size()) == -EINVAL);
    CHECK(weft_tcp_peer_address(nullptr, text.data(), text.size()) == -EINVAL);
    CHECK(weft_tcp_descriptor(nullptr) == -EINVAL);

    CHECK(weft_runtime_destroy(nullptr) == 0);
    CHECK(weft_detach(nullptr) == 0);
    CHECK(weft_listener_close(nullptr) == 0);
    CHECK(weft_tcp_close(nullptr) == 0);

    const c_runtime running(1);
    in_fiber_of(running, [&] {
        weft_tcp* connection = nullptr;
        weft_fiber* fiber = nullptr;
        CHECK(weft_spawn(nullptr, nullptr, nullptr, nullptr, &fiber) == -EINVAL);
        CHECK(weft_tcp_connect(nullptr, WEFT_NO_DEADLINE, &connection) == -EINVAL);
        CHECK(weft_tcp_connect("127.0.0.1:1", WEFT_NO_DEADLINE, nullptr) == -EINVAL);
        CHECK(weft_tcp_accept(nullptr, WEFT_NO_DEADLINE, &connection) == -EINVAL);
        CHECK(weft_tcp_accept(listener, WEFT_NO_DEADLINE, nullptr) == -EINVAL);
        CHECK(weft_tcp_read(nullptr, text.data(), 1, WEFT_NO_DEADLINE) == -EINVAL);
        CHECK(weft_tcp_read_exactly(nullptr, text.data(), 1, WEFT_NO_DEADLINE) == -EINVAL);
        CHECK(weft_tcp_write_all(nullptr, text.data(), 1, WEFT_NO_DEADLINE) == -EINVAL);
        CHECK(weft_tcp_finish(nullptr, WEFT_NO_DEADLINE) == -EINVAL);
        const connected pair;
        CHECK(weft_tcp_read(pair.stream, nullptr, 1, WEFT_NO_DEADLINE) == -EINVAL);
        CHECK(weft_tcp_read_exactly(pair.stream, nullptr, 1, WEFT_NO_DEADLINE) == -EINVAL);
        CHECK(weft_tcp_write_all(pair.stream, nullptr, 1, WEFT_NO_DEADLINE) == -EINVAL);
        CHECK(weft_tcp_read(pair.stream, nullptr, 0, WEFT_NO_DEADLINE) == 0);
        CHECK(weft_tcp_read_exactly(pair.stream, nullptr, 0, WEFT_NO_DEADLINE) == 0);
        CHECK(weft_tcp_write_all(pair.stream, nullptr, 0, WEFT_NO_DEADLINE) == 0);
        CHECK(weft_tcp_local_address(pair.stream, nullptr, 0) == -EINVAL);
        CHECK(weft_tcp_peer_address(pair.stream, nullptr, 0) == -EINVAL);

        const auto no_handler = [](weft_tcp*, void*) { return 0; };
        auto serving = sized<weft_serve_options>();
        serving.listen = "127.0.0.1:0";
        CHECK(weft_serve(nullptr, no_handler, nullptr) == -EINVAL);
        CHECK(weft_serve(&serving, nullptr, nullptr) == -EINVAL);
        serving.listen = nullptr;
        CHECK(weft_serve(&serving, no_handler, nullptr) == -EINVAL);
    });
    CHECK(weft_listener_close(listener) == 0);
}

TEST_CASE("c api: a fiber is joined once, by a fiber or a thread, and gives what its function returned") {
    watchdog dog("a fiber is not joined");
    const c_runtime running(2);
    auto minus_five = [] { return -5; };
    CHECK(c_fiber(running, minus_five).join() == -5);  // which is no error of weft_join
    CHECK(in_fiber_of(running, [&] { return c_fiber(nullptr, minus_five).join(); }) == -5);
    weft_fiber* made = nullptr;
    REQUIRE(weft_spawn(running, call<decltype(minus_five)>, &minus_five, nullptr, &made) == 0);
    CHECK(weft_join(made, nullptr) == 0);
}

TEST_CASE("c api: a fiber cannot join itself, and its handle stays") {
    watchdog dog("a fiber waits for its own end");
    const c_runtime running(1), elsewhere(1);
    std::atomic<weft_fiber*> self = nullptr;
    auto joins_itself = [&] {
        while (self == nullptr) weft_yield();
        return weft_join(self, nullptr);
    };
    c_fiber made(running, joins_itself);
    self = made;
    CHECK(made.join() == -EDEADLK);

    // The first fibers of two runtimes have the same number, and are not the same.
    const c_runtime one(1), two(1);
    auto seven = [] { return 7; };
    c_fiber first(one, seven);
    auto joins_the_other = [&] { return first.join(); };
    CHECK(c_fiber(two, joins_the_other).join() == 7);
}

TEST_CASE("c api: a detached fiber runs on its own, with a handle that was given up and without one") {
    watchdog dog("a detached fiber does not run");
    const c_runtime running(2);
    std::atomic<int> ran = 0;
    auto count = [&] { return ++ran; };
    using closure = decltype(count);
    weft_fiber* made = nullptr;
    REQUIRE(weft_spawn(running, call<closure>, &count, nullptr, &made) == 0);
    CHECK(weft_detach(made) == 0);
    CHECK(weft_spawn(running, call<closure>, &count, nullptr, nullptr) == 0);
    CHECK(in_fiber_of(running,
                      [&] { return weft_spawn(nullptr, call<closure>, &count, nullptr, nullptr); }) == 0);
    CHECK(eventually([&] { return ran == 3; }));
}

TEST_CASE("c api: a fiber has the name and the worker that it was given") {
    const c_runtime running(2);
    std::string name;
    auto tell = [&] {
        name = weft::this_fiber::name();
        return weft_worker_index();
    };
    for (const unsigned worker : {0u, 1u}) {
        auto options = on_worker(worker);
        options.name = "a fiber of C";
        CHECK(c_fiber(running, tell, &options).join() == static_cast<int>(worker));
        CHECK(name == "a fiber of C");
    }
    auto options = on_worker(2);
    const auto spawn = [&](weft_runtime* where) {
        return weft_spawn(where, c_function, nullptr, &options, nullptr);
    };
    CHECK(spawn(running) == -EINVAL);
    CHECK(in_fiber_of(running, [&] { return spawn(nullptr); }) == -EINVAL);
    options.worker = 0;
    options.placement = 3;
    CHECK(spawn(running) == -EINVAL);
    options.placement = -1;
    CHECK(spawn(running) == -EINVAL);
    options.placement = WEFT_PLACE_NEAR;
    options.size = 0;
    CHECK(spawn(running) == -EINVAL);
    CHECK(in_fiber_of(running, [] { return weft_worker_count(nullptr); }) == 2);
}

TEST_CASE("c api: there are as many fibers as the options allow, and no more") {
    watchdog dog("a fiber does not end");
    const c_runtime running(1, 2);
    std::atomic<bool> go = false;
    auto wait = [&] {
        while (!go) weft_yield();
        return 0;
    };
    {
        c_fiber first(running, wait), second(running, wait);
        weft_fiber* third = nullptr;
        CHECK(weft_spawn(running, call<decltype(wait)>, &wait, nullptr, &third) == -EAGAIN);
        CHECK(weft_spawn(running, call<decltype(wait)>, &wait, nullptr, nullptr) == -EAGAIN);
        CHECK(third == nullptr);
        go = true;
    }
    CHECK(c_fiber(running, wait).join() == 0);
}

TEST_CASE("c api: an exception from a callback ends its fiber alone, and is an error to who joins it") {
    watchdog dog("a fiber does not end");
    const c_runtime running(1);
    const auto error_after = [&](auto thrown) {
        auto thrower = [&]() -> int { throw thrown; };
        weft_fiber* made = nullptr;
        REQUIRE(weft_spawn(running, call<decltype(thrower)>, &thrower, nullptr, &made) == 0);
        int untouched = 3;
        const int error = weft_join(made, &untouched);
        CHECK(untouched == 3);
        return error;
    };
    CHECK(error_after(std::bad_alloc()) == -ENOMEM);
    CHECK(error_after(std::system_error(EMFILE, std::system_category())) == -EMFILE);
    CHECK(error_after(std::runtime_error("this is expected")) == -ENOTRECOVERABLE);
    CHECK(error_after(1) == -ENOTRECOVERABLE);
}

TEST_CASE("c api: a cancelled fiber is told so in every call in which it waits") {
    watchdog dog("a cancelled fiber waits on");
    const c_runtime running(1);
    in_fiber_of(running, [&] {
        CHECK(weft_cancelled() == 0);
        CHECK(cancelled_in([] { return weft_sleep_until(WEFT_NO_DEADLINE); }) == -ECANCELED);
        CHECK(cancelled_in([] { return weft_sleep_ns(INT64_MAX); }) == -ECANCELED);
        CHECK(cancelled_in([] {
                  while (weft_cancelled() == 0) CHECK(weft_yield() == 0);
                  return weft_cancelled();
              }) == 1);

        const connected pair(4096);
        std::array<char, 10> buffer;
        const std::vector<char> much(16 << 20);
        CHECK(cancelled_in([&] {
                  return weft_tcp_read(pair.stream, buffer.data(), buffer.size(), WEFT_NO_DEADLINE);
              }) == -ECANCELED);
        CHECK(cancelled_in([&] {
                  return weft_tcp_read_exactly(pair.stream, buffer.data(), buffer.size(), WEFT_NO_DEADLINE);
              }) == -ECANCELED);
        CHECK(cancelled_in([&] {
                  return weft_tcp_write_all(pair.stream, much.data(), much.size(), WEFT_NO_DEADLINE);
              }) == -ECANCELED);
        const connected other;
        CHECK(cancelled_in([&] { return weft_tcp_finish(other.stream, WEFT_NO_DEADLINE); }) == -ECANCELED);

        weft_listener* listener = listen_on();
        weft_tcp* made = nullptr;
        CHECK(cancelled_in([&] { return weft_tcp_accept(listener, WEFT_NO_DEADLINE, &made); }) == -ECANCELED);
        CHECK(made == nullptr);
        CHECK(weft_listener_close(listener) == 0);
    });
}

TEST_CASE("c api: a fiber that is left when its runtime ends is cancelled") {
    watchdog dog("a runtime waits for a fiber that sleeps");
    int returned = 0;
    auto sleeps = [&] { return returned = weft_sleep_until(WEFT_NO_DEADLINE); };
    {
        const c_runtime running(1);
        CHECK(weft_spawn(running, call<decltype(sleeps)>, &sleeps, nullptr, nullptr) == 0);
    }
    CHECK(returned == -ECANCELED);
}

TEST_CASE("c api: time goes on, and a deadline that is too far to name is none") {
    watchdog dog("a sleep does not end");
    const auto look = [] {
        const std::int64_t now = weft_now();
        CHECK(now > 0);
        CHECK(weft_now() >= now);
        CHECK(weft_deadline_in(5 * millisecond) >= now + 5 * millisecond);
        CHECK(weft_deadline_in(INT64_MAX) == WEFT_NO_DEADLINE);
        CHECK(weft_deadline_in(-millisecond) < weft_deadline_in(0));
        return 0;
    };
    look();
    const c_runtime running(1);
    in_fiber_of(running, [&] {
        look();
        const std::int64_t before = weft_now();
        CHECK(weft_sleep_ns(3 * millisecond) == 0);
        CHECK(weft_now() >= before + 3 * millisecond);
        const std::int64_t until = weft_deadline_in(2 * millisecond);
        CHECK(weft_sleep_until(until) == 0);
        CHECK(weft_now() >= until);
        CHECK(weft_sleep_ns(0) == 0);
        CHECK(weft_sleep_ns(-millisecond) == 0);
        CHECK(weft_sleep_until(0) == 0);
    });
}

TEST_CASE("c api: a runtime can be asked to stop from outside and from inside, twice") {
    const auto hurries = [](weft_runtime* of) {
        return in_fiber_of(of, [] { return weft::this_fiber::stop_now_token().stop_requested() ? 1 : 0; });
    };
    const c_runtime from_outside(1);
    CHECK(weft_stop_requested(from_outside) == 0);
    CHECK(in_fiber_of(from_outside, [] { return weft_stop_requested(nullptr); }) == 0);
    CHECK(weft_request_stop(from_outside) == 0);
    CHECK(weft_stop_requested(from_outside) == 1);
    CHECK(hurries(from_outside) == 0);
    CHECK(weft_request_stop(from_outside) == 0);
    CHECK(hurries(from_outside) == 1);

    const c_runtime from_inside(1);
    CHECK(in_fiber_of(from_inside, [] { return weft_request_stop(nullptr); }) == 0);
    CHECK(in_fiber_of(from_inside, [] { return weft_stop_requested(nullptr); }) == 1);
    CHECK(weft_stop_requested(from_inside) == 1);
    CHECK(hurries(from_inside) == 0);
    CHECK(in_fiber_of(from_inside, [] { return weft_request_stop(nullptr); }) == 0);
    CHECK(hurries(from_inside) == 1);
}

TEST_CASE("c api: two fibers connect, agree about the addresses, talk, and see each other's end") {
    watchdog dog("one end of a connection waits for ever");
    const c_runtime running(1);
    in_fiber_of(running, [&] {
        weft_listener* listener = listen_on();
        const std::string where = text_of(listener);
        auto client = [&] {
            weft_tcp* made = nullptr;
            REQUIRE(weft_tcp_connect(where.c_str(), WEFT_NO_DEADLINE, &made) == 0);
            CHECK(weft_tcp_write_all(made, "ping", 4, WEFT_NO_DEADLINE) == 0);
            std::array<char, WEFT_ADDRESS_BYTES> told{}, text{};
            CHECK(weft_tcp_read_exactly(made, told.data(), told.size(), WEFT_NO_DEADLINE) == 0);
            CHECK(weft_tcp_local_address(made, text.data(), text.size()) == 0);
            CHECK(std::string_view(told.data()) == text.data());
            CHECK(weft_tcp_peer_address(made, text.data(), text.size()) == 0);
            CHECK(std::string_view(text.data()) == where);
            CHECK(weft_tcp_shutdown(made, WEFT_SHUTDOWN_SENDING) == 0);
            CHECK(weft_tcp_read(made, told.data(), told.size(), WEFT_NO_DEADLINE) == 0);
            return weft_tcp_close(made);
        };
        c_fiber other(nullptr, client);
        weft_tcp* made = nullptr;
        REQUIRE(weft_tcp_accept(listener, WEFT_NO_DEADLINE, &made) == 0);
        std::array<char, WEFT_ADDRESS_BYTES> text{};
        CHECK(weft_tcp_read_exactly(made, text.data(), 4, WEFT_NO_DEADLINE) == 0);
        CHECK(std::string_view(text.data()) == "ping");
        CHECK(weft_tcp_peer_address(made, text.data(), text.size()) == 0);
        CHECK(weft_tcp_write_all(made, text.data(), text.size(), WEFT_NO_DEADLINE) == 0);
        CHECK(weft_tcp_finish(made, WEFT_NO_DEADLINE) == 0);
        CHECK(weft_tcp_close(made) == 0);
        CHECK(other.join() == 0);
        CHECK(weft_listener_close(listener) == 0);
    });
}

TEST_CASE("c api: a read gives what is there, and no bytes at the end of the stream") {
    watchdog dog("a read waits for ever");
    const c_runtime running(1);
    in_fiber_of(running, [&] {
        const connected pair;
        std::array<char, 10> buffer{};
        CHECK(pair.other.send("abc"));
        CHECK(weft_tcp_read(pair.stream, buffer.data(), buffer.size(), WEFT_NO_DEADLINE) == 3);
        CHECK(std::string_view(buffer.data()) == "abc");
        CHECK(pair.other.send("def"));
        pair.other.finish_sending();
        CHECK(weft_tcp_read_exactly(pair.stream, buffer.data(), 5, WEFT_NO_DEADLINE) == -ENODATA);
        CHECK(weft_tcp_read(pair.stream, buffer.data(), buffer.size(), WEFT_NO_DEADLINE) == 0);
    });
}

TEST_CASE("c api: lengths that 32 bits cannot hold are no empty ones") {
    watchdog dog("a length was cut to nothing");
    const c_runtime running(1);
    const huge_buffer buffer;
    in_fiber_of(running, [&] {
        const connected pair(4096);
        CHECK(pair.other.send("abc"));
        CHECK(weft_tcp_read(pair.stream, buffer.data(), buffer.bytes, WEFT_NO_DEADLINE) == 3);
        CHECK(pair.other.send("def"));
        CHECK(weft_tcp_read_exactly(pair.stream, buffer.data(), buffer.bytes,
                                    weft_deadline_in(20 * millisecond)) == -ETIMEDOUT);
        CHECK(weft_tcp_write_all(pair.stream, buffer.data(), buffer.bytes,
                                 weft_deadline_in(20 * millisecond)) == -ETIMEDOUT);
    });
}

TEST_CASE("c api: every call that waits gives up at its deadline") {
    watchdog dog("a deadline passes unnoticed");
    const c_runtime running(1);
    in_fiber_of(running, [&] {
        const connected pair(4096);
        std::array<char, 10> buffer;
        const std::vector<char> much(16 << 20);
        for (const std::int64_t time : {20 * millisecond, -millisecond}) {
            CHECK(weft_tcp_read(pair.stream, buffer.data(), buffer.size(), weft_deadline_in(time)) ==
                  -ETIMEDOUT);
            CHECK(weft_tcp_read_exactly(pair.stream, buffer.data(), buffer.size(), weft_deadline_in(time)) ==
                  -ETIMEDOUT);
            CHECK(weft_tcp_write_all(pair.stream, much.data(), much.size(), weft_deadline_in(time)) ==
                  -ETIMEDOUT);
        }
        const connected other;
        CHECK(weft_tcp_finish(other.stream, weft_deadline_in(20 * millisecond)) == -ETIMEDOUT);

        // Its backlog is full, and nobody accepts: it completes no further connection.
        weft_listener* listener = listen_on("127.0.0.1:0", 1);
        const weft::address at = address_of(listener);
        std::vector<peer> waiting;
        for (int n = 0; n < 4; ++n) {
            waiting.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
            const int begun = ::connect(waiting.back().descriptor(), at.data(), at.size());
            CHECK((begun == 0 || errno == EINPROGRESS));
        }
        weft_tcp* made = nullptr;
        CHECK(weft_tcp_connect(at.to_string().c_str(), weft_deadline_in(20 * millisecond), &made) ==
              -ETIMEDOUT);
        CHECK(weft_listener_close(listener) == 0);

        weft_listener* lonely = listen_on();
        CHECK(weft_tcp_accept(lonely, weft_deadline_in(20 * millisecond), &made) == -ETIMEDOUT);
        CHECK(made == nullptr);
        CHECK(weft_listener_close(lonely) == 0);
    });
}

TEST_CASE("c api: the system's errors are what errno would be") {
    watchdog dog("an error is not noticed");
    weft_listener* gone = listen_on();
    const std::string nobody = text_of(gone);
    CHECK(weft_listener_close(gone) == 0);
    const c_runtime running(1);
    in_fiber_of(running, [&] {
        weft_listener* listener = listen_on();
        const std::string where = text_of(listener);
        weft_listener* second = nullptr;
        CHECK(weft_tcp_listen(where.c_str(), nullptr, &second) == -EADDRINUSE);
        CHECK(weft_tcp_listen("not an address", nullptr, &second) == -EINVAL);
        const weft_listen_options negative{.size = sizeof negative, .backlog = -1, .v6_only = 0};
        CHECK(weft_tcp_listen("127.0.0.1:0", &negative, &second) == -EINVAL);
        CHECK(second == nullptr);
        CHECK(weft_listener_close(listener) == 0);

        weft_tcp* made = nullptr;
        CHECK(weft_tcp_connect(nobody.c_str(), WEFT_NO_DEADLINE, &made) == -ECONNREFUSED);
        CHECK(weft_tcp_connect("example.org:80", WEFT_NO_DEADLINE, &made) == -EINVAL);
        CHECK(made == nullptr);

        connected pair;
        CHECK(weft_tcp_shutdown(pair.stream, 3) == -EINVAL);
        CHECK(weft_tcp_shutdown(pair.stream, WEFT_SHUTDOWN_SENDING) == 0);
        CHECK(weft_tcp_write_all(pair.stream, "x", 1, WEFT_NO_DEADLINE) == -EPIPE);
        pair.other.reset();
        std::array<char, 1> byte;
        CHECK(weft_tcp_read(pair.stream, byte.data(), 1, WEFT_NO_DEADLINE) == -ECONNRESET);
    });
}

TEST_CASE("c api: a side that is shut is at its end, also for who waits") {
    watchdog dog("a read waits for ever");
    const c_runtime running(1);
    in_fiber_of(running, [&] {
        std::array<char, 1> byte;
        const connected receiving;
        CHECK(weft_tcp_shutdown(receiving.stream, WEFT_SHUTDOWN_RECEIVING) == 0);
        CHECK(weft_tcp_read(receiving.stream, byte.data(), 1, WEFT_NO_DEADLINE) == 0);
        CHECK(weft_tcp_write_all(receiving.stream, "x", 1, WEFT_NO_DEADLINE) == 0);
        CHECK(receiving.other.receive(1) == "x");
        const connected both;
        CHECK(weft_tcp_shutdown(both.stream, WEFT_SHUTDOWN_BOTH) == 0);
        CHECK(weft_tcp_read(both.stream, byte.data(), 1, WEFT_NO_DEADLINE) == 0);
        CHECK(both.other.receive(1).empty());
    });
}

TEST_CASE("c api: the text of an address needs its room, and the descriptor takes options") {
    const c_runtime running(1);
    in_fiber_of(running, [&] {
        weft_listener* listener = listen_on();
        const std::string where = text_of(listener);
        std::array<char, WEFT_ADDRESS_BYTES> text{'?'};
        CHECK(weft_listener_address(listener, text.data(), where.size()) == -ENOSPC);
        CHECK(weft_listener_address(listener, text.data(), 0) == -ENOSPC);
        CHECK(text[0] == '?');
        CHECK(weft_listener_address(listener, text.data(), where.size() + 1) == 0);
        CHECK(weft_listener_close(listener) == 0);
        const weft::address longest =
            *weft::address::parse("[1111:2222:3333:4444:5555:6666:7777:8888%4294967295]:65535");
        CHECK(longest.to_string().size() < WEFT_ADDRESS_BYTES);

        const connected pair;
        CHECK(weft_tcp_local_address(pair.stream, text.data(), 5) == -ENOSPC);
        CHECK(weft_tcp_peer_address(pair.stream, text.data(), 5) == -ENOSPC);
        int no_delay = 0;
        socklen_t bytes = sizeof no_delay;
        CHECK(getsockopt(weft_tcp_descriptor(pair.stream), IPPROTO_TCP, 1, &no_delay, &bytes) == 0);
        CHECK(no_delay == 1);  // TCP_NODELAY, whose number is 1
    });
}

TEST_CASE("c api: an IPv6 listener takes IPv4 connections too, unless it was told not to") {
    if (!has_ipv6_loopback()) return;
    const auto reaches = [](int v6_only) {
        const weft_listen_options options{.size = sizeof options, .backlog = 0, .v6_only = v6_only};
        weft_listener* listener = nullptr;
        REQUIRE(weft_tcp_listen("[::]:0", &options, &listener) == 0);
        const std::uint16_t port = address_of(listener).port();
        const weft::address v4 = weft::address::parse("127.0.0.1:0")->with_port(port);
        const peer client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const bool reached = ::connect(client.descriptor(), v4.data(), v4.size()) == 0;
        CHECK(weft_listener_close(listener) == 0);
        return reached;
    };
    CHECK(reaches(0));
    CHECK(!reaches(1));
}

TEST_CASE("c api: a listener that has accepted belongs to its worker") {
    watchdog dog("a listener is not closed");
    const c_runtime running(2);
    weft_listener* listener = listen_on();
    const auto on = [&](unsigned worker, auto closure) {
        const auto options = on_worker(worker);
        return c_fiber(running, closure, &options).join();
    };
    const auto accept = [&] {
        weft_tcp* none = nullptr;
        return weft_tcp_accept(listener, weft_deadline_in(millisecond), &none);
    };
    const auto close = [&] { return weft_listener_close(listener); };
    CHECK(on(1, accept) == -ETIMEDOUT);
    CHECK(on(0, accept) == -EPERM);
    CHECK(on(0, close) == -EPERM);
    CHECK(close() == -EPERM);
    CHECK(on(1, accept) == -ETIMEDOUT);
    CHECK(on(1, close) == 0);
}

TEST_CASE("c api: what is closed leaves no descriptor behind") {
    watchdog dog("a descriptor stays open");
    const c_runtime running(1);
    in_fiber_of(running, [] { return weft_sleep_ns(1); });
    const auto before = open_descriptors();
    in_fiber_of(running, [] {
        for (int n = 0; n < 5; ++n) const connected pair;
    });
    CHECK(weft_listener_close(listen_on()) == 0);
    CHECK(eventually([&] { return open_descriptors() <= before; }));
}

TEST_CASE("c api: a server serves on every address until it is asked to stop") {
    watchdog dog("a server hangs");
    const c_runtime running(2);
    auto options = sized<weft_serve_options>();
    options.listen = "127.0.0.1:0,127.0.0.1:0";
    c_server server(running, echo, options);
    std::vector<peer> clients;
    clients.reserve(20);
    for (std::size_t n = 0; n < 20; ++n) clients.push_back(server.connect(n % 2));
    for (const auto& client : clients) CHECK(ask(client, "hello") == "hello");
    CHECK(weft_request_stop(running) == 0);
    // It waits for input, so it is told after the grace that there will be none, and ends.
    for (const auto& client : clients) CHECK(client.receive_all().empty());
    CHECK(server.join() == 0);
}

TEST_CASE("c api: a server whose fiber is cancelled ends like one that is asked to stop") {
    watchdog dog("a server hangs");
    const c_runtime running(1);
    c_server server(running, echo);
    const peer client = server.connect();
    CHECK(ask(client, "hello") == "hello");
    CHECK(weft_cancel(server.serving()) == 0);
    CHECK(server.join() == 0);
    CHECK(client.receive_all().empty());
}

TEST_CASE("c api: a connection that does not end by itself is cancelled at the server's drain deadline") {
    watchdog dog("a server waits for ever");
    const c_runtime running(1);
    std::atomic<int> ended = 0;
    auto handler = [&](weft_tcp* connection) {
        CHECK(weft_tcp_write_all(connection, "x", 1, WEFT_NO_DEADLINE) == 0);
        std::array<char, 5> request;
        return ended = weft_tcp_read_exactly(connection, request.data(), request.size(), WEFT_NO_DEADLINE);
    };
    auto options = sized<weft_serve_options>();
    options.drain_grace_ns = -1;
    options.drain_deadline_ns = -1;
    c_server server(running, handler, options);
    const peer client = server.connect();
    CHECK(client.receive(1) == "x");
    CHECK(server.stop() == 0);
    CHECK(ended == -ECANCELED);
}

TEST_CASE("c api: a handler may close its connection, and is told when it goes on using it") {
    watchdog dog("a server hangs");
    const c_runtime running(1);
    std::atomic<int> done = 0;
    auto handler = [&](weft_tcp* connection) {
        std::array<char, WEFT_ADDRESS_BYTES> text;
        CHECK(weft_tcp_close(connection) == 0);
        CHECK(weft_tcp_read(connection, text.data(), 1, WEFT_NO_DEADLINE) == -EBADF);
        CHECK(weft_tcp_read_exactly(connection, text.data(), 1, WEFT_NO_DEADLINE) == -EBADF);
        CHECK(weft_tcp_write_all(connection, "x", 1, WEFT_NO_DEADLINE) == -EBADF);
        CHECK(weft_tcp_shutdown(connection, WEFT_SHUTDOWN_BOTH) == -EBADF);
        CHECK(weft_tcp_finish(connection, WEFT_NO_DEADLINE) == -EBADF);
        CHECK(weft_tcp_local_address(connection, text.data(), text.size()) == -EBADF);
        CHECK(weft_tcp_peer_address(connection, text.data(), text.size()) == -EBADF);
        CHECK(weft_tcp_descriptor(connection) == -EBADF);
        CHECK(weft_tcp_close(connection) == 0);
        return ++done;
    };
    c_server server(running, handler);
    CHECK(server.connect().receive_all().empty());
    CHECK(server.stop() == 0);
    CHECK(done == 1);
}

TEST_CASE("c api: an error or an exception of a handler ends its connection alone") {
    watchdog dog("a server hangs");
    const c_runtime running(1);
    auto handler = [](weft_tcp* connection) -> int {
        std::array<char, 1> what;
        for (;;) {
            const int error = weft_tcp_read_exactly(connection, what.data(), 1, WEFT_NO_DEADLINE);
            if (error != 0) return error;
            if (what[0] == 'e') return -EIO;
            if (what[0] == 't') throw std::runtime_error("this is expected");
            if (weft_tcp_write_all(connection, what.data(), 1, WEFT_NO_DEADLINE) != 0) return 0;
        }
    };
    c_server server(running, handler);
    peer patient = server.connect();
    CHECK(ask(patient, "a") == "a");
    for (const char* what : {"e", "t"}) {
        const peer client = server.connect();
        CHECK(client.send(what));
        CHECK(client.receive_all().empty());
    }
    CHECK(ask(patient, "b") == "b");
    patient.close();
    CHECK(server.stop() == 0);
}

TEST_CASE("c api: a server that cannot listen, or has options out of range, says so") {
    const c_runtime running(1);
    weft_listener* taken = listen_on();
    const std::string where = text_of(taken);
    in_fiber_of(running, [&] {
        const auto no_handler = [](weft_tcp*, void*) { return 0; };
        auto options = sized<weft_serve_options>();
        options.listen = where.c_str();
        CHECK(weft_serve(&options, no_handler, nullptr) == -ENOTRECOVERABLE);
        options.listen = "";
        CHECK(weft_serve(&options, no_handler, nullptr) == -ENOTRECOVERABLE);
        options.listen = "127.0.0.1:0";
        options.backlog = -1;
        CHECK(weft_serve(&options, no_handler, nullptr) == -EINVAL);
        options.size = 0;
        CHECK(weft_serve(&options, no_handler, nullptr) == -EINVAL);
    });
    CHECK(weft_listener_close(taken) == 0);
}
