#include <weft/runtime/log.hpp>

#include <signal.h>
#include <spdlog/async.h>
#include <spdlog/sinks/ansicolor_sink.h>

#include <cstdlib>
#include <future>
#include <optional>

#include <weft/runtime/log_level.hpp>

namespace weft {
namespace {

constexpr std::size_t lines_waiting_max = 8192;

std::optional<spdlog::level::level_enum> level_of(std::string_view name) {
    for (const auto level : {spdlog::level::trace, spdlog::level::debug, spdlog::level::info, spdlog::level::warn,
                             spdlog::level::err, spdlog::level::off}) {
        const auto its_name = spdlog::level::to_string_view(level);
        if (name == std::string_view(its_name.data(), its_name.size())) return level;
    }
    if (name == "warn") return spdlog::level::warn;
    return std::nullopt;
}

// The log of a process, whatever number of runtimes it has: there is one stderr.
struct process_log {
    process_log() {
        // The thread takes no signals: they are for whoever handles them.
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        threads = std::make_shared<spdlog::details::thread_pool>(lines_waiting_max, 1);
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        logger = std::make_shared<spdlog::async_logger>("weft", std::make_shared<spdlog::sinks::ansicolor_stderr_sink_mt>(),
                                                        threads, spdlog::async_overflow_policy::overrun_oldest);
        logger->set_pattern("%Y-%m-%d %H:%M:%S.%e %^%l%$ weft: %v");
        const char* wanted = std::getenv("WEFT_LOG");
        const auto level = level_of(wanted == nullptr ? "warn" : wanted);
        logger->set_level(level.value_or(spdlog::level::warn));
        logger->flush_on(spdlog::level::warn);
        if (!level) logger->warn("WEFT_LOG={} is no level: use trace, debug, info, warn, error or off", wanted);
    }

    std::shared_ptr<spdlog::details::thread_pool> threads;
    std::shared_ptr<spdlog::async_logger> logger;
};

process_log& the_log() {
    static process_log log;
    return log;
}

// Tells when the log's thread has come to it.
struct end_of_log final : spdlog::sinks::sink {
    void log(const spdlog::details::log_msg&) override { reached.set_value(); }
    void flush() override {}
    void set_pattern(const std::string&) override {}
    void set_formatter(std::unique_ptr<spdlog::formatter>) override {}

    std::promise<void> reached;
};

}  // namespace

namespace log {
spdlog::logger& logger() { return *the_log().logger; }
}  // namespace log

result<void> set_log_level(std::string_view name) {
    const auto level = level_of(name);
    if (!level) return failure(std::make_error_code(std::errc::invalid_argument));
    log::logger().set_level(*level);
    return {};
}

void flush_log() {
    // The pool has one thread, which takes lines in order. A line to a sink of its own comes after all that were logged
    // before; when others log so much meanwhile that it is dropped, its promise is broken, which ends the wait as well.
    auto last_sink = std::make_shared<end_of_log>();
    auto reached = last_sink->reached.get_future();
    the_log().logger->flush();
    std::make_shared<spdlog::async_logger>("", std::move(last_sink), the_log().threads)->critical("");
    reached.wait();
}

}  // namespace weft
