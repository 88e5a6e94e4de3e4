// Fuzzes the request parser and the chunked decoder: however the bytes are split and wherever they lie, the
// outcome is that of the bytes in one piece. Needs clang:
//   clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -I<build>/include \
//       tests/http/fuzz_parser.cpp net/http/parser.cpp net/http/chunked.cpp -o fuzz_parser && ./fuzz_parser
#include <weft/net/http/chunked.hpp>
#include <weft/net/http/parser.hpp>

#include <array>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace {

using weft::http::chunked_decoder;
using weft::http::request_parser;

void require(bool holds) {
    if (!holds) std::abort();
}

// A copy on the heap of exactly that size, so that AddressSanitizer sees each byte that is read beyond it.
class exact_copy {
  public:
    explicit exact_copy(std::string_view bytes) : size_(bytes.size()), bytes_(new char[bytes.size()]) {
        bytes.copy(bytes_.get(), size_);
    }
    operator std::span<const char>() const { return {bytes_.get(), size_}; }

  private:
    std::size_t size_;
    std::unique_ptr<char[]> bytes_;
};

std::string request_outcome(std::string_view bytes, const std::vector<std::size_t>& ends) {
    constexpr weft::http::limits limits = {
        .request_line_bytes_max = 256, .header_bytes_max = 1024, .headers_max = 16};
    std::array<weft::http::header, 16> storage;
    request_parser parser(storage, limits);
    std::vector<exact_copy> copies;  // the last one stays for as long as the head is looked at
    auto status = request_parser::status::incomplete;
    for (const std::size_t end : ends) {
        exact_copy copy(bytes.substr(0, end));
        status = parser.parse(copy);
        copies.clear();
        copies.push_back(std::move(copy));
        if (status != request_parser::status::incomplete) break;
    }
    if (status == request_parser::status::incomplete) return "incomplete";
    if (status == request_parser::status::refused) return "refused: " + std::string(parser.why().reason);

    const weft::http::request_head& head = parser.head();
    require(parser.head_bytes() <= bytes.size() && parser.head_bytes() <= limits.header_bytes_max);
    require(bytes.substr(0, parser.head_bytes()).ends_with("\r\n\r\n"));
    std::string text =
        std::to_string(parser.head_bytes()) + " " + std::to_string(static_cast<int>(head.verb)) + " " +
        std::to_string(head.version_minor) + " " + std::to_string(static_cast<int>(head.framing)) + " " +
        std::to_string(head.content_length) + (head.keep_alive ? " keep" : "") +
        (head.expect_continue ? " expect" : "");
    for (const auto view : {head.method_name, head.target, head.path, head.query, head.host})
        text.append("\n").append(view);
    for (const auto& [name, value] : head.headers) text.append("\n").append(name).append(":").append(value);
    return text;
}

std::string body_outcome(std::string_view bytes, const std::vector<std::size_t>& ends) {
    chunked_decoder decoder;
    std::string body;
    std::size_t consumed = 0;
    auto last = chunked_decoder::status::need_more;
    for (const std::size_t end : ends) {
        const exact_copy copy(bytes.substr(consumed, end - consumed));
        std::span<const char> input = copy;
        do {
            const auto step = decoder.next(input);
            require(step.consumed <= input.size());
            require(step.data.empty() == (step.what != chunked_decoder::status::data));
            body.append(step.data.data(), step.data.size());
            input = input.subspan(step.consumed);
            consumed += step.consumed;
            last = step.what;
        } while (last == chunked_decoder::status::data);
        if (last != chunked_decoder::status::need_more) break;
        require(consumed == end);
    }
    return std::to_string(static_cast<int>(last)) + " " + std::to_string(consumed) + " " + body;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    std::vector<std::size_t> every_end;
    for (std::size_t end = 0; end <= size; ++end) every_end.push_back(end);
    const std::size_t middle = size == 0 ? 0 : data[size / 2] % size;

    for (const auto outcome_of : {request_outcome, body_outcome}) {
        const std::string whole = outcome_of(bytes, {size});
        require(outcome_of(bytes, every_end) == whole);
        require(outcome_of(bytes, {middle, size}) == whole);
    }
    return 0;
}
