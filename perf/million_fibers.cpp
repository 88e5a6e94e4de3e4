// What a million parked fibers cost on one worker: their memory, and the time to make, to wake and to end all
// of them.
//   ./run bench --million --stack-kib 16
#include <sched.h>
#include <sys/mman.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include <weft/runtime/runtime.hpp>
#include <weft/runtime/scheduler.hpp>
#include <weft/runtime/worker.hpp>

namespace {

struct options {
    std::uint32_t fibers = 1'000'000;
    std::size_t stack_kib = 64;
    bool no_guard_install = false;
    bool json = false;
};

// The number in the line of `file` that begins with `key`; 0 when there is none.
std::uint64_t number_in(const char* file, const std::string& key) {
    std::ifstream lines(file);
    for (std::string line; std::getline(lines, line);)
        if (line.starts_with(key)) return std::strtoull(line.c_str() + key.size(), nullptr, 10);
    return 0;
}

struct memory {
    std::uint64_t resident_kib = number_in("/proc/self/smaps_rollup", "Rss:");
    std::uint64_t page_tables_kib = number_in("/proc/self/status", "VmPTE:");
    std::uint64_t mappings = mappings_now();

    static std::uint64_t mappings_now() {
        std::ifstream lines("/proc/self/maps");
        std::uint64_t count = 0;
        for (std::string line; std::getline(lines, line);) ++count;
        return count;
    }
};

// All of it belongs to the one worker.
struct crowd {
    std::vector<weft::fiber_block*> blocks;
    std::uint32_t runs = 0;  // of all fibers together: each runs once when it is new, and once for each wake
    std::uint32_t ended = 0;
    bool may_end = false;
};

void wait_to_end(crowd& all, std::uint32_t index) {
    all.blocks[index] = &weft::current_fiber();
    ++all.runs;
    while (!all.may_end) {
        weft::park();
        ++all.runs;
    }
    ++all.ended;
}

// Lets the crowd run until `count` has reached `wanted`; false when that does not happen any more.
bool wait_until(const std::uint32_t& count, std::uint32_t wanted) {
    constexpr std::chrono::seconds patience{10};
    std::uint32_t before = count;
    for (auto progress = std::chrono::steady_clock::now(); count < wanted;) {
        weft::this_fiber::yield();
        if (count != before) {
            before = count;
            progress = std::chrono::steady_clock::now();
        } else if (std::chrono::steady_clock::now() - progress > patience) {
            return false;
        }
    }
    return true;
}

template <class Act>
double seconds_for(Act act) {
    const auto begin = std::chrono::steady_clock::now();
    act();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102  // Linux 6.13
#endif

// What the kernel alone takes to give a page to each of so many stacks, and a guard where it has
// MADV_GUARD_INSTALL. It comes first, because a virtual machine may have to ask its host for memory that it
// has not used for a while.
double pages_alone_s(const options& chosen) {
    constexpr std::size_t page_bytes = 4096;
    const std::size_t step_bytes = chosen.stack_kib * 1024 + page_bytes;
    const std::size_t bytes = chosen.fibers * step_bytes;
    void* at =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return 0;
    madvise(at, bytes, MADV_NOHUGEPAGE);
    const double taken_s = seconds_for([&] {
        for (std::byte* slot = static_cast<std::byte*>(at); slot < static_cast<std::byte*>(at) + bytes;
             slot += step_bytes) {
            if (!chosen.no_guard_install) madvise(slot, page_bytes, MADV_GUARD_INSTALL);
            slot[step_bytes - 64] = std::byte{1};
        }
    });
    munmap(at, bytes);
    return taken_s;
}

struct findings {
    double create_s = 0, wake_s = 0, end_s = 0;
    memory before, parked, woken, ended;
};

findings live_and_die(std::uint32_t fibers) {
    crowd all;
    all.blocks.assign(fibers, nullptr);  // its own pages are there before the first look at the memory
    findings found;
    bool complete = true;
    found.before = memory();
    found.create_s = seconds_for([&] {
        for (std::uint32_t n = 0; n < fibers && complete; ++n)
            complete = weft::spawn_detached([&all, n] { wait_to_end(all, n); }).has_value();
        complete = complete && wait_until(all.runs, fibers);
    });
    if (!complete) {
        std::fprintf(stderr, "only %u fibers of %u came to run\n", all.runs, fibers);
        std::_Exit(1);  // nothing ends fibers that can not begin
    }
    found.parked = memory();
    found.wake_s = seconds_for([&] {
        for (weft::fiber_block* each : all.blocks) weft::scheduler::wake(*each);
        wait_until(all.runs, 2 * fibers);
    });
    found.woken = memory();
    found.end_s = seconds_for([&] {
        all.may_end = true;
        for (weft::fiber_block* each : all.blocks) weft::scheduler::wake(*each);
        wait_until(all.ended, fibers);
        weft::this_fiber::yield();  // the last one has left its stack
    });
    found.ended = memory();
    return found;
}

// Of what came since `before`: KiB for each fiber.
double each_kib(std::uint64_t now, std::uint64_t before, std::uint32_t fibers) {
    return (static_cast<double>(now) - static_cast<double>(before)) / fibers;
}

void print_json(const options& chosen, double alone_s, const findings& found, const memory& closed) {
    std::printf(
        "{\"fibers\": %u, \"stack_kib\": %zu, \"guard_install\": %s, \"pages_alone_s\": %.3f, \"create_s\": "
        "%.3f, \"wake_s\": %.3f, "
        "\"end_s\": %.3f",
        chosen.fibers, chosen.stack_kib, chosen.no_guard_install ? "false" : "true", alone_s, found.create_s,
        found.wake_s, found.end_s);
    const auto print = [](const char* when, const memory& seen) {
        std::printf(", \"%s\": {\"resident_kib\": %lu, \"page_tables_kib\": %lu, \"mappings\": %lu}", when,
                    seen.resident_kib, seen.page_tables_kib, seen.mappings);
    };
    print("before", found.before);
    print("parked", found.parked);
    print("woken", found.woken);
    print("ended", found.ended);
    print("closed", closed);
    std::printf("}\n");
}

void print_table(const options& chosen, double alone_s, const findings& found, const memory& closed) {
    std::printf(
        "%u fibers, stacks of %zu KiB, %s\n", chosen.fibers, chosen.stack_kib,
        chosen.no_guard_install ? "guards by mprotect" : "guards by MADV_GUARD_INSTALL where there is that");
    std::printf("%-22s %9s %11s %14s %15s %13s %10s\n", "", "s", "ns each", "resident MiB", "KiB each (RSS)",
                "page tables", "mappings");
    const auto line = [&](const char* what, double seconds, const memory& seen) {
        std::printf("%-22s", what);
        if (seconds > 0)
            std::printf(" %9.3f %11.0f", seconds, seconds * 1e9 / chosen.fibers);
        else
            std::printf(" %9s %11s", "", "");
        std::printf(" %14.1f %15.3f %9.1f MiB %10lu\n", static_cast<double>(seen.resident_kib) / 1024,
                    each_kib(seen.resident_kib, found.before.resident_kib, chosen.fibers),
                    static_cast<double>(seen.page_tables_kib) / 1024, seen.mappings);
    };
    std::printf("%-22s %9.3f %11.0f\n", "their pages alone", alone_s, alone_s * 1e9 / chosen.fibers);
    line("before", 0, found.before);
    line("all made and parked", found.create_s, found.parked);
    line("all woken once", found.wake_s, found.woken);
    line("all ended", found.end_s, found.ended);
    line("runtime closed", 0, closed);
}

}  // namespace

int main(int argc, char** argv) {
    options chosen;
    CLI::App flags("What parked fibers cost, on one worker.", "million_fibers");
    flags.add_option("--fibers", chosen.fibers, "how many (1,000,000)")->check(CLI::Range(1, 4'000'000));
    flags.add_option("--stack-kib", chosen.stack_kib, "the size of each one's stack (64)")
        ->check(CLI::Range(8, 1024));
    flags.add_flag("--no-guard-install", chosen.no_guard_install,
                   "guard pages as on kernels before Linux 6.13");
    flags.add_flag("--json", chosen.json, "one JSON line instead of the table");
    CLI11_PARSE(flags, argc, argv);

    const double alone_s = pages_alone_s(chosen);
    // A few fibers more: this one, and free blocks that are kept aside.
    auto made = weft::runtime::create({.workers = 1,
                                       .cpus = {sched_getcpu()},
                                       .fibers_max = chosen.fibers + 1'000,
                                       .stack_bytes = chosen.stack_kib * 1024,
                                       .allow_guard_install = !chosen.no_guard_install});
    if (!made) {
        std::fprintf(stderr, "million_fibers: %s\n", made.error().message().c_str());
        return 1;
    }
    const findings found = (*made)->spawn([&] { return live_and_die(chosen.fibers); })->join();
    made->reset();
    const memory closed;
    if (chosen.json)
        print_json(chosen, alone_s, found, closed);
    else
        print_table(chosen, alone_s, found, closed);
}
