// How the readers of HTTP messages say no.
#pragma once

#include <string_view>

namespace weft::http {

/// Why bytes were refused: the status to answer with before the connection is closed, and a phrase for the
/// log.
struct refusal {
    int status = 0;
    std::string_view reason;  ///< Static text.
};

}  // namespace weft::http
