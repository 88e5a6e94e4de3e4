#include <weft/runtime/ring.hpp>

#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

#include <weft/runtime/assert.hpp>
#include <weft/runtime/scheduler.hpp>

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
    {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
     "single issuer, deferred task work"},
    {IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL, "cooperative task work"},
    {0, "plain"},
}};

// The low bits of user_data say what the rest points to.
enum completion_tag : std::uint64_t { tag_operation = 0, tag_accept_stream = 1, tag_wake = 2, tag_ignored = 3 };
constexpr std::uint64_t tag_mask = 3;

std::uint64_t tagged(const void* object, completion_tag tag) noexcept {
    return reinterpret_cast<std::uintptr_t>(object) | tag;
}

enum class setup_error { no_kernel_support = 1, disabled_by_sysctl, forbidden, no_memory };

class setup_error_category final : public std::error_category {
  public:
    const char* name() const noexcept override { return "io_uring"; }
    std::string message(int code) const override {
        switch (static_cast<setup_error>(code)) {
            case setup_error::no_kernel_support:
                return "io_uring is not there: this kernel was built without it or is older than Linux 6.1; run a newer one";
            case setup_error::disabled_by_sysctl:
                return "io_uring is switched off by the sysctl kernel.io_uring_disabled; set it to 0";
            case setup_error::forbidden:
                return "io_uring is forbidden, most likely by a container's seccomp filter; allow io_uring_setup, "
                       "io_uring_enter and io_uring_register in it";
            case setup_error::no_memory:
                return "io_uring got no memory; raise the limit of locked memory (ulimit -l) or the container's memory";
        }
        return "io_uring cannot be set up";
    }
};

std::error_code make(setup_error error) {
    static const setup_error_category category;
    return {static_cast<int>(error), category};
}

int io_uring_disabled_sysctl() {
    int value = 0;
    std::ifstream("/proc/sys/kernel/io_uring_disabled") >> value;
    return value;
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
    void cancel(operation& operation) noexcept override { cancel_by_user_data(tagged(&operation, tag_operation)); }
    void arm(accept_stream& stream) noexcept override;
    void disarm(accept_stream& stream) noexcept override { cancel_by_user_data(tagged(&stream, tag_accept_stream)); }
    void abandon(std::unique_ptr<accept_stream> stream) noexcept override;
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
    void cancel_by_user_data(std::uint64_t user_data) noexcept;
    void listen_for_wakes() noexcept;

    io_uring ring_{};
    bool initialised_ = false;
    const rung* rung_ = nullptr;
    unsigned enter_flags_ = 0;
    int enter_descriptor_ = -1;  // the ring's own, or its index among the registered rings of this thread
    int wake_descriptor_ = -1;   // an eventfd that is only ever written: a multishot poll sees each write
    std::vector<std::unique_ptr<accept_stream>> abandoned_;
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

    constexpr unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_CQE_SKIP | IORING_FEAT_FAST_POLL;
    if ((made->ring_.features & needed) != needed) return failure(weft::make(setup_error::no_kernel_support));

    // Not through liburing: it would take the registration back in ~ring, which runs on another thread, where the same
    // index may name a ring of the host program. The kernel drops it with the thread that made it.
    made->enter_descriptor_ = made->ring_.ring_fd;
    io_uring_rsrc_update registration{};
    registration.offset = UINT32_MAX;  // any index that is free
    registration.data = static_cast<std::uint64_t>(made->ring_.ring_fd);
    if (io_uring_register(static_cast<unsigned>(made->ring_.ring_fd), IORING_REGISTER_RING_FDS, &registration, 1) == 1) {
        made->enter_descriptor_ = static_cast<int>(registration.offset);
        made->enter_flags_ |= IORING_ENTER_REGISTERED_RING;
    }
    if (made->ring_.features & IORING_FEAT_NO_IOWAIT) made->enter_flags_ |= IORING_ENTER_NO_IOWAIT;

    // Entry n of the queue is always described by slot n, so that flush() has only the tail to move.
    for (unsigned n = 0; n < made->ring_.sq.ring_entries; ++n) made->ring_.sq.array[n] = n;

    made->wake_descriptor_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (made->wake_descriptor_ < 0) return failure(system_error(errno));
    made->listen_for_wakes();
    return made;
}

ring::~ring() {
    if (initialised_) io_uring_queue_exit(&ring_);
    if (wake_descriptor_ >= 0) ::close(wake_descriptor_);
    for (auto& stream : abandoned_) close_all(*stream);
}

