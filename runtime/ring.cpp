#include <weft/runtime/ring.hpp>

#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <vector>

#include <weft/runtime/arena.hpp>
#include <weft/runtime/assert.hpp>
#include <weft/runtime/log.hpp>
#include <weft/runtime/scheduler.hpp>
#include <weft/runtime/waiter.hpp>

// Newer than the headers of liburing 2.3:
#ifndef IORING_ENTER_NO_IOWAIT
#define IORING_ENTER_NO_IOWAIT (1U << 7)  // Linux 6.15: a waiting ring does not count as waiting for a disk
#endif
#ifndef IORING_FEAT_NO_IOWAIT
#define IORING_FEAT_NO_IOWAIT (1U << 17)  // Linux 6.15
#endif

namespace weft {
namespace {

struct rung {
    unsigned flags;
    const char* name;
};

// From the best down. FINDINGS: deferred task work is worth a tenth of a request's CPU.
constexpr std::array<rung, 3> ladder{{
    {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
         IORING_SETUP_SUBMIT_ALL,
     "single issuer, deferred task work"},
    {IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
     "cooperative task work"},
    {0, "plain"},
}};

// The low bits of user_data say what the rest points to.
enum completion_tag : std::uint64_t {
    tag_operation,
    tag_accept_stream,
    tag_receive_stream,
    tag_wake,
    tag_ignored,
};
constexpr std::uint64_t tag_mask = 7;

std::uint64_t tagged(const void* object, completion_tag tag) noexcept {
    return reinterpret_cast<std::uintptr_t>(object) | tag;
}

// The buffers of receive streams, which the kernel takes from a ring of its own and which go back as soon as
// their bytes have been taken. Few, so that they stay in the caches; when they run out there are twice as
// many from then on.
class receive_pool {
  public:
    static constexpr std::uint32_t buffer_bytes = 2048;
    static constexpr std::uint16_t group = 0;

    /// False: this kernel cannot do it.
    bool set_up(io_uring& ring) noexcept;
    bool usable() const noexcept { return buffers_ != nullptr; }

    std::byte* buffer(std::uint16_t id) const noexcept {
        return memory_.data() + std::size_t{id} * buffer_bytes;
    }
    void give(std::uint16_t id) noexcept {
        io_uring_buf_ring_add(buffers_, buffer(id), buffer_bytes, id, buffers_max - 1, 0);
        io_uring_buf_ring_advance(buffers_, 1);
    }
    void grow() noexcept {
        for (const auto until = std::min(given_ * 2, buffers_max); given_ < until; ++given_)
            give(static_cast<std::uint16_t>(given_));
    }

    struct piece {
        std::uint16_t next;
        std::uint16_t begin, end;  // of the bytes in the buffer that were not taken yet
    };
    piece& piece_in(std::uint16_t id) noexcept { return pieces_[id]; }

  private:
    static constexpr std::uint32_t buffers_max = 4096;
    static constexpr std::uint32_t buffers_at_first = 256;

    reserved_memory ring_memory_, memory_;
    io_uring_buf_ring* buffers_ = nullptr;
    std::uint32_t given_ = 0;
    std::vector<piece> pieces_;
};

bool receive_pool::set_up(io_uring& ring) noexcept {
    auto ring_memory = reserved_memory::reserve(buffers_max * sizeof(io_uring_buf));
    auto memory = reserved_memory::reserve(std::size_t{buffers_max} * buffer_bytes);
    if (!ring_memory || !memory) return false;
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<std::uintptr_t>(ring_memory->data());
    registration.ring_entries = buffers_max;
    registration.bgid = group;
    if (io_uring_register_buf_ring(&ring, &registration, 0) != 0) return false;
    ring_memory_ = std::move(*ring_memory);
    memory_ = std::move(*memory);
    buffers_ = reinterpret_cast<io_uring_buf_ring*>(ring_memory_.data());
    io_uring_buf_ring_init(buffers_);
    pieces_.resize(buffers_max);
    given_ = buffers_at_first / 2;
    for (std::uint32_t id = 0; id < given_; ++id) give(static_cast<std::uint16_t>(id));
    grow();
    return true;
}

void close_all(accept_stream& stream) {
    for (const int connection : stream.accepted) ::close(connection);
    ::close(stream.descriptor);
}

class ring final : public engine {
  public:
    static result<std::unique_ptr<engine>> make(const ring_options& options);
    ~ring() override;

