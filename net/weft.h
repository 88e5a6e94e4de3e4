// weft for C (C11), and for C++ that wants no more: #include <weft/weft.h>
//
// A runtime is a few worker threads; a fiber is a function with a stack of its own (64 KiB unless the options
// say otherwise) that runs on one of them. Calls that wait park the fiber, and the thread runs others
// meanwhile. A fiber stays on the worker on which it began, so thread-locals behave as in a thread, but other
// fibers change them, errno too, while it is parked.
//
// Who may call what. Of each function one of these holds:
//   [any]    any thread, and any fiber.
//   [fiber]  fibers only; elsewhere it returns -EPERM and does nothing.
//   [thread] threads that are not workers only; in a fiber it returns -EPERM and does nothing.
// It says "parks" where it may; a function that does not say so returns without waiting. One object (a
// connection, a listener, a fiber's handle) is used by one fiber or thread at a time.
//
// Errors are negative errno values; errno itself is neither read nor set. Where weft has a name of its own:
//
//   -ETIMEDOUT        The deadline passed first (or TCP gave up). The caller's memory is its own again.
//   -ECANCELED        The fiber was asked to stop. The caller's memory is its own again.
//   -ENODATA          The peer finished sending before all the bytes that were asked for had come.
//   -EAGAIN           As many fibers exist as the runtime may have.
//   -EBADF            The connection or the listener is closed.
//   -EINVAL           A text is no address; or bad use: NULL where it is not allowed, a value out of range.
//   -E2BIG            Options from a newer weft.h ask for what this library does not know.
//   -EPERM            Called where it must not be: outside of a fiber, inside of one, on another worker.
//   -EDEADLK          A fiber would wait for its own end.
//   -ENOSPC           The text does not fit.
//   -ENOMEM           No memory.
//   -ENOTRECOVERABLE  No errno says it: the log, on stderr, does.
//
// Others are the system's as they are, for example -ECONNRESET or -EADDRINUSE. No exception leaves a function
// of weft. One that a callback written in C++ lets out ends its fiber alone.
//
// Options are structs that begin with their size, so that they can grow: name the fields that matter, as in
// `{.size = sizeof(weft_options), .workers = 2}`, or set them after `= {}` in C++. A field that is 0 has its
// default, and so has every field when NULL is given instead of the struct. The struct, and what it points
// to, is needed only during the call. Times are nanoseconds.
#ifndef WEFT_H
#define WEFT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct weft_runtime weft_runtime;    ///< Worker threads and the fibers on them.
typedef struct weft_fiber weft_fiber;        ///< A fiber's handle.
typedef struct weft_tcp weft_tcp;            ///< A connection.
typedef struct weft_listener weft_listener;  ///< A listening socket.

/// What a fiber runs. What it returns is for weft_join.
typedef int (*weft_function)(void* argument);

/// [any] What an error means, for a log: "timed out". The text lasts for ever.
const char* weft_strerror(int error);

// --- Runtimes

typedef struct weft_options {
    size_t size;          ///< sizeof(weft_options)
    unsigned workers;     ///< 0: one for each of `cpus`, or for each CPU that the process may use.
    const int* cpus;      ///< Worker n is bound to cpus[n % cpu_count].
    size_t cpu_count;     ///< 0: not bound.
    uint32_t fibers_max;  ///< 0: a million. Address space is reserved for so many, memory is not.
    size_t stack_bytes;   ///< Of each fiber. 0: 64 KiB.
} weft_options;

/// [thread] What a program's main function does: makes a runtime, runs `main_function` in a fiber of it, and
/// ends the runtime, with every fiber that is left, when that has returned. SIGINT and SIGTERM are
/// weft_request_stop() meanwhile, and SIGPIPE is ignored. Returns the exit status: what `main_function`
/// returned when that is 0 or more. It is 1 after one line on stderr when that was an error, or when there
/// could be no runtime; -ECANCELED is no failure, and gives 0.
int weft_run(const weft_options* options, weft_function main_function, void* argument);

/// [thread] Starts the workers. The caller owns the runtime. Several may live in a process; signals are left
/// alone. Errors: the system's; -ENOTRECOVERABLE for a CPU that is not there, and for no io_uring.
int weft_runtime_create(const weft_options* options, weft_runtime** created);

/// [thread] Asks every fiber that is left to stop, waits until all have ended, and ends the workers. Handles,
/// and listeners that have accepted, must be gone before. NULL: nothing to do.
int weft_runtime_destroy(weft_runtime* runtime);

