#include <weft/net/http/message.hpp>

#include <weft/net/http/syntax.hpp>
#include <weft/runtime/assert.hpp>

namespace weft::http {

std::string_view request::param(std::string_view name) const noexcept {
    for (std::size_t n = 0; n < params_count_; ++n)
        if (params_[n].name == name) return params_[n].value;
    return {};
}

void request::add_param(std::string_view name, std::string_view value) noexcept {
    WEFT_ASSERT(params_count_ < params_max, "a route has too many parameters");
    params_[params_count_++] = {name, value};
}

response& response::header(std::string_view name, std::string_view value) {
    malformed_ |= name.empty() || !consists_of(token_byte, name) || !consists_of(value_byte, value);
    fields_.append(name).append(": ").append(value).append("\r\n");
    return *this;
}

result<void> response::send(std::string_view body, std::string_view content_type) {
    WEFT_ASSERT(!sent_, "a response is sent once");
    const bool final_status = status_ >= 200 && status_ <= 599;
    if (malformed_ || !final_status || !consists_of(value_byte, content_type))
        return failure(status_error(500));
    sent_ = true;
    return owner_.respond({.status = status_, .content_type = content_type, .fields = fields_}, body);
}

}  // namespace weft::http
