// Everything but HTTP: #include <weft/weft.hpp>
#pragma once

#include <weft/net/address.hpp>
#include <weft/net/serve.hpp>
#include <weft/net/tcp.hpp>
#include <weft/runtime/fiber.hpp>
#include <weft/runtime/log_level.hpp>
#include <weft/runtime/result.hpp>
#include <weft/runtime/runtime.hpp>
#include <weft/runtime/thread_mutex.hpp>
