// Undoes the chunked transfer coding, RFC 9112 7.1, strictly. No I/O, no allocation, no copies.
#pragma once

#include <weft/net/http/refusal.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace weft::http {

/// One body at a time; a new body needs a new decoder.
class chunked_decoder {
  public:
    enum class status { data, need_more, complete, refused };

    struct step {
        status what;
        /// Bytes of the input that are done with. What follows them is to be handed in next.
        std::size_t consumed;
        /// Of the body: a part of the input, and not empty exactly when `what` is `data`.
        std::span<const char> data;
    };

    /// Takes the bytes that follow those consumed so far. `need_more` has consumed all of them; after
    /// `complete` the next request begins behind the consumed ones. What the steps yield does not depend on
    /// how the bytes were split, but for the size of the pieces. `complete` and `refused` stay.
    step next(std::span<const char> input);

    /// After `refused`.
    const refusal& why() const { return *why_; }

  private:
    enum class state : std::uint8_t {
        size,
        extension,
        size_lf,
        data,
        data_cr,
        data_lf,
        trailer,
        trailer_name,
        trailer_value,
        trailer_lf,
        last_lf,
        complete,
        refused,
    };

    const refusal* take(char byte);

    const refusal* why_ = nullptr;
    std::uint64_t size_ = 0;    // of the chunk: as read so far, then what of its data is still to come
    std::uint32_t digits_ = 0;  // of the size that is being read
    std::uint32_t extension_bytes_ = 0;  // beyond those that the data so far makes up for
    std::uint32_t trailer_bytes_ = 0;
    state state_ = state::size;
};

}  // namespace weft::http
