// What this machine can do at most, measured: bytes read and multiply-adds per second.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <optional>

#include "arrays.h"
#include "bind.h"
#include "choose.h"
#include "pool.h"
#include "unlocked.h"

namespace paddock {
namespace {

using Clock = std::chrono::steady_clock;

// Work per second while `count` threads repeat step(thread), which tells how much it did.
template <class Step>
double rate(int count, double seconds, Step step) {
    std::atomic<int64_t> done{0};
    const auto start = Clock::now();
    const auto end = start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    parallel(count, [&](int64_t share, int) {
        int64_t own = 0;
        do own += step(share);
        while (Clock::now() < end);
        done.fetch_add(own);
    });
    return static_cast<double>(done.load()) / std::chrono::duration<double>(Clock::now() - start).count();
}

void check(int64_t count, double seconds) {
    if (count < 1 || count > threads()) refuse("threads must be 1 to " + std::to_string(threads()) + ", those of the pool");
    if (!(seconds > 0 && seconds <= 60)) refuse("seconds must be above 0, at most 60");
}

double read_bandwidth(int64_t bytes, int64_t count, double seconds) {
    constexpr int64_t STEP = 1 << 20, MOST = int64_t{1} << 40;
    check(count, seconds);
    if (bytes < count * STEP || bytes > MOST) refuse("bytes must be at least 1 MiB for each thread");
    const int64_t share = bytes / count / STEP * STEP;
    Unlocked unlocked;
    struct Free {
        void operator()(uint8_t* memory) const { ::operator delete[](memory, std::align_val_t{2 << 20}); }
    };
    const size_t total = static_cast<size_t>(share * count);
    std::unique_ptr<uint8_t[], Free> memory(static_cast<uint8_t*>(::operator new[](total, std::align_val_t{2 << 20})));
    // Written by its reader, so that each share lies near the thread that reads it.
    parallel(count, [&](int64_t part, int) { std::memset(memory.get() + part * share, 1, static_cast<size_t>(share)); });
    const auto read = peaks().read;
    std::vector<int64_t> at(static_cast<size_t>(count * 8));  // a cache line each
    std::atomic<uint64_t> sum{0};
    return rate(static_cast<int>(count), seconds, [&](int64_t part) {
        int64_t& place = at[static_cast<size_t>(part * 8)];
        sum.fetch_or(read(memory.get() + part * share + place, STEP), std::memory_order_relaxed);
        place = (place + STEP) % share;
        return STEP;
    });
}

std::optional<double> peak(const std::string& kind, int64_t count, double seconds) {
    check(count, seconds);
    const Peaks& own = peaks();
    if (kind != "int8" && kind != "bf16" && kind != "f32") refuse("no rate of " + kind + "; there are int8, bf16, f32");
    const auto loop = kind == "int8" ? own.int8_dots : kind == "bf16" ? own.bfloat16_dots : own.float_fmas;
    if (!loop) return std::nullopt;
    Unlocked unlocked;
    return rate(static_cast<int>(count), seconds, [loop](int64_t) { return loop(10000); });
}

}  // namespace

void bind_measure(nb::module_& module) {
    using namespace nb::literals;
    module.def("read_bandwidth", &read_bandwidth, "bytes"_a, "threads"_a, "seconds"_a,
               "Bytes per second that the threads read from a buffer of `bytes`; make it far larger than the caches.");
    module.def("peak_rate", &peak, "kind"_a, "threads"_a, "seconds"_a,
               "Multiply-adds per second in registers for int8, bf16 or f32; None where the variant has no such product.");
}

}  // namespace paddock
