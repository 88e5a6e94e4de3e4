// What the daemons have in common: flags, limits of the process, the lines that they print.
#pragma once

#include <signal.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <weft/net/serve.hpp>
#include <weft/runtime/runtime.hpp>

namespace CLI {
class App;
}

namespace weft::apps {

struct daemon_flags {
    std::vector<std::string> listen = {};
    unsigned workers = 0;
    std::vector<int> cpus = {};
    double drain_seconds = 10;
    bool stats = false;

    runtime_options runtime() const {
        return {.workers = workers, .cpus = cpus, .list_fibers_on_signal = SIGUSR2};
    }
    duration drain_deadline() const;
};

/// Adds the common flags to `app`, parses, and applies what concerns the process as a whole (log level,
/// descriptor limit). An exit status when the program is to end now: 0 after --help and --version, 2 after a
/// line that says which flag is wrong.
std::optional<int> parse_flags(CLI::App& app, int argc, char** argv, daemon_flags& flags);

/// The line that says that the daemon is ready, and where.
void print_listening(const address& at);

/// weft::run, and then, with --stats, one line of counters.
int run_daemon(const daemon_flags& flags, const std::function<result<void>()>& main,
               const std::function<std::string()>& own_stats = {});

}  // namespace weft::apps
