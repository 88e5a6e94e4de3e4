#include <doctest/doctest.h>

#include <cerrno>
#include <memory>
#include <set>
#include <string>

#include <weft/runtime/result.hpp>

using weft::errc;
using weft::result;

namespace {

result<int> half(int number) {
    if (number % 2 != 0) return weft::failure(errc::address_invalid);
    return number / 2;
}

result<int> quarter(int number) {
    return half(WEFT_TRY(half(number)));
}

result<void> must_be_even(int number) {
    WEFT_TRY(half(number));
    return {};
}

result<int> one_if_even(int number) {
    WEFT_TRY(must_be_even(number));
    return 1;
}

result<std::unique_ptr<int>> boxed(int number) {
    return std::make_unique<int>(WEFT_TRY(half(number)));
}

result<int> unboxed(int number) {
    const auto box = WEFT_TRY(boxed(number));
    return *box;
}

}  // namespace

TEST_CASE("result: WEFT_TRY yields the value") {
    CHECK(quarter(12) == 3);
    CHECK(one_if_even(4) == 1);
    CHECK(unboxed(8) == 4);
}

TEST_CASE("result: WEFT_TRY returns the error from the enclosing function, whatever its value type") {
    CHECK(quarter(6).error() == errc::address_invalid);
    CHECK(must_be_even(3).error() == errc::address_invalid);
    CHECK(one_if_even(3).error() == errc::address_invalid);
    CHECK(unboxed(3).error() == errc::address_invalid);
}

TEST_CASE("result: WEFT_TRY evaluates its expression once, commas included") {
    int evaluations = 0;
    const auto count = [&](int a, int b) -> result<int> {
        ++evaluations;
        return a + b;
    };
    const auto sum = [&]() -> result<int> { return WEFT_TRY(count(1, 2)) + 10; }();
    CHECK(sum == 13);
    CHECK(evaluations == 1);
}

TEST_CASE("result: WEFT_TRY moves a value out and does not copy it") {
    auto owner = [box = std::make_unique<int>(7)]() mutable -> result<std::unique_ptr<int>> {
        return std::move(box);
    };
    const auto taken = [&]() -> result<std::unique_ptr<int>> { return WEFT_TRY(owner()); }();
    REQUIRE(taken);
    CHECK(**taken == 7);
}

TEST_CASE("result: each error has a message of its own, and an unknown one says its number") {
    std::set<std::string> messages;
    for (int code = static_cast<int>(errc::timed_out); code <= static_cast<int>(errc::too_many_fibers);
         ++code)
        messages.insert(weft::error_category().message(code));
    CHECK(messages.size() == static_cast<std::size_t>(errc::too_many_fibers));
    CHECK_FALSE(messages.contains(""));
    CHECK(weft::error_category().message(4711) == "unknown error 4711");
    CHECK(std::string(weft::error_category().name()) == "weft");
}

TEST_CASE("result: time-outs, cancellations and interruptions compare equal to the standard's conditions") {
    CHECK(make_error_code(errc::timed_out) == std::errc::timed_out);
    CHECK(make_error_code(errc::cancelled) == std::errc::operation_canceled);
    CHECK(make_error_code(errc::closed) != std::errc::timed_out);
    CHECK(weft::system_error(ETIMEDOUT) == std::errc::timed_out);
    CHECK(weft::system_error(ETIMEDOUT) != make_error_code(errc::timed_out));
}
