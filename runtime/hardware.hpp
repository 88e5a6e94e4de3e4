// What the CPU itself offers for a hand-over between two workers. Each is used only where the CPU says that
// it has it. Internal.
#pragma once

#include <cstdint>
#include <string>

#include <weft/runtime/atomic.hpp>

namespace weft {

struct cpu_features {
    bool waitpkg = false;       ///< x86, Intel: umonitor and umwait.
    bool monitorx = false;      ///< x86, AMD: monitorx and mwaitx.
    bool cldemote = false;      ///< x86.
    bool wfet = false;          ///< aarch64: wfe that ends at a given time (FEAT_WFxT).
    bool event_stream = false;  ///< aarch64: the kernel lets every wfe end after a while.

    bool operator==(const cpu_features&) const = default;
};

/// Of the CPU that runs this process, or of the virtual one that its hypervisor shows: an instruction that it
/// hides may work nevertheless, but by a trap that takes microseconds.
cpu_features read_cpu_features() noexcept;
#if defined(__x86_64__)
/// Of a CPU whose leaves of CPUID end in these values of ECX.
cpu_features features_from_cpuid(std::uint32_t ecx_of_leaf_7, std::uint32_t ecx_of_leaf_8000_0001) noexcept;
#endif

/// How a worker passes the time between two looks at its inputs.
enum class spin_method : std::uint8_t {
    pause,
    umwait,
    mwaitx,
    wfet,
    wfe,
};

/// For the life of a runtime: what its workers use. Any thread.
class hardware_help {
  public:
    hardware_help() = default;
    hardware_help(const cpu_features& features, bool may_wait, bool may_demote) noexcept;

    spin_method method() const noexcept { return method_; }
    bool demotes() const noexcept { return demotes_; }
    /// How often a worker looks before it sleeps, so that it spins for about 10 µs.
    unsigned looks_max() const noexcept;

    /// Spinning is done in this order: watch a line, look at all inputs, wait. What is written to the line
    /// after watch() ends the wait, so that nothing is missed in between; whatever else happens is noticed
    /// when the wait ends by itself, which is after some hundred nanoseconds (wfe: up to 100 µs). The line
    /// must be readable.
    void watch(const void* line) const noexcept {
        if (method_ != spin_method::pause) watch_line(line);
    }
    /// May end for no reason at all.
    void wait() const noexcept {
        if (method_ == spin_method::pause)
            pause_in_spin();
        else
            wait_for_line();
    }

    /// The line has been written for another CPU: lets it go to the cache that both share.
    void demote(const void* line) const noexcept {
        if (demotes_) demote_line(line);
    }

    /// For the log: what was found, and what of it is used.
    std::string description() const;

  private:
    void watch_line(const void* line) const noexcept;
    void wait_for_line() const noexcept;
    static void demote_line(const void* line) noexcept;

    cpu_features features_;
    spin_method method_ = spin_method::pause;
    bool demotes_ = false;
};

}  // namespace weft
