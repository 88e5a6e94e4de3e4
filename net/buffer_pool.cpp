#include <weft/net/buffer_pool.hpp>

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

namespace weft {

result<buffer_pool> buffer_pool::create(std::size_t blocks_max) {
    buffer_pool made;
    made.memory_ = WEFT_TRY(reserved_memory::reserve(blocks_max * block_bytes));
    made.blocks_max_ = blocks_max;
    made.warm_.reserve(warm_max);
    return made;
}

std::span<std::byte> buffer_pool::acquire() noexcept {
    std::size_t index;
    if (!warm_.empty()) {
        index = warm_.back();
        warm_.pop_back();
    } else if (!cold_.empty()) {
        index = cold_.back();
        cold_.pop_back();
    } else if (fresh_ < blocks_max_) {
        index = fresh_++;
    } else {
        return {};
    }
    return {memory_.data() + index * block_bytes + index % 16 * 64, usable_bytes};
}

void buffer_pool::release(std::span<std::byte> block) noexcept {
    const auto index = static_cast<std::size_t>(block.data() - memory_.data()) / block_bytes;
    if (warm_.size() < warm_max) {
        warm_.push_back(static_cast<std::uint32_t>(index));
        return;
    }
    madvise(memory_.data() + index * block_bytes, block_bytes, MADV_DONTNEED);
    cold_.push_back(static_cast<std::uint32_t>(index));
}

std::span<std::byte> byte_buffer::reserve(std::size_t bytes) {
    if (memory_.size() - end_ < bytes) {
        if (begin_ != 0 && memory_.size() - size() >= bytes) {
            std::memmove(memory_.data(), memory_.data() + begin_, size());
        } else {
            const std::size_t needed = size() + bytes;
            std::span<std::byte> larger;
            if (memory_.empty() && needed <= buffer_pool::usable_bytes) larger = pool_.acquire();
            const bool heap = larger.empty();
            if (heap) {
                const std::size_t capacity = std::max(needed, memory_.size() * 2);
                larger = {new std::byte[capacity], capacity};
            }
            const std::size_t kept = size();
            if (kept != 0) std::memcpy(larger.data(), memory_.data() + begin_, kept);
            release();
            memory_ = larger;
            on_heap_ = heap;
            end_ = kept;
            return memory_.subspan(end_);
        }
        end_ -= std::exchange(begin_, 0);
    }
    return memory_.subspan(end_);
}

void byte_buffer::append(std::string_view text) {
    if (text.empty()) return;
    std::memcpy(reserve(text.size()).data(), text.data(), text.size());
    commit(text.size());
}

void byte_buffer::release() noexcept {
    if (on_heap_)
        delete[] memory_.data();
    else if (!memory_.empty())
        pool_.release(memory_);
    memory_ = {};
    begin_ = end_ = 0;
    on_heap_ = false;
}

}  // namespace weft
