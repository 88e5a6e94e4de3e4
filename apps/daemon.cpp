#include "apps/daemon.hpp"

#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include <weft/net/address.hpp>
#include <weft/runtime/log_level.hpp>
#include <weft/runtime/topology.hpp>

namespace weft::apps {
namespace {

// Every connection is a descriptor: take as many as the administrator allows.
void raise_descriptor_limit() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

duration daemon_flags::drain_deadline() const {
    return std::chrono::duration_cast<duration>(std::chrono::duration<double>(drain_seconds));
}

std::optional<int> parse_flags(CLI::App& app, int argc, char** argv, daemon_flags& flags) {
    std::string cpus, log_level;
    app.set_version_flag("--version", app.get_name() + " " WEFT_VERSION);
    app.add_option("--listen", flags.listen,
                   "ADDRESS:PORT to listen on, [V6]:PORT too; port 0 takes a free one; may be repeated")
        ->capture_default_str()
        ->allow_extra_args(false)
        ->check([](const std::string& text) {
            return address::parse(text) ? ""
                                        : "'" + text + "' is no address like 127.0.0.1:8080 or [::1]:8080";
        });
    app.add_option("--workers", flags.workers, "worker threads; by default one for each CPU that may be used")
        ->check(CLI::Range(1u, 1024u));
    app.add_option("--cpus", cpus, "CPUs to bind the workers to, like 0,2-3");
    app.add_option("--drain-seconds", flags.drain_seconds,
                   "how long requests in flight may take after SIGTERM")
        ->capture_default_str()
        ->check(CLI::Range(0.0, 86400.0));
    app.add_option("--log-level", log_level,
                   "trace, debug, info, warn, error or off; WEFT_LOG does the same");
    app.add_flag("--stats", flags.stats, "print a line of counters at the end");
    app.footer("SIGTERM and SIGINT end it, a second one at once; SIGUSR2 has it list its fibers on stderr.");
    try {
        app.parse(argc, argv);
        if (!cpus.empty()) {
            auto parsed = parse_cpu_list(cpus);
            if (!parsed) throw CLI::ValidationError("--cpus", "'" + cpus + "' is no list of CPUs like 0,2-3");
            flags.cpus = std::move(*parsed);
        }
        if (!log_level.empty() && !set_log_level(log_level))
            throw CLI::ValidationError("--log-level", "'" + log_level + "' is no level");
    } catch (const CLI::Success& asked) {  // --help, --version
        return app.exit(asked);
    } catch (const CLI::ParseError& error) {
        std::fprintf(stderr, "%s: %s (--help lists the flags)\n", app.get_name().c_str(), error.what());
        return 2;
    }
    raise_descriptor_limit();
    return std::nullopt;
}

void print_listening(const address& at) {
    std::fprintf(stderr, "listening on %s\n", at.to_string().c_str());
}

int run_daemon(const daemon_flags& flags, const std::function<result<void>()>& main,
               const std::function<std::string()>& own_stats) {
    runtime_counters counters;
    stack_use stacks;
    const int status = run(flags.runtime(), [&] {
        auto returned = main();
        counters = this_fiber::counters();
        if (flags.stats) stacks = this_fiber::stack_use_of(stack_class::standard);
        return returned;
    });
    if (flags.stats)
        std::fprintf(stderr,
                     "stats: enters=%lu operations=%lu runs=%lu sleeps=%lu wakes=%lu fibers=%lu away=%lu "
                     "stacks_most=%u stack_bytes_deepest=%zu%s\n",
                     counters.enters, counters.operations, counters.runs, counters.sleeps,
                     counters.wakes_sent, counters.fibers_born, counters.fibers_born_away, stacks.stacks_most,
                     stacks.deepest_bytes, own_stats ? own_stats().c_str() : "");
    return status;
}

}  // namespace weft::apps
