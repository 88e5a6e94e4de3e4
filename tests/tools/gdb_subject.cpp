// What gdb_test.py looks at: fibers with names, each in another state. Says `ready` when they are, and waits
// for the end of its input.
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>

#include <weft/weft.hpp>

using namespace std::chrono_literals;
using weft::fiber_activity;
using weft::placement;
namespace this_fiber = weft::this_fiber;

namespace {

template <class T>
T value_of(weft::result<T> result) {
    if (result) return std::move(*result);
    std::fprintf(stderr, "gdb_subject: %s\n", result.error().message().c_str());
    std::exit(1);
}

// Each does something after its call, so that the call is no jump.
[[gnu::noipa]] bool nap() {
    return !this_fiber::sleep_for(1h);
}
[[gnu::noipa]] bool take_a_rest() {
    return !nap();
}
[[gnu::noipa]] std::byte read_a_byte(weft::tcp_stream& from) {
    std::byte byte{};
    (void)from.read_some({&byte, 1});
    return byte;
}
[[gnu::noipa]] void spin() {
    for (;;) std::this_thread::yield();
}

bool is(const weft::runtime& runtime, std::string_view name, fiber_activity activity) {
    for (const weft::fiber_info& each : runtime.fibers())
        if (each.name == name) return each.activity == activity;
    return false;
}

}  // namespace

int main(int argc, char** argv) {
    // Any process may look at this one, also where only parents may.
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    const std::string_view flag = argc > 1 ? argv[1] : "";
    if (flag == "--without-runtime") {
        std::puts("ready");
        std::fflush(stdout);
        std::getchar();
        return 0;
    }
    auto runtime = value_of(weft::runtime::create({.workers = 2,
                                                   .fibers_max = 64,
                                                   .allow_guard_install = flag != "--guards-by-mprotect",
                                                   .stuck_after = 0ms}));
    const auto on = [](unsigned worker, std::string_view name) {
        return weft::spawn_options{.name = name, .where = placement::fixed, .worker = worker};
    };
    auto sleeper = value_of(runtime->spawn(take_a_rest, on(0, "sleeper")));
    auto joiner = value_of(runtime->spawn([&] { sleeper.join(); }, on(0, "joiner")));
    auto receiver = value_of(runtime->spawn(
        [] {
            auto listener = value_of(weft::tcp_listener::open(*weft::address::parse("127.0.0.1:0")));
            auto client = value_of(weft::tcp_stream::connect(value_of(listener.local_address())));
            return read_a_byte(client);
        },
        on(0, "receiver")));
    auto finished = value_of(runtime->spawn([] {}, on(0, "finished")));
    auto spinner = value_of(runtime->spawn(spin, on(1, "spinner")));
    while (!is(*runtime, "spinner", fiber_activity::running)) std::this_thread::yield();
    auto queued = value_of(runtime->spawn([] {}, on(1, "queued")));
    for (const char* name : {"sleeper", "joiner", "receiver"})
        while (!is(*runtime, name, fiber_activity::parked)) std::this_thread::yield();
    while (!is(*runtime, "finished", fiber_activity::finished)) std::this_thread::yield();

    std::puts("ready");
    std::fflush(stdout);
    std::getchar();
    std::_Exit(0);  // some of the fibers never end
}
