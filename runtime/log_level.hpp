// How much weft says on stderr.
#pragma once

#include <string_view>

#include <weft/runtime/result.hpp>

namespace weft {

/// `trace`, `debug`, `info`, `warn` (the default), `error` or `off`; std::errc::invalid_argument for anything
/// else. The environment variable WEFT_LOG sets the same at the first use; a call of this wins over it. Any
/// thread.
[[nodiscard]] result<void> set_log_level(std::string_view name);

/// Waits until everything that was logged has been written. Blocks the thread; for the end of main.
void flush_log();

}  // namespace weft
