#include "cores.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <utility>

#if defined(__linux__)
#include <sched.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace paddock {
namespace {

int logical_cores() { return std::max(1u, std::thread::hardware_concurrency()); }

#if defined(__linux__)
int number_in(const std::string& path) {
    int number = -1;
    std::ifstream(path) >> number;
    return number;
}

// Two hyperthreads of one core share its vector units, so a core counts once.
int cores_of_affinity() {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return logical_cores();  // more than 1024 processors
    std::set<std::pair<int, int>> cores;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &allowed)) continue;
        std::string topology = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
        int package = number_in(topology + "physical_package_id"), core = number_in(topology + "core_id");
        cores.insert(core < 0 ? std::make_pair(-1, cpu) : std::make_pair(package, core));
    }
    return std::max<int>(1, static_cast<int>(cores.size()));
}

// A container's share of processor time, as control groups write it: "quota period" or "max period" in version 2, two
// files in version 1. More threads than that would be stopped in the middle of their work.
double quota_of_group() {
    std::ifstream unified("/sys/fs/cgroup/cpu.max");
    double quota = -1, period = 0;
    if (unified >> quota >> period && quota > 0 && period > 0) return quota / period;
    quota = number_in("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
    period = number_in("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
    return quota > 0 && period > 0 ? quota / period : 0;
}
#endif

}  // namespace

int physical_cores() {
#if defined(__linux__)
    int cores = cores_of_affinity();
    double quota = quota_of_group();
    return quota > 0 ? std::max(1, std::min(cores, static_cast<int>(std::ceil(quota)))) : cores;
#elif defined(__APPLE__)
    int cores = 0;
    size_t size = sizeof cores;
    // The fast cores where there are two kinds: an operation lasts as long as its slowest thread.
    if (sysctlbyname("hw.perflevel0.physicalcpu", &cores, &size, nullptr, 0) == 0 && cores > 0) return cores;
    if (sysctlbyname("hw.physicalcpu", &cores, &size, nullptr, 0) == 0 && cores > 0) return cores;
    return logical_cores();
#else
    return logical_cores();
#endif
}

}  // namespace paddock
