// What weft/runtime/atomic.hpp becomes under the model checker: each operation is a step that the explorer
// schedules, and a load reads what the explorer chooses of all that C++ allows it to read.
//
// As in std::atomic, but for the defaults: an order must be given.
#pragma once

#include <bit>
#include <cstring>
#include <type_traits>

#include <model/machine.hpp>

namespace model {

template <class T>
class atomic {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(std::uint64_t));

  public:
    atomic() : atomic(T{}) {}
    atomic(T initial) : location_(machine::create(this, bits(initial))) {}
    atomic(const atomic&) = delete;
    atomic& operator=(const atomic&) = delete;
    ~atomic() { machine::destroy(this, location_); }

    T load(std::memory_order order, place where = place::current()) const noexcept {
        return from_bits(machine::load(this, location_, order, where));
    }
    void store(T value, std::memory_order order, place where = place::current()) noexcept {
        machine::store(this, location_, bits(value), order, where);
    }
    T exchange(T value, std::memory_order order, place where = place::current()) noexcept {
        return modify({0, bits(value), mask}, order, where);
    }
    T fetch_add(T more, std::memory_order order, place where = place::current()) noexcept {
        return modify({mask, bits(more), mask}, order, where);
    }
    T fetch_sub(T less, std::memory_order order, place where = place::current()) noexcept {
        return modify({mask, -bits(less), mask}, order, where);
    }
    bool compare_exchange_strong(T& expected, T desired, std::memory_order success, std::memory_order failure,
                                 place where = place::current()) noexcept {
        std::uint64_t value = bits(expected);
        const bool exchanged =
            machine::compare_exchange(this, location_, value, bits(desired), {success, failure}, where);
        expected = from_bits(value);
        return exchanged;
    }
    bool compare_exchange_strong(T& expected, T desired, std::memory_order order,
                                 place where = place::current()) noexcept {
        return compare_exchange_strong(expected, desired, order, order_of_failure(order), where);
    }
    /// Never fails without need: the loops around it look the same either way.
    bool compare_exchange_weak(T& expected, T desired, std::memory_order success, std::memory_order failure,
                               place where = place::current()) noexcept {
        return compare_exchange_strong(expected, desired, success, failure, where);
    }
    void wait(T old, std::memory_order order, place where = place::current()) const noexcept {
        machine::wait(this, location_, bits(old), order, where);
    }
    void notify_one(place where = place::current()) noexcept { machine::notify(this, where); }

  private:
    static constexpr std::uint64_t mask = ~std::uint64_t{0} >> (64 - 8 * sizeof(T));

    static std::uint64_t bits(T value) noexcept {
        std::uint64_t all = 0;
        std::memcpy(&all, &value, sizeof value);
        return all;
    }
    static T from_bits(std::uint64_t all) noexcept {
        T value;
        std::memcpy(&value, &all, sizeof value);
        return value;
    }
    static std::memory_order order_of_failure(std::memory_order success) noexcept {
        if (success == std::memory_order_acq_rel) return std::memory_order_acquire;
        if (success == std::memory_order_release) return std::memory_order_relaxed;
        return success;
    }
    T modify(change how, std::memory_order order, place where) noexcept {
        return from_bits(machine::modify(this, location_, how, order, where));
    }

    // As large and as aligned as T, so that the layout of what it lies in does not change.
    alignas(T) alignas(std::uint32_t) std::uint32_t location_;
};

}  // namespace model

namespace weft {

template <class T>
using atomic = model::atomic<T>;

inline void full_fence(model::place where = model::place::current()) noexcept {
    model::machine::fence(where);
}

inline void pause_in_spin(model::place where = model::place::current()) noexcept {
    model::machine::pause(where);
}

}  // namespace weft
