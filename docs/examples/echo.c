// Every connection gets back what it sends. Usage: echo [ADDRESS:PORT]
#include <stdio.h>
#include <weft/weft.h>

static int echo(weft_tcp* peer, void* argument) {
    (void)argument;
    char buffer[4096];
    for (;;) {
        const ssize_t received = weft_tcp_read(peer, buffer, sizeof buffer, WEFT_NO_DEADLINE);
        if (received <= 0) return (int)received;  // the peer has finished sending, or an error
        const int error = weft_tcp_write_all(peer, buffer, (size_t)received, WEFT_NO_DEADLINE);
        if (error < 0) return error;
    }
}

static void print_listening(const char* address, void* argument) {
    (void)argument;
    fprintf(stderr, "listening on %s\n", address);
}

static int serve(void* address) {
    const weft_serve_options options = {
        .size = sizeof options, .listen = address, .on_listening = print_listening};
    return weft_serve(&options, echo, NULL);
}

int main(int argc, char** argv) {
    return weft_run(NULL, serve, argc > 1 ? argv[1] : "127.0.0.1:7000");
}