// In the functions below, a runtime of NULL is the one that the calling fiber is in; -EPERM elsewhere.

/// [any] The first request lets servers drain; the second lets them stop waiting.
int weft_request_stop(weft_runtime* runtime);

/// [any] 1 once weft_request_stop() was called, or a signal that stands for it came; else 0.
int weft_stop_requested(const weft_runtime* runtime);

/// [any] How many workers it has.
int weft_worker_count(const weft_runtime* runtime);

// --- Fibers

/// Where a fiber begins its life, and then stays.
enum {
    WEFT_PLACE_NEAR = 0,    ///< On the worker that spawns it, unless a neighbour has clearly less to do.
    WEFT_PLACE_SPREAD = 1,  ///< Where few fibers live: for long-lived ones.
    WEFT_PLACE_FIXED = 2    ///< On the worker that `worker` names.
};

typedef struct weft_spawn_options {
    size_t size;       ///< sizeof(weft_spawn_options)
    const char* name;  ///< For logs and debuggers; its first 23 bytes are kept. NULL: none.
    int placement;     ///< WEFT_PLACE_...
    unsigned worker;   ///< For WEFT_PLACE_FIXED, from 0; -EINVAL when there is none of that number.
} weft_spawn_options;

/// [any] Makes a fiber that runs function(argument). `*handle` is for weft_join() or weft_detach(), one of
/// which must be called; with a `handle` of NULL the fiber is detached from the start.
/// Errors: -EAGAIN, -ENOMEM.
int weft_spawn(weft_runtime* runtime, weft_function function, void* argument,
               const weft_spawn_options* options, weft_fiber** handle);

/// [any] Waits for the end: parks a fiber, blocks a thread, also one that was asked to stop. `*returned`
/// (NULL: not wanted) is what the function returned. The handle is gone afterwards, also when that was
/// an exception, whose error is returned: -ENOMEM, a std::system_error's, or -ENOTRECOVERABLE.
/// With -EDEADLK (and -EINVAL for NULL) nothing has happened.
int weft_join(weft_fiber* fiber, int* returned);

/// [any] Lets it run on its own. The handle is gone afterwards. NULL: nothing to do.
int weft_detach(weft_fiber* fiber);

/// [any] Every call in which it parks returns -ECANCELED from now on, also the one that it is in. The handle
/// stays: join it.
int weft_cancel(weft_fiber* fiber);

/// [fiber] 1 when it was asked to stop, by weft_cancel() or because its runtime ends; else 0.
int weft_cancelled(void);

/// [fiber] Lets others run first.
int weft_yield(void);

/// [fiber] The number of the worker it is on, from 0.
int weft_worker_index(void);

// --- Time: nanoseconds of CLOCK_MONOTONIC

/// The deadline of what may take for ever. One that is in the past has passed.
#define WEFT_NO_DEADLINE INT64_MAX

/// [any] In a fiber, the time as of this turn of the worker's loop: free, and a little old.
int64_t weft_now(void);

/// [any] The deadline that is so far from now; WEFT_NO_DEADLINE where that is too far to name.
int64_t weft_deadline_in(int64_t nanoseconds);

/// [fiber] Parks for at least so long, and up to 66 µs more. Errors: -ECANCELED.
int weft_sleep_ns(int64_t nanoseconds);
int weft_sleep_until(int64_t deadline);

// --- TCP
//
// Addresses are texts: "127.0.0.1:80", "[::1]:80", "[fe80::1%eth0]:80", ":80" and "*:80" for 0.0.0.0:80, and,
// the only name, "localhost:80". Nothing here raises SIGPIPE.

/// Room enough for the text of any address, with the zero byte at its end.
#define WEFT_ADDRESS_BYTES 80

typedef struct weft_listen_options {
    size_t size;  ///< sizeof(weft_listen_options)
    int backlog;  ///< Connections that the kernel keeps until they are accepted. 0: 4096.
    int v6_only;  ///< Not 0: an IPv6 socket does not take IPv4 connections too.
} weft_listen_options;

/// [any] Binds and listens. Port 0 takes a free one. The caller owns the listener. It belongs to the worker
/// of the fiber that first accepts from it.
int weft_tcp_listen(const char* address, const weft_listen_options* options, weft_listener** listening);

/// [fiber] Parks until there is a connection, which the caller owns. TCP_NODELAY is set. An error of one
/// connection (-ECONNABORTED) or of the process (-EMFILE) does not end the listener: accept again. -EPERM on
/// another worker than the first time.
int weft_tcp_accept(weft_listener* listener, int64_t deadline, weft_tcp** accepted);

