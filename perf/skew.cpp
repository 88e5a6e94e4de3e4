// What becomes of skewed load: a few connections whose requests compute for long all land on one worker,
// among many whose requests are light. Compared: connections stay where they landed, are placed by load at
// birth, or move when they are woken. And the price of moving when the load is even. One JSON line per mode:
//   build/perf/skew [--workers N] [--seconds N] [--rounds N]
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include <weft/runtime/log_level.hpp>
#include <weft/weft.hpp>

namespace {

using namespace std::chrono_literals;
namespace this_fiber = weft::this_fiber;
using clock_type = std::chrono::steady_clock;

struct message {
    std::uint32_t compute_us;  // how long the server computes before it answers
    std::uint32_t number;
};

struct client_group {
    unsigned connections;
    std::uint32_t compute_us;
    std::chrono::microseconds think;  // between an answer and the next request
    unsigned requests_per_connection;
};

struct load_shape {
    const char* name;
    client_group heavy, light;
};

constexpr std::array<load_shape, 2> shapes{{
    {"skewed", {8, 1000, 4500us, 200}, {60, 5, 4000us, 200}},
    {"even", {0, 0, 0us, 0}, {64, 20, 0us, 5000}},
}};

struct mode {
    const char* name;
    bool placed_by_load;
    weft::fiber_affinity affinity;
};

constexpr std::array<mode, 4> modes{{
    {"stay", false, weft::fiber_affinity::worker},
    {"birth", true, weft::fiber_affinity::worker},
    {"wake", false, weft::fiber_affinity::any},
    {"birth and wake", true, weft::fiber_affinity::any},
}};

void compute(std::chrono::microseconds time) {
    const auto until = clock_type::now() + time;
    while (clock_type::now() < until);
}

weft::result<void> answer(weft::tcp_stream& peer) {
    message request;
    for (;;) {
        if (!peer.read_exactly(std::as_writable_bytes(std::span(&request, 1)))) return {};
        compute(std::chrono::microseconds(request.compute_us));
        WEFT_TRY(peer.write_all(std::as_bytes(std::span(&request, 1))));
    }
}

// Connections that are heavy land on worker 0, the light ones on each in turn, as unlucky hashing would have
// it.
weft::result<void> accept_for_ever(weft::tcp_listener listener, const mode& how, bool heavy) {
    for (unsigned next = 0;; ++next) {
        auto connection = WEFT_TRY(listener.accept());
        const unsigned landing = heavy ? 0 : next % this_fiber::worker_count();
        WEFT_TRY(weft::spawn_detached(
            [peer = std::move(connection)]() mutable { (void)answer(peer); },
            {.where = how.placed_by_load ? weft::placement::spread : weft::placement::fixed,
             .worker = landing,
             .affinity = how.affinity}));
    }
}

// The load: a process of its own with one worker. Latencies in microseconds go to the pipe.
struct latencies {
    std::vector<float> heavy, light;
};

weft::result<void> one_client(const weft::address& server, const client_group& group,
                              clock_type::time_point until, std::vector<float>& seen) {
    std::uint32_t number = 0;
    while (clock_type::now() < until) {
        auto stream = WEFT_TRY(weft::tcp_stream::connect(server));
        for (unsigned n = 0; n < group.requests_per_connection && clock_type::now() < until; ++n) {
            message request{group.compute_us, number++}, reply;
            const auto sent = clock_type::now();
            WEFT_TRY(stream.write_all(std::as_bytes(std::span(&request, 1))));
            WEFT_TRY(stream.read_exactly(std::as_writable_bytes(std::span(&reply, 1))));
            if (reply.number != request.number) std::abort();
            seen.push_back(std::chrono::duration<float, std::micro>(clock_type::now() - sent).count());
            if (group.think != 0us) WEFT_TRY(this_fiber::sleep_for(group.think));
        }
    }
    return {};
}

latencies run_clients(const load_shape& shape, const weft::address& heavy, const weft::address& light,
                      unsigned seconds) {
    latencies seen;
    weft::run({.workers = 1}, [&]() -> weft::result<void> {
        const auto until = clock_type::now() + std::chrono::seconds(seconds);
        std::vector<weft::fiber<weft::result<void>>> clients;
        for (unsigned n = 0; n < shape.heavy.connections; ++n)
            clients.push_back(
                WEFT_TRY(weft::spawn([&] { return one_client(heavy, shape.heavy, until, seen.heavy); })));
        for (unsigned n = 0; n < shape.light.connections; ++n)
            clients.push_back(
                WEFT_TRY(weft::spawn([&] { return one_client(light, shape.light, until, seen.light); })));
        for (auto& each : clients) WEFT_TRY(each.join());
        return {};
    });
    return seen;
}

void write_all(int descriptor, const std::vector<float>& values) {
    const std::uint64_t count = values.size();
    if (write(descriptor, &count, sizeof count) != sizeof count) std::abort();
    const char* at = reinterpret_cast<const char*>(values.data());
    for (std::size_t left = count * sizeof(float); left > 0;) {
        const ssize_t written = write(descriptor, at, left);
        if (written <= 0) std::abort();
        at += written;
        left -= static_cast<std::size_t>(written);
    }
}

void read_all(int descriptor, void* to, std::size_t bytes) {
    for (char* at = static_cast<char*>(to); bytes > 0;) {
        const ssize_t got = read(descriptor, at, bytes);
        if (got <= 0) std::abort();
        at += got;
        bytes -= static_cast<std::size_t>(got);
    }
}

std::vector<float> read_latencies(int descriptor) {
    std::uint64_t count = 0;
    read_all(descriptor, &count, sizeof count);
    std::vector<float> values(count);
    read_all(descriptor, values.data(), count * sizeof(float));
    std::sort(values.begin(), values.end());
    return values;
}

struct outcome {
    double per_second, heavy_per_second, p50, p99, p999, heavy_p99;
    weft::runtime_counters counters;
};

double quantile(const std::vector<float>& sorted, double at) {
    if (sorted.empty()) return 0;
    return sorted[std::min(sorted.size() - 1,
                           static_cast<std::size_t>(at * static_cast<double>(sorted.size())))];
}

// The clients are a process of their own: this program again, which writes what it has seen to its standard
// output.
int start_clients(const load_shape& shape, const std::array<std::uint16_t, 2>& ports, unsigned seconds) {
    std::array<int, 2> results;
    if (pipe(results.data()) != 0) std::abort();
    const std::array<std::string, 5> arguments{"skew", shape.name, std::to_string(ports[0]),
                                               std::to_string(ports[1]), std::to_string(seconds)};
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(results[1], STDOUT_FILENO);
        execl("/proc/self/exe", arguments[0].c_str(), "--clients", arguments[1].c_str(), arguments[2].c_str(),
              arguments[3].c_str(), arguments[4].c_str(), nullptr);
        _exit(127);
    }
    close(results[1]);
    return results[0];
}

