// weft.h as a C compiler sees it: strict C11, every warning an error. c_api_test.cpp runs what is here.
#include <weft/weft.h>

// What a header needs, it includes itself: nothing else comes before it.
#include <string.h>

int c_function(void* argument) {
    const weft_options options = {.size = sizeof options, .workers = 2};
    const weft_spawn_options spawning = {
        .size = sizeof spawning, .name = "c", .placement = WEFT_PLACE_SPREAD};
    const weft_listen_options listening = {.size = sizeof listening, .v6_only = 1};
    const weft_serve_options serving = {.size = sizeof serving, .listen = ":0", .drain_grace_ns = -1};
    *(size_t*)argument = options.size + spawning.size + listening.size + serving.size;
    return options.workers == 2 && WEFT_NO_DEADLINE == INT64_MAX ? 7 : 0;
}

static int add_one(void* counter) {
    ++*(int*)counter;
    return 0;
}

// In a fiber: spawns one from C, and joins it.
int c_spawns(void* counter) {
    const weft_spawn_options options = {.size = sizeof options, .name = "made by C"};
    weft_fiber* made = NULL;
    int returned = -1;
    int error = weft_spawn(NULL, add_one, counter, &options, &made);
    if (error == 0) error = weft_join(made, &returned);
    return error != 0 ? error : returned;
}

// Every function is there, with C's linkage.
int c_count_functions(void) {
    typedef void (*function)(void);
    const function functions[] = {
        (function)weft_strerror,
        (function)weft_run,
        (function)weft_runtime_create,
        (function)weft_runtime_destroy,
        (function)weft_request_stop,
        (function)weft_stop_requested,
        (function)weft_worker_count,
        (function)weft_spawn,
        (function)weft_join,
        (function)weft_detach,
        (function)weft_cancel,
        (function)weft_cancelled,
        (function)weft_yield,
        (function)weft_worker_index,
        (function)weft_now,
        (function)weft_deadline_in,
        (function)weft_sleep_ns,
        (function)weft_sleep_until,
        (function)weft_tcp_listen,
        (function)weft_tcp_accept,
        (function)weft_listener_address,
        (function)weft_listener_close,
        (function)weft_tcp_connect,
        (function)weft_tcp_read,
        (function)weft_tcp_read_exactly,
        (function)weft_tcp_write_all,
        (function)weft_tcp_shutdown,
        (function)weft_tcp_finish,
        (function)weft_tcp_local_address,
        (function)weft_tcp_peer_address,
        (function)weft_tcp_descriptor,
        (function)weft_tcp_close,
        (function)weft_serve,
    };
    int count = 0;
    for (size_t n = 0; n < sizeof functions / sizeof *functions; ++n) count += functions[n] != NULL;
    return count;
}
