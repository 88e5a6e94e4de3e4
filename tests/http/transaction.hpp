// A request's connection that remembers what it was told to send.
#pragma once

#include <string>

#include <weft/net/http/message.hpp>

namespace weft::testing {

struct fake_transaction final : http::transaction {
    std::string body_to_read;
    int status = 0;
    int answers = 0;
    std::string content_type, fields, body;

    result<std::string_view> read_body() override { return std::string_view(body_to_read); }
    result<void> respond(const http::response_head& head, std::string_view text) override {
        ++answers;
        status = head.status;
        content_type = head.content_type;
        fields = head.fields;
        body = text;
        return {};
    }
};

}  // namespace weft::testing
