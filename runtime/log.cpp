#include <weft/runtime/log.hpp>

#include <signal.h>
#include <spdlog/async.h>
#include <spdlog/sinks/ansicolor_sink.h>

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <optional>

#include <weft/runtime/log_level.hpp>

namespace weft {
namespace {

constexpr std::size_t lines_waiting_max = 8192;

std::optional<spdlog::level::level_enum> level_of(std::string_view name) {
    for (const auto level : {spdlog::level::trace, spdlog::level::debug, spdlog::level::info,
                             spdlog::level::warn, spdlog::level::err, spdlog::level::off}) {
        const auto its_name = spdlog::level::to_string_view(level);
        if (name == std::string_view(its_name.data(), its_name.size())) return level;
    }
    if (name == "warn") return spdlog::level::warn;
    return std::nullopt;
}

// Tells when the log's thread has come to it.
class end_of_log final : public spdlog::sinks::sink {
  public:
    void log(const spdlog::details::log_msg&) override {
        std::lock_guard lock(mutex_);
        ++lines_;
        lines_changed_.notify_all();
    }
    void flush() override {}
    void set_pattern(const std::string&) override {}
    void set_formatter(std::unique_ptr<spdlog::formatter>) override {}

    std::uint64_t lines() {
        std::lock_guard lock(mutex_);
        return lines_;
    }
    /// False when that takes suspiciously long.
    bool wait_for_more_than(std::uint64_t lines) {
        std::unique_lock lock(mutex_);
        return lines_changed_.wait_for(lock, std::chrono::milliseconds(100), [&] { return lines_ > lines; });
    }

  private:
    std::mutex mutex_;
    std::condition_variable lines_changed_;
    std::uint64_t lines_ = 0;
};

// The log of a process, whatever number of runtimes it has: there is one stderr.
struct process_log {
    process_log() {
        // The thread takes no signals: they are for whoever handles them.
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        threads = std::make_shared<spdlog::details::thread_pool>(lines_waiting_max, 1);
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        logger = std::make_shared<spdlog::async_logger>(
            "weft", std::make_shared<spdlog::sinks::ansicolor_stderr_sink_mt>(), threads,
            spdlog::async_overflow_policy::overrun_oldest);
        logger->set_pattern("%Y-%m-%d %H:%M:%S.%e %^%l%$ weft: %v");
        const char* wanted = std::getenv("WEFT_LOG");
        const auto level = level_of(wanted == nullptr ? "warn" : wanted);
        logger->set_level(level.value_or(spdlog::level::warn));
        logger->flush_on(spdlog::level::warn);
        end_logger = std::make_shared<spdlog::async_logger>("", end, threads);
        if (!level)
            logger->warn("WEFT_LOG={} is no level: use trace, debug, info, warn, error or off", wanted);
    }

    std::shared_ptr<spdlog::details::thread_pool> threads;
    std::shared_ptr<spdlog::async_logger> logger;
    std::shared_ptr<end_of_log> end = std::make_shared<end_of_log>();
    std::shared_ptr<spdlog::async_logger> end_logger;
};

process_log& the_log() {
    static process_log log;
    return log;
}

}  // namespace

namespace log {
spdlog::logger& logger() {
    return *the_log().logger;
}
}  // namespace log

result<void> set_log_level(std::string_view name) {
    const auto level = level_of(name);
    if (!level) return failure(std::make_error_code(std::errc::invalid_argument));
    log::logger().set_level(*level);
    return {};
}

void flush_log() {
    // The pool has one thread, which takes lines in order: a line to a sink of its own comes after all that
    // were logged before. It is dropped when others log too much meanwhile; then another one follows.
    auto& log = the_log();
    log.logger->flush();
    const std::uint64_t lines_before = log.end->lines();
    do log.end_logger->critical("");
    while (!log.end->wait_for_more_than(lines_before));
}

}  // namespace weft
