// weft's own log: asynchronous, to stderr. Internal: users set its level (log_level.hpp) and log by their own
// means.
//
// A line is formatted by the caller and written by a thread of the log's own, so a worker never waits for a
// terminal. When nobody takes lines as fast as they come, the oldest are dropped. The hot path logs nothing.
#pragma once

#include <spdlog/logger.h>

namespace weft::log {

spdlog::logger& logger();

template <class... Arguments>
void debug(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    logger().debug(format, std::forward<Arguments>(arguments)...);
}
template <class... Arguments>
void info(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    logger().info(format, std::forward<Arguments>(arguments)...);
}
template <class... Arguments>
void warn(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    logger().warn(format, std::forward<Arguments>(arguments)...);
}
template <class... Arguments>
void error(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    logger().error(format, std::forward<Arguments>(arguments)...);
}

}  // namespace weft::log
