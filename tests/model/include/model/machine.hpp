// What the model's atomics, plain variables and signals ask of the explorer. Tests use atomic.hpp and
// explorer.hpp.
#pragma once

#include <atomic>
#include <cstdint>
#include <source_location>

#include <model/memory.hpp>

namespace model {

/// Where in the code an operation stands.
using place = std::source_location;

/// What a read-modify-write makes of the value that it reads, modulo `mask`.
struct change {
    std::uint64_t keep;
    std::uint64_t add;
    std::uint64_t mask;
};

/// The orders of a compare-exchange.
struct exchange_orders {
    std::memory_order success;
    std::memory_order failure;
};

namespace machine {

std::uint32_t create(void* address, std::uint64_t value);
void destroy(const void* address, std::uint32_t location);
std::uint64_t load(const void* address, std::uint32_t location, std::memory_order order, place where);
void store(const void* address, std::uint32_t location, std::uint64_t value, std::memory_order order,
           place where);
std::uint64_t modify(const void* address, std::uint32_t location, change how, std::memory_order order,
                     place where);
bool compare_exchange(const void* address, std::uint32_t location, std::uint64_t& expected,
                      std::uint64_t desired, exchange_orders orders, place where);
/// Blocks until the atomic has another value and somebody has said so.
void wait(const void* address, std::uint32_t location, std::uint64_t old, std::memory_order order,
          place where);
/// Uses the address only: what was there may be gone.
void notify(const void* address, place where);
void fence(place where);
void pause(place where);
void read_plain(const void* address, access_record& object, place where);
void write_plain(const void* address, access_record& object, place where);
void signal_set(bool& set, place where);
void signal_wait(bool& set, place where);

}  // namespace machine
}  // namespace model