int be_the_clients(const std::vector<std::string>& arguments) {
    const auto shape = std::find_if(shapes.begin(), shapes.end(),
                                    [&](const load_shape& each) { return each.name == arguments.at(0); });
    const auto at = [](const std::string& port) { return *weft::address::parse("127.0.0.1:" + port); };
    const latencies seen = run_clients(*shape, at(arguments.at(1)), at(arguments.at(2)),
                                       static_cast<unsigned>(std::stoul(arguments.at(3))));
    write_all(STDOUT_FILENO, seen.heavy);
    write_all(STDOUT_FILENO, seen.light);
    return 0;
}

outcome measure(const load_shape& shape, const mode& how, unsigned workers, unsigned seconds) {
    auto server = weft::runtime::create({.workers = workers});
    if (!server) std::abort();
    std::array<std::uint16_t, 2> ports;
    std::vector<weft::fiber<weft::result<void>>> acceptors;
    for (const bool heavy : {true, false}) {
        auto listener = *weft::tcp_listener::open(*weft::address::parse("127.0.0.1:0"));
        ports[heavy ? 0 : 1] = listener.local_address()->port();
        acceptors.push_back(*(*server)->spawn(
            [&how, heavy, own = std::move(listener)]() mutable {
                return accept_for_ever(std::move(own), how, heavy);
            },
            {.where = weft::placement::fixed, .worker = 0}));
    }
    const int results = start_clients(shape, ports, seconds);
    const auto heavy = read_latencies(results);
    const auto light = read_latencies(results);
    close(results);
    wait(nullptr);
    outcome measured{};
    measured.counters = (*server)->counters();
    for (auto& each : acceptors) each.cancel();
    for (auto& each : acceptors) (void)each.join();
    server->reset();
    measured.heavy_per_second = static_cast<double>(heavy.size()) / seconds;
    measured.per_second = measured.heavy_per_second + static_cast<double>(light.size()) / seconds;
    measured.p50 = quantile(light, 0.5);
    measured.p99 = quantile(light, 0.99);
    measured.p999 = quantile(light, 0.999);
    measured.heavy_p99 = quantile(heavy, 0.99);
    return measured;
}

double median_of(const std::vector<outcome>& outcomes, double outcome::* field) {
    std::vector<double> values;
    for (const outcome& each : outcomes) values.push_back(each.*field);
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
    unsigned workers = 2, seconds = 3, rounds = 3;
    CLI::App app("Compares ways to deal with skewed load.", "skew");
    app.add_option("--workers", workers, "of the server")->capture_default_str();
    app.add_option("--seconds", seconds, "for each measurement")->capture_default_str();
    app.add_option("--rounds", rounds, "of all modes in turn; medians are printed")->capture_default_str();
    std::vector<std::string> clients;
    app.add_option("--clients", clients)->expected(4)->group("");
    CLI11_PARSE(app, argc, argv);
    if (!clients.empty()) return be_the_clients(clients);
    std::map<std::pair<const char*, const char*>, std::vector<outcome>> all;
    for (unsigned round = 0; round < rounds; ++round)
        for (const load_shape& shape : shapes)
            for (const mode& how : modes)
                all[{shape.name, how.name}].push_back(measure(shape, how, workers, seconds));
    for (const load_shape& shape : shapes)
        for (const mode& how : modes) {
            const auto& seen = all[{shape.name, how.name}];
            const auto& counters = seen.back().counters;
            std::printf(
                "{\"load\": \"%s\", \"mode\": \"%s\", \"workers\": %u, \"requests_per_second\": %.0f, "
                "\"heavy_per_second\": %.0f, \"p50_us\": %.0f, \"p99_us\": %.0f, \"p999_us\": %.0f, "
                "\"heavy_p99_us\": %.0f, \"born_away\": %llu, \"deflected\": %llu, \"further_hops\": %llu}\n",
                shape.name, how.name, workers, median_of(seen, &outcome::per_second),
                median_of(seen, &outcome::heavy_per_second), median_of(seen, &outcome::p50),
                median_of(seen, &outcome::p99), median_of(seen, &outcome::p999),
                median_of(seen, &outcome::heavy_p99),
                static_cast<unsigned long long>(counters.fibers_born_away),
                static_cast<unsigned long long>(counters.deflected_out),
                static_cast<unsigned long long>(counters.further_hops));
        }
}