void ring::start(operation& operation) noexcept {
    io_uring_sqe& entry = next_entry();
    const int descriptor = operation.descriptor;
    switch (operation.what) {
        case operation::kind::receive:
            io_uring_prep_recv(&entry, descriptor, operation.data, operation.length, operation.flags);
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
    ++counters_.enters;
    unsigned flags = enter_flags_ | IORING_ENTER_GETEVENTS;
    io_uring_getevents_arg argument{};
    void* last = nullptr;
    if (timeout != nullptr) {
        argument.ts = reinterpret_cast<std::uintptr_t>(timeout);
        flags |= IORING_ENTER_EXT_ARG;
        last = &argument;
    }
    // The parameter's type says sigset_t* for historical reasons: with EXT_ARG it is the argument block.
    const int taken = io_uring_enter2(static_cast<unsigned>(enter_descriptor_), to_submit, min_complete, flags,
                                      static_cast<sigset_t*>(last), last != nullptr ? sizeof argument : _NSIG / 8);
    if (taken >= 0) {
        counters_.submitted += static_cast<unsigned>(taken);
        return;
    }
    // Time is up; a signal; the completion queue is overflown (EBUSY) or there is no memory just now (EAGAIN): what was
    // not taken stays in the queue and goes with the next turn.
    WEFT_ASSERT(taken == -ETIME || taken == -EINTR || taken == -EBUSY || taken == -EAGAIN,
                "io_uring_enter failed: the ring's descriptor is gone or was misused");
}

void ring::turn(time_point now, time_point until) noexcept {
    const unsigned to_submit = flush();
    const unsigned kernel_flags = io_uring_smp_load_acquire(ring_.sq.kflags);
    if (kernel_flags & IORING_SQ_CQ_OVERFLOW) [[unlikely]] ++counters_.overflows;
    const bool look = kernel_flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
    const bool wait = until > now && io_uring_cq_ready(&ring_) == 0;
    if (wait && until != no_deadline) {
        const auto nanoseconds = (until - now).count();
        __kernel_timespec timeout{.tv_sec = nanoseconds / 1'000'000'000, .tv_nsec = nanoseconds % 1'000'000'000};
        enter(to_submit, 1, &timeout);
    } else if (wait || to_submit != 0 || look) {
        enter(to_submit, wait ? 1 : 0, nullptr);
    }
    reap();
}

bool ring::ready() const noexcept {
    return io_uring_cq_ready(&ring_) != 0 ||
           (io_uring_smp_load_acquire(ring_.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

void ring::reap() noexcept {
    // The head moves before an entry is acted on, because that may submit, and so come here again.
    for (unsigned head = *ring_.cq.khead; head != io_uring_smp_load_acquire(ring_.cq.ktail); head = *ring_.cq.khead) {
        const io_uring_cqe entry = ring_.cq.cqes[head & ring_.cq.ring_mask];
        io_uring_smp_store_release(ring_.cq.khead, head + 1);
        ++counters_.completed;
        void* object = reinterpret_cast<void*>(entry.user_data & ~tag_mask);
        const bool more = entry.flags & IORING_CQE_F_MORE;
        switch (entry.user_data & tag_mask) {
            case tag_operation: {
                auto& finished = *static_cast<operation*>(object);
                finished.result = entry.res;
                finished.done = true;
                scheduler::wake(*finished.waiting_fiber);
                break;
            }
            case tag_accept_stream:
                complete_accept(*static_cast<accept_stream*>(object), entry.res, more);
                break;
            case tag_wake:
                ++counters_.wakes_received;
                if (!more) listen_for_wakes();
                break;
            default: break;
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

}  // namespace

std::error_code ring_setup_error(int errno_value) {
    switch (errno_value) {
        case ENOSYS:
        case EINVAL: return make(setup_error::no_kernel_support);
        case EPERM:
        case EACCES:
            return make(io_uring_disabled_sysctl() > 0 ? setup_error::disabled_by_sysctl : setup_error::forbidden);
        case ENOMEM: return make(setup_error::no_memory);
        default: return system_error(errno_value);
    }
}

result<std::unique_ptr<engine>> make_ring(const ring_options& options) { return ring::make(options); }

result<std::unique_ptr<engine>> make_default_ring() { return ring::make({}); }

}  // namespace weft
