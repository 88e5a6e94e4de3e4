// weft-echo: sends back what it receives.
#include <CLI/CLI.hpp>
#include <array>

#include <weft/weft.hpp>

#include "apps/daemon.hpp"

namespace {

constexpr weft::duration write_stall_max = std::chrono::seconds(60);
constexpr weft::duration farewell_max = std::chrono::seconds(5);

weft::result<void> echo(weft::tcp_stream& peer) {
    // One buffer is sent from while the other is received into.
    std::array<std::byte, 16 * 1024> first, second;
    std::span<std::byte> free = second, received = WEFT_TRY(peer.read_some(first));
    bool first_is_free = false;
    while (!received.empty()) {
        auto [written, read] = peer.exchange(received, weft::this_fiber::now() + write_stall_max, free);
        WEFT_TRY(std::move(written));
        received = WEFT_TRY(std::move(read));
        first_is_free = !first_is_free;
        free = first_is_free ? first : second;
    }
    return peer.finish(weft::this_fiber::now() + farewell_max);
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Sends back what it receives.", "weft-echo");
    weft::apps::daemon_flags flags{.listen = {"127.0.0.1:7000"}};
    if (const auto status = weft::apps::parse_flags(app, argc, argv, flags)) return *status;
    return weft::apps::run_daemon(flags, [&] {
        return weft::serve({.listen = flags.listen,
                            .name = "echo",
                            .drain_deadline = flags.drain_deadline(),
                            .on_listening = weft::apps::print_listening},
                           echo);
    });
}