    void start(operation& operation) noexcept override;
    void cancel(operation& operation) noexcept override {
        cancel_by_user_data(tagged(&operation, tag_operation));
    }
    void arm(accept_stream& stream) noexcept override;
    void disarm(accept_stream& stream) noexcept override {
        cancel_by_user_data(tagged(&stream, tag_accept_stream));
    }
    void abandon(std::unique_ptr<accept_stream> stream) noexcept override;
    bool has_taken(const operation& quiet) const noexcept override;
    receive_stream* open_stream(int descriptor) noexcept override;
    void arm(receive_stream& stream) noexcept override;
    void disarm(receive_stream& stream) noexcept override {
        cancel_by_user_data(tagged(&stream, tag_receive_stream));
    }
    std::size_t take(receive_stream& stream, std::span<std::byte> buffer) noexcept override;
    void end(receive_stream& stream) noexcept override;
    void let_go(receive_stream& stream) noexcept override;
    void adopt(receive_stream& stream) noexcept override { stream.owner = this; }
    void close(int descriptor) noexcept override;
    void turn(time_point now, time_point until) noexcept override;
    bool ready() const noexcept override;
    void wake() noexcept override;
    const engine_counters& counters() const noexcept override { return counters_; }
    std::string description() const override { return std::string("io_uring (") + rung_->name + ")"; }

  private:
    ring() = default;
    io_uring_sqe& next_entry() noexcept;
    unsigned flush() noexcept;
    void enter(unsigned to_submit, unsigned min_complete, const __kernel_timespec* timeout) noexcept;
    void reap() noexcept;
    void complete_accept(accept_stream& stream, int result, bool more) noexcept;
    void complete_receive(receive_stream& stream, const io_uring_cqe& entry) noexcept;
    void keep_pieces(receive_stream& stream) noexcept;
    void part_with_leaving() noexcept;
    static void hand_over(receive_stream& stream) noexcept;
    void cancel_by_user_data(std::uint64_t user_data) noexcept;
    void listen_for_wakes() noexcept;

