#include <weft/runtime/hardware.hpp>

#include <string_view>
#include <utility>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <x86intrin.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace weft {
namespace {

// A worker has more inputs than the line that it watches: a mailbox for each neighbour, the inbox, and its
// engine. One line for all of them would be one that all senders write to, which costs them more than the
// wait saves. So a wait is short, and the other inputs are looked at when it ends.
//
// In ticks of the time-stamp counter, which runs at 1 to 4 GHz: exactness is worth no calibration.
[[maybe_unused]] constexpr std::uint32_t wait_ticks_x86 = 1'000;
// What a wait of some 400 ns makes of the 10 µs; and the looks at that pace with `pause`, by measurement.
constexpr unsigned looks_max_timed = 25;
constexpr unsigned looks_max_pause = 300;
// Only the event stream ends a plain wfe in time, every 100 µs: that is once more than long enough.
constexpr unsigned looks_max_wfe = 1;

constexpr std::string_view name_of(spin_method method) noexcept {
    switch (method) {
        case spin_method::pause:
            return "pause";
        case spin_method::umwait:
            return "umwait";
        case spin_method::mwaitx:
            return "mwaitx";
        case spin_method::wfet:
            return "wfet";
        case spin_method::wfe:
            return "wfe";
    }
    return "";
}

constexpr spin_method best_method(const cpu_features& features) noexcept {
    if (features.waitpkg) return spin_method::umwait;
    if (features.monitorx) return spin_method::mwaitx;
    if (features.wfet) return spin_method::wfet;
    // Without the event stream a wfe might wait for ever.
    if (features.event_stream) return spin_method::wfe;
    return spin_method::pause;
}

}  // namespace

hardware_help::hardware_help(const cpu_features& features, bool may_wait, bool may_demote) noexcept
    : features_(features),
      method_(may_wait ? best_method(features) : spin_method::pause),
      demotes_(may_demote && features.cldemote) {}

unsigned hardware_help::looks_max() const noexcept {
    switch (method_) {
        case spin_method::pause:
            return looks_max_pause;
        case spin_method::wfe:
            return looks_max_wfe;
        default:
            return looks_max_timed;
    }
}

std::string hardware_help::description() const {
    std::string found;
    for (const auto& [has, name] :
         {std::pair(features_.waitpkg, " umwait"), std::pair(features_.monitorx, " mwaitx"),
          std::pair(features_.cldemote, " cldemote"), std::pair(features_.wfet, " wfet"),
          std::pair(features_.event_stream, " wfe")})
        if (has) found += name;
    std::string used = "spinning with ";
    used += name_of(method_);
    if (demotes_) used += " and cldemote";
    return used + (found.empty() ? " (the CPU offers nothing else)" : " (the CPU offers" + found + ")");
}

#if defined(__x86_64__)

cpu_features features_from_cpuid(std::uint32_t ecx_of_leaf_7, std::uint32_t ecx_of_leaf_8000_0001) noexcept {
    cpu_features features;
    features.waitpkg = (ecx_of_leaf_7 >> 5 & 1) != 0;
    features.cldemote = (ecx_of_leaf_7 >> 25 & 1) != 0;
    features.monitorx = (ecx_of_leaf_8000_0001 >> 29 & 1) != 0;
    return features;
}

cpu_features read_cpu_features() noexcept {
    unsigned unused = 0, leaf_7 = 0, leaf_8000_0001 = 0;
    // A leaf that the CPU does not have leaves the zero.
    __get_cpuid_count(7, 0, &unused, &unused, &leaf_7, &unused);
    __get_cpuid(0x8000'0001, &unused, &unused, &leaf_8000_0001, &unused);
    return features_from_cpuid(leaf_7, leaf_8000_0001);
}

namespace {

[[gnu::target("waitpkg")]] void umonitor(const void* line) noexcept {
    _umonitor(const_cast<void*>(line));
}
[[gnu::target("waitpkg")]] void umwait() noexcept {
    constexpr unsigned lighter_state = 1;  // C0.1: the one that ends sooner
    _umwait(lighter_state, __rdtsc() + wait_ticks_x86);
}
[[gnu::target("mwaitx")]] void monitorx(const void* line) noexcept {
    _mm_monitorx(const_cast<void*>(line), 0, 0);
}
[[gnu::target("mwaitx")]] void mwaitx() noexcept {
    constexpr unsigned with_timer = 1u << 1;
    constexpr unsigned stay_in_c0 = 0xf0;
    _mm_mwaitx(with_timer, stay_in_c0, wait_ticks_x86);
}
[[gnu::target("cldemote")]] void cldemote(const void* line) noexcept {
    _cldemote(const_cast<void*>(line));
}

}  // namespace

void hardware_help::watch_line(const void* line) const noexcept {
    if (method_ == spin_method::umwait)
        umonitor(line);
    else
        monitorx(line);
}

void hardware_help::wait_for_line() const noexcept {
    if (method_ == spin_method::umwait)
        umwait();
    else
        mwaitx();
}

void hardware_help::demote_line(const void* line) noexcept {
    cldemote(line);
}

#elif defined(__aarch64__)

cpu_features read_cpu_features() noexcept {
    constexpr unsigned long wfxt = 1ul << 31;  // HWCAP2_WFXT, which older kernel headers do not name
    cpu_features features;
    features.wfet = (getauxval(AT_HWCAP2) & wfxt) != 0;
    features.event_stream = (getauxval(AT_HWCAP) & HWCAP_EVTSTRM) != 0;
    return features;
}

// An exclusive load makes the CPU watch the line: a write to it by another is an event. Acquire, so that the
// look at the inputs comes after it. Before that an event that is left from earlier is used up.
void hardware_help::watch_line(const void* line) const noexcept {
    std::uint64_t ignored;
    asm volatile(
        "sevl\n\t"
        "wfe\n\t"
        "ldaxr %0, [%1]"
        : "=r"(ignored)
        : "r"(line)
        : "memory");
}

void hardware_help::wait_for_line() const noexcept {
    if (method_ == spin_method::wfe) {
        asm volatile("wfe" ::: "memory");
        return;
    }
    std::uint64_t now, ticks_per_second;
    asm volatile("mrs %0, cntvct_el0" : "=r"(now));
    asm("mrs %0, cntfrq_el0" : "=r"(ticks_per_second));
    constexpr std::uint64_t waits_per_second = 2'500'000;  // of 400 ns
    // wfet, by the name that assemblers without FEAT_WFxT give to its encoding.
    asm volatile("msr s0_3_c1_c0_0, %0" : : "r"(now + ticks_per_second / waits_per_second + 1) : "memory");
}

void hardware_help::demote_line(const void*) noexcept {}

#else

cpu_features read_cpu_features() noexcept {
    return {};
}

void hardware_help::watch_line(const void*) const noexcept {}
void hardware_help::wait_for_line() const noexcept {}
void hardware_help::demote_line(const void*) noexcept {}

#endif

}  // namespace weft
