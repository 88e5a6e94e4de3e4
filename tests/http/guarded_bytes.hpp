// Room for bytes that ends where memory ends: reading one byte too far crashes.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string_view>

class guarded_bytes {
  public:
    explicit guarded_bytes(std::size_t size_max) {
        const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        size_ = (size_max + page - 1) / page * page;
        void* const mapped =
            mmap(nullptr, size_ + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (mapped == MAP_FAILED) throw std::runtime_error("no memory for guarded bytes");
        begin_ = static_cast<char*>(mapped);
        mapped_size_ = size_ + page;
        if (mprotect(begin_ + size_, page, PROT_NONE) != 0) throw std::runtime_error("no guard page");
    }
    ~guarded_bytes() { munmap(begin_, mapped_size_); }
    guarded_bytes(const guarded_bytes&) = delete;
    guarded_bytes& operator=(const guarded_bytes&) = delete;

    /// A copy that ends at the guard page and takes the place of the one before, which is wiped: a view that
    /// still points to where the bytes were shows.
    std::span<const char> put(std::string_view bytes) {
        if (bytes.size() > size_) throw std::length_error("more than guarded_bytes has room for");
        std::memset(begin_, '!', size_);
        char* const at = begin_ + (size_ - bytes.size());
        if (!bytes.empty()) std::memcpy(at, bytes.data(), bytes.size());
        return {at, bytes.size()};
    }

  private:
    char* begin_ = nullptr;
    std::size_t size_ = 0;
    std::size_t mapped_size_ = 0;
};