    io_uring ring_{};
    bool initialised_ = false;
    const rung* rung_ = nullptr;
    unsigned enter_flags_ = 0;
    int enter_descriptor_ = -1;  // the ring's own, or its index among the registered rings of this thread
    int wake_descriptor_ = -1;   // an eventfd that is only ever written: a multishot poll sees each write
    std::vector<std::unique_ptr<accept_stream>> abandoned_;
    receive_pool pool_;
    receive_stream* closing_ = nullptr;              // those that end when the kernel has let go of them
    std::atomic<receive_stream*> leaving_{nullptr};  // those that other threads want, or want to end
    engine_counters counters_;
};

result<std::unique_ptr<engine>> ring::make(const ring_options& options) {
    std::unique_ptr<ring> made(new ring);
    int error = EINVAL;
    for (unsigned at = options.first_rung; at < ladder.size() && error != 0; ++at) {
        io_uring_params parameters{};
        parameters.flags = ladder[at].flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
        parameters.cq_entries = options.completion_entries;
        error = -io_uring_queue_init_params(options.submission_entries, &made->ring_, &parameters);
        made->rung_ = &ladder[at];
        if (error != 0 && error != EINVAL) break;  // a lower rung would not help
    }
    if (error != 0) return failure(ring_setup_error(error));
    made->initialised_ = true;

    constexpr unsigned needed =
        IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_CQE_SKIP | IORING_FEAT_FAST_POLL;
    if ((made->ring_.features & needed) != needed) return failure(ring_setup_error(ENOSYS));

    // Not through liburing: it would take the registration back in ~ring, which runs on another thread, where
    // the same index may name a ring of the host program. The kernel drops it with the thread that made it.
    made->enter_descriptor_ = made->ring_.ring_fd;
    io_uring_rsrc_update registration{};
    registration.offset = UINT32_MAX;  // any index that is free
    registration.data = static_cast<std::uint64_t>(made->ring_.ring_fd);
    if (io_uring_register(static_cast<unsigned>(made->ring_.ring_fd), IORING_REGISTER_RING_FDS, &registration,
                          1) == 1) {
        made->enter_descriptor_ = static_cast<int>(registration.offset);
        made->enter_flags_ |= IORING_ENTER_REGISTERED_RING;
    }
    if (made->ring_.features & IORING_FEAT_NO_IOWAIT) made->enter_flags_ |= IORING_ENTER_NO_IOWAIT;

    // Entry n of the queue is always described by slot n, so that flush() has only the tail to move.
    for (unsigned n = 0; n < made->ring_.sq.ring_entries; ++n) made->ring_.sq.array[n] = n;

    if (!made->pool_.set_up(made->ring_))
        log::info("no buffer rings: connections are received from by single operations");

    made->wake_descriptor_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (made->wake_descriptor_ < 0) return failure(system_error(errno));
    made->listen_for_wakes();
    return made;
}

ring::~ring() {
    if (initialised_) io_uring_queue_exit(&ring_);
    if (wake_descriptor_ >= 0) ::close(wake_descriptor_);
    for (auto& stream : abandoned_) close_all(*stream);
    while (closing_ != nullptr) delete std::exchange(closing_, closing_->next_closing);
    for (receive_stream* next = leaving_; next != nullptr;) delete std::exchange(next, next->next_leaving);
}

void ring::start(operation& operation) noexcept {
    io_uring_sqe& entry = next_entry();
    const int descriptor = operation.descriptor;
    switch (operation.what) {
        case operation::kind::receive:
            io_uring_prep_recv(&entry, descriptor, operation.data,
                               std::min(operation.length, operation_bytes_max), operation.flags);
            break;
        case operation::kind::send:
            io_uring_prep_send(&entry, descriptor, operation.data, operation.length, operation.flags);
            break;
        case operation::kind::send_message:
            io_uring_prep_sendmsg(&entry, descriptor, static_cast<msghdr*>(operation.data),
                                  static_cast<unsigned>(operation.flags));
            break;
        case operation::kind::connect:
            io_uring_prep_connect(&entry, descriptor, static_cast<const sockaddr*>(operation.data),
                                  static_cast<socklen_t>(operation.length));
            break;
        case operation::kind::accept:
            io_uring_prep_accept(&entry, descriptor, nullptr, nullptr, SOCK_CLOEXEC);
            break;
        case operation::kind::poll:
            io_uring_prep_poll_add(&entry, descriptor, static_cast<unsigned>(operation.flags));
            break;
    }
    if (operation.quiet) {
        // MSG_DONTWAIT: the kernel tries once, while it takes the submission, and never keeps the operation.
        // MSG_WAITALL makes a short send a failure, and a failure is reported in spite of the flag.
        entry.flags |= IOSQE_CQE_SKIP_SUCCESS;
        entry.msg_flags |= MSG_DONTWAIT | MSG_WAITALL;
    }
    io_uring_sqe_set_data64(&entry, tagged(&operation, tag_operation));
    operation.ticket = ring_.sq.sqe_tail;
}

bool ring::has_taken(const operation& quiet) const noexcept {
    // While the completion queue is overflown the report of a failure may not have been seen yet.
    return static_cast<std::int32_t>(io_uring_smp_load_acquire(ring_.sq.khead) - quiet.ticket) >= 0 &&
           (io_uring_smp_load_acquire(ring_.sq.kflags) & IORING_SQ_CQ_OVERFLOW) == 0;
}

receive_stream* ring::open_stream(int descriptor) noexcept {
    if (!pool_.usable()) return nullptr;
    auto* stream = new (std::nothrow) receive_stream;
    if (stream == nullptr) return nullptr;
    stream->owner = this;
    stream->descriptor = descriptor;
    return stream;
}

void ring::arm(receive_stream& stream) noexcept {
    io_uring_sqe& entry = next_entry();
    io_uring_prep_recv_multishot(&entry, stream.descriptor, nullptr, 0, 0);
    entry.flags |= IOSQE_BUFFER_SELECT;
    entry.buf_group = receive_pool::group;
    io_uring_sqe_set_data64(&entry, tagged(&stream, tag_receive_stream));
    stream.armed = true;
}

std::size_t ring::take(receive_stream& stream, std::span<std::byte> buffer) noexcept {
    std::size_t taken = 0;
    const auto move = [&](const std::byte* from, std::size_t bytes) {
        bytes = std::min(bytes, buffer.size() - taken);
        if (bytes != 0) std::memcpy(buffer.data() + taken, from, bytes);
        taken += bytes;
        return bytes;
    };
    if (stream.kept_taken < stream.kept.size()) {
        stream.kept_taken +=
            move(stream.kept.data() + stream.kept_taken, stream.kept.size() - stream.kept_taken);
        if (stream.kept_taken == stream.kept.size()) {
            stream.kept = {};
            stream.kept_taken = 0;
        }
    }
    while (stream.first_piece != receive_stream::no_piece && taken < buffer.size()) {
        const std::uint16_t id = stream.first_piece;
        receive_pool::piece& piece = pool_.piece_in(id);
        piece.begin = static_cast<std::uint16_t>(
            piece.begin + move(pool_.buffer(id) + piece.begin, piece.end - piece.begin));
        if (piece.begin < piece.end) break;
        stream.first_piece = piece.next;
        pool_.give(id);
    }
    keep_pieces(stream);
    return taken;
}

// What has not been taken is copied, so that the pool's buffers go back whatever the fiber does next.
void ring::keep_pieces(receive_stream& stream) noexcept {
    while (stream.first_piece != receive_stream::no_piece) {
        const std::uint16_t id = stream.first_piece;
        const receive_pool::piece piece = pool_.piece_in(id);
        stream.kept.insert(stream.kept.end(), pool_.buffer(id) + piece.begin, pool_.buffer(id) + piece.end);
        stream.first_piece = piece.next;
        pool_.give(id);
    }
}

void ring::end(receive_stream& stream) noexcept {
    keep_pieces(stream);
    if (!stream.armed) {
        delete &stream;
        return;
    }
    stream.closing = true;
    stream.waiting_fiber = nullptr;
    stream.next_closing = closing_;
    if (closing_ != nullptr) closing_->previous_closing = &stream;
    closing_ = &stream;
    disarm(stream);
}

void ring::let_go(receive_stream& stream) noexcept {
    receive_stream* head = leaving_.load(std::memory_order_relaxed);
    do {
        stream.next_leaving = head;
        // Release: pairs with the acquire in part_with_leaving, which sees `taker`. The owner takes the whole
        // list.
    } while (
        !leaving_.compare_exchange_weak(head, &stream, std::memory_order_release, std::memory_order_relaxed));
    wake();
}

void ring::part_with_leaving() noexcept {
    if (leaving_.load(std::memory_order_relaxed) == nullptr) [[likely]]
        return;
    receive_stream* next = leaving_.exchange(nullptr, std::memory_order_acquire);
    while (next != nullptr) {
        receive_stream& stream = *std::exchange(next, next->next_leaving);
        if (stream.taker == nullptr) {
            end(stream);
            continue;
        }
        keep_pieces(stream);
        stream.leaving = true;
        if (stream.armed)
            disarm(stream);
        else
            hand_over(stream);
    }
}

void ring::hand_over(receive_stream& stream) noexcept {
    stream.leaving = false;
    std::exchange(stream.taker, nullptr)->wake();
}

void ring::arm(accept_stream& stream) noexcept {
    io_uring_sqe& entry = next_entry();
    io_uring_prep_multishot_accept(&entry, stream.descriptor, nullptr, nullptr, SOCK_CLOEXEC);
    io_uring_sqe_set_data64(&entry, tagged(&stream, tag_accept_stream));
    stream.armed = true;
    stream.error = 0;
}

void ring::abandon(std::unique_ptr<accept_stream> stream) noexcept {
    stream->waiting_fiber = nullptr;
    disarm(*stream);
    abandoned_.push_back(std::move(stream));
}

void ring::close(int descriptor) noexcept {
    io_uring_sqe& entry = next_entry();
    io_uring_prep_close(&entry, descriptor);
    entry.flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(&entry, tag_ignored);
}

void ring::cancel_by_user_data(std::uint64_t user_data) noexcept {
    io_uring_sqe& entry = next_entry();
    io_uring_prep_cancel64(&entry, user_data, 0);
    entry.flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(&entry, tag_ignored);
}

void ring::listen_for_wakes() noexcept {
    io_uring_sqe& entry = next_entry();
    io_uring_prep_poll_multishot(&entry, wake_descriptor_, POLLIN);
    io_uring_sqe_set_data64(&entry, tag_wake);
}

void ring::wake() noexcept {
    const std::uint64_t one = 1;
    // Cannot fail: the counter would have to reach 2^64 - 1 first.
    [[maybe_unused]] const ssize_t written = ::write(wake_descriptor_, &one, sizeof one);
}

// The next free submission entry. When there is none, what waits is submitted first.
io_uring_sqe& ring::next_entry() noexcept {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    while (entry == nullptr) [[unlikely]] {
        enter(flush(), 0, nullptr);
        reap();  // the kernel takes nothing while the completion queue is overflown
        entry = io_uring_get_sqe(&ring_);
    }
    return *entry;
}

// Shows the kernel what was prepared; how many entries it has not taken yet.
unsigned ring::flush() noexcept {
    io_uring_sq& queue = ring_.sq;
    queue.sqe_head = queue.sqe_tail;
    io_uring_smp_store_release(queue.ktail, queue.sqe_tail);
    return queue.sqe_tail - io_uring_smp_load_acquire(queue.khead);
}

void ring::enter(unsigned to_submit, unsigned min_complete, const __kernel_timespec* timeout) noexcept {
    counters_.enters.add();
    unsigned flags = enter_flags_ | IORING_ENTER_GETEVENTS;
    io_uring_getevents_arg argument{};
    void* last = nullptr;
    if (timeout != nullptr) {
        argument.ts = reinterpret_cast<std::uintptr_t>(timeout);
        flags |= IORING_ENTER_EXT_ARG;
        last = &argument;
    }
    // The parameter's type says sigset_t* for historical reasons: with EXT_ARG it is the argument block.
    const int taken =
        io_uring_enter2(static_cast<unsigned>(enter_descriptor_), to_submit, min_complete, flags,
                        static_cast<sigset_t*>(last), last != nullptr ? sizeof argument : _NSIG / 8);
    if (taken >= 0) {
        counters_.submitted.add(static_cast<unsigned>(taken));
        return;
    }
    // Time is up; a signal; the completion queue is overflown (EBUSY) or there is no memory just now
    // (EAGAIN): what was not taken stays in the queue and goes with the next turn.
    WEFT_ASSERT(taken == -ETIME || taken == -EINTR || taken == -EBUSY || taken == -EAGAIN,
                "io_uring_enter failed: the ring's descriptor is gone or was misused");
}

void ring::turn(time_point now, time_point until) noexcept {
    const unsigned to_submit = flush();
    const unsigned kernel_flags = io_uring_smp_load_acquire(ring_.sq.kflags);
    if (kernel_flags & IORING_SQ_CQ_OVERFLOW) [[unlikely]]
        counters_.overflows.add();
    const bool look = kernel_flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
    const bool wait = until > now && io_uring_cq_ready(&ring_) == 0;
    if (wait && until != no_deadline) {
        const auto nanoseconds = (until - now).count();
        __kernel_timespec timeout{.tv_sec = nanoseconds / 1'000'000'000,
                                  .tv_nsec = nanoseconds % 1'000'000'000};
        enter(to_submit, 1, &timeout);
    } else if (wait || to_submit != 0 || look) {
        enter(to_submit, wait ? 1 : 0, nullptr);
    }
    reap();
    part_with_leaving();
}

bool ring::ready() const noexcept {
    return io_uring_cq_ready(&ring_) != 0 ||
           (io_uring_smp_load_acquire(ring_.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

void ring::reap() noexcept {
    // The head moves before an entry is acted on, because that may submit, and so come here again.
    for (unsigned head = *ring_.cq.khead; head != io_uring_smp_load_acquire(ring_.cq.ktail);
         head = *ring_.cq.khead) {
        const io_uring_cqe entry = ring_.cq.cqes[head & ring_.cq.ring_mask];
        io_uring_smp_store_release(ring_.cq.khead, head + 1);
        counters_.completed.add();
        void* object = reinterpret_cast<void*>(entry.user_data & ~tag_mask);
        const bool more = entry.flags & IORING_CQE_F_MORE;
        switch (entry.user_data & tag_mask) {
            case tag_operation: {
                auto& finished = *static_cast<operation*>(object);
                finished.result = entry.res;
                scheduler::complete(finished);
                break;
            }
            case tag_accept_stream:
                complete_accept(*static_cast<accept_stream*>(object), entry.res, more);
                break;
            case tag_receive_stream:
                complete_receive(*static_cast<receive_stream*>(object), entry);
                break;
            case tag_wake:
                counters_.wakes_received.add();
                if (!more) listen_for_wakes();
                break;
            default:
                break;
        }
    }
}

void ring::complete_accept(accept_stream& stream, int result, bool more) noexcept {
    if (result >= 0) stream.accepted.push_back(result);
    if (!more) {
        stream.armed = false;
        if (result < 0 && result != -ECANCELED) stream.error = -result;
    }
    if (stream.waiting_fiber != nullptr) scheduler::wake(*stream.waiting_fiber);
    if (!more && !abandoned_.empty()) {
        std::erase_if(abandoned_, [&](const std::unique_ptr<accept_stream>& each) {
            if (each.get() != &stream) return false;
            close_all(stream);
            return true;
        });
    }
}

void ring::complete_receive(receive_stream& stream, const io_uring_cqe& entry) noexcept {
    // While nobody waits, what comes is copied, so that a fiber that does something else for long holds none
    // of the pool's buffers; and at most so much of it: then the peer is left to fill its own side.
    constexpr std::size_t kept_bytes_max = 64 * 1024;

    const bool more = entry.flags & IORING_CQE_F_MORE;
    const bool has_buffer = entry.flags & IORING_CQE_F_BUFFER;
    const auto id = static_cast<std::uint16_t>(entry.flags >> IORING_CQE_BUFFER_SHIFT);
    stream.armed = more;

    if (has_buffer && entry.res > 0 && stream.waiting_fiber != nullptr) {
        pool_.piece_in(id) = {receive_stream::no_piece, 0, static_cast<std::uint16_t>(entry.res)};
        if (stream.first_piece == receive_stream::no_piece)
            stream.first_piece = id;
        else
            pool_.piece_in(stream.last_piece).next = id;
        stream.last_piece = id;
    } else if (has_buffer) {
        if (entry.res > 0 && !stream.closing) {
            stream.kept.insert(stream.kept.end(), pool_.buffer(id), pool_.buffer(id) + entry.res);
            if (more && stream.kept.size() >= kept_bytes_max) disarm(stream);
        }
        pool_.give(id);
    }
    if (entry.res == 0) {
        stream.ended = true;
    } else if (entry.res == -ENOBUFS) {
        // Nothing is lost: the bytes are in the socket, and whoever waits arms the stream again.
        counters_.buffers_ran_out.add();
        pool_.grow();
    } else if (entry.res < 0 && entry.res != -ECANCELED) {
        stream.error = -entry.res;
    }
    if (stream.closing && !more) {
        if (stream.previous_closing != nullptr)
            stream.previous_closing->next_closing = stream.next_closing;
        else
            closing_ = stream.next_closing;
        if (stream.next_closing != nullptr) stream.next_closing->previous_closing = stream.previous_closing;
        delete &stream;
        return;
    }
    if (stream.leaving && !more)
        hand_over(stream);
    else if (stream.waiting_fiber != nullptr)
        scheduler::wake(*stream.waiting_fiber);
}

}  // namespace

result<std::unique_ptr<engine>> make_ring(const ring_options& options) {
    return ring::make(options);
}

result<std::unique_ptr<engine>> make_default_ring() {
    return ring::make({});
}

}  // namespace weft