/// [any] Its address as a text of at most `bytes` bytes: with the port that was given for port 0.
/// Errors: -ENOSPC.
int weft_listener_address(const weft_listener* listener, char* text, size_t bytes);

/// [any] Closes and frees it. Once it has accepted: by a fiber of the same worker, or it returns -EPERM and
/// the listener stays. A fiber's worker closes the socket at the end of its turn. No fiber may be waiting for
/// it. NULL: nothing to do.
int weft_listener_close(weft_listener* listener);

/// [fiber] Parks until the connection is made. The caller owns it. TCP_NODELAY is set.
int weft_tcp_connect(const char* address, int64_t deadline, weft_tcp** connected);

/// [fiber] Parks until something has come, and returns how many bytes that are, as read(2) does; 0 when the
/// peer has finished sending (or `bytes` is 0), and also when its server drains and the call would wait.
ssize_t weft_tcp_read(weft_tcp* connection, void* buffer, size_t bytes, int64_t deadline);

/// [fiber] Parks until all of `buffer` is filled, also while its server drains. 0, or an error: -ENODATA when
/// the peer finishes sending before.
int weft_tcp_read_exactly(weft_tcp* connection, void* buffer, size_t bytes, int64_t deadline);

/// [fiber] Parks until the kernel has taken all of it. 0, or an error, after which it is unknown how much the
/// kernel has taken.
int weft_tcp_write_all(weft_tcp* connection, const void* buffer, size_t bytes, int64_t deadline);

enum { WEFT_SHUTDOWN_RECEIVING = 0, WEFT_SHUTDOWN_SENDING = 1, WEFT_SHUTDOWN_BOTH = 2 };

/// [any] shutdown(2): the peer sees the end of the stream when the sending side is shut.
int weft_tcp_shutdown(weft_tcp* connection, int side);

/// [fiber] The gentle end: says that nothing more will be sent, then parks and drops what still arrives until
/// the peer has finished too. Closing while bytes from the peer are unread would reset the connection, and
/// the peer might lose what was sent last. Close it afterwards all the same.
int weft_tcp_finish(weft_tcp* connection, int64_t deadline);

/// [any] Texts of at most `bytes` bytes. Errors: -ENOSPC; the system's, such as -ENOTCONN.
int weft_tcp_local_address(const weft_tcp* connection, char* text, size_t bytes);
int weft_tcp_peer_address(const weft_tcp* connection, char* text, size_t bytes);

/// [any] Its socket, which it keeps, for setsockopt(2).
int weft_tcp_descriptor(const weft_tcp* connection);

/// [any] Closes and frees it. A connection that weft_serve() gave to a handler is closed and stays until the
/// handler returns: other calls give -EBADF. A fiber's worker closes the socket at the end of its turn. No
/// fiber may be waiting for it. NULL: nothing to do.
int weft_tcp_close(weft_tcp* connection);

// --- Servers

typedef struct weft_serve_options {
    size_t size;                ///< sizeof(weft_serve_options)
    const char* listen;         ///< An address, or several with commas between. Required.
    const char* name;           ///< Of the connections' fibers. NULL: "connection".
    int backlog;                ///< As in weft_listen_options.
    int64_t drain_grace_ns;     ///< 0: 250 ms. Less than 0: none.
    int64_t drain_deadline_ns;  ///< 0: 10 s. Less than 0: none.
    /// Called once for each address when all are listening, with the port that was given for port 0 and
    /// weft_serve()'s `argument`; by the fiber that called it. The text lasts as long as the call.
    void (*on_listening)(const char* address, void* argument);
} weft_serve_options;

/// Runs in a new fiber for each connection, on many workers at once. The connection is weft's: it is closed
/// when the handler returns, and may be closed before. An error that it returns is logged (level debug).
typedef int (*weft_handler)(weft_tcp* connection, void* argument);

/// [fiber] Accepts connections on every worker and runs handler(connection, argument) for each. Parks until
/// the runtime is asked to stop and every connection has ended, or until the calling fiber is cancelled.
/// Then connections may go on for `drain_grace_ns`; those that wait for input are told that it has ended; and
/// when `drain_deadline_ns` has passed since the request, the rest is cancelled. Returns 0 after that.
/// Errors: -ENOTRECOVERABLE when it cannot listen: the log names the address and the cause.
int weft_serve(const weft_serve_options* options, weft_handler handler, void* argument);

#ifdef __cplusplus
}
#endif

#endif  // WEFT_H
