// HTTP, and everything below it: #include <weft/http.hpp>
#pragma once

#include <weft/net/http/message.hpp>
#include <weft/net/http/router.hpp>
#include <weft/net/http/server.hpp>
#include <weft/net/http/status.hpp>
#include <weft/weft.hpp>
