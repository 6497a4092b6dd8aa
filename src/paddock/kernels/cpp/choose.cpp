// Compiled for the plainest machine: looks at the processor before any wider instruction runs.
#include "choose.h"

#include <atomic>

#include "tiled.h"

#if defined(PADDOCK_HAS_avx2)
#include <cpuid.h>
#if defined(PADDOCK_HAS_amx) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(PADDOCK_HAS_neon) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(PADDOCK_HAS_neon) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace paddock {

#define VARIANT(name) namespace name { extern const Kernels table; extern const Peaks peaks; extern const Training training; }
VARIANT(portable)
#ifdef PADDOCK_HAS_avx2
VARIANT(avx2)
#endif
#ifdef PADDOCK_HAS_avx512
VARIANT(avx512)
#endif
#ifdef PADDOCK_HAS_avx512bf16
VARIANT(avx512bf16)
#endif
#ifdef PADDOCK_HAS_neon
VARIANT(neon)
#endif
#undef VARIANT
#ifdef PADDOCK_HAS_amx
namespace amx { extern const Tiled tiled; }
#endif
#ifdef PADDOCK_HAS_amx_emulated
namespace amx_emulated { extern const Tiled tiled; }
#endif

namespace {

struct Processor {
    bool avx2 = false, avx512 = false, avx512bf16 = false, amx = false, dotprod = false;
};

#if defined(PADDOCK_HAS_avx2)
bool bit(unsigned word, int position) { return (word >> position) & 1; }

Processor look() {
    Processor found;
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return found;
    bool fma = bit(c, 12), os_saves = bit(c, 27), avx = bit(c, 28), f16c = bit(c, 29);
    if (!(fma && os_saves && avx && f16c)) return found;
    // XGETBV: the registers the operating system saves. A wide instruction faults where it does not.
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    constexpr unsigned YMM = 0x6, ZMM = 0xe6, TILES = 0x60000;
    if ((low & YMM) != YMM || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
    found.avx2 = bit(b, 5);
    bool f = bit(b, 16), dq = bit(b, 17), bw = bit(b, 30), vl = bit(b, 31), vbmi = bit(c, 1), vnni = bit(c, 11);
    found.avx512 = found.avx2 && (low & ZMM) == ZMM && f && dq && bw && vl && vbmi && vnni;
    bool tiles = (low & TILES) == TILES && bit(d, 22) && bit(d, 24) && bit(d, 25);
    unsigned leaves = a;
    found.avx512bf16 = found.avx512 && leaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && bit(a, 5);
    found.amx = found.avx512bf16 && tiles;
    return found;
}
#elif defined(PADDOCK_HAS_neon) && defined(__linux__)
Processor look() {
    Processor found;
    constexpr unsigned long ASIMDDP = 1ul << 20;
    found.dotprod = getauxval(AT_HWCAP) & ASIMDDP;
    return found;
}
#elif defined(PADDOCK_HAS_neon) && defined(__APPLE__)
Processor look() {
    Processor found;
    int has = 0;
    size_t size = sizeof has;
    found.dotprod = sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, nullptr, 0) == 0 && has;
    return found;
}
#else
Processor look() { return {}; }
#endif

const Processor& processor() {
    static const Processor found = look();
    return found;
}

// What this build holds, best last.
struct Built {
    const Kernels* kernels;
    const Peaks* peaks;
    const Training* training;
    bool runs;
    std::string refused = {};  // why not, where the processor could
};

// A variant whose products are a matrix unit's.
struct WithTiles {
    Kernels kernels;
    Peaks peaks;

    WithTiles(const char* name, const Kernels& below, const Peaks& own, const Tiled& tiled) : kernels(below), peaks(own) {
        kernels.name = name, kernels.linear = tiled.linear;
        peaks.int8_dots = tiled.int8_dots, peaks.bfloat16_dots = tiled.bfloat16_dots;
    }
};

#ifdef PADDOCK_HAS_amx
// Linux gives a process the tile registers when it asks, once for all its threads, those running included.
bool tiles_granted() {
#if defined(__linux__)
    constexpr long REQUEST = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
#else
    return false;
#endif
}

Built with_amx() {
    static const WithTiles whole("amx", avx512bf16::table, avx512bf16::peaks, amx::tiled);
    Built found = {&whole.kernels, &whole.peaks, &avx512bf16::training, false};
    if (!processor().amx) return found;
    if (!tiles_granted()) found.refused = "the system does not grant this process the tile registers";
    else if (!proved(amx::tiled, avx512bf16::table)) found.refused = "the tiles' products are not those of avx512bf16 on this machine";
    else found.runs = true;
    return found;
}
#endif

#ifdef PADDOCK_HAS_amx_emulated
// The same kernels for tests on other machines: far too slow to be chosen, so it is never the last.
Built with_amx_emulated() {
    static const WithTiles whole("amx-emulated", avx512::table, avx512::peaks, amx_emulated::tiled);
    return {&whole.kernels, &whole.peaks, &avx512::training, processor().avx512};
}
#endif

const std::vector<Built>& built() {
    static const std::vector<Built> all = {
        {&portable::table, &portable::peaks, &portable::training, true},
#ifdef PADDOCK_HAS_amx_emulated
        with_amx_emulated(),
#endif
#ifdef PADDOCK_HAS_neon
        {&neon::table, &neon::peaks, &neon::training, processor().dotprod},
#endif
#ifdef PADDOCK_HAS_avx2
        {&avx2::table, &avx2::peaks, &avx2::training, processor().avx2},
#endif
#ifdef PADDOCK_HAS_avx512
        {&avx512::table, &avx512::peaks, &avx512::training, processor().avx512},
#endif
#ifdef PADDOCK_HAS_avx512bf16
        {&avx512bf16::table, &avx512bf16::peaks, &avx512bf16::training, processor().avx512bf16},
#endif
#ifdef PADDOCK_HAS_amx
        with_amx(),
#endif
    };
    return all;
}

const Built* named(const std::string& name) {
    for (const Built& each : built()) {
        if (each.runs && name == each.kernels->name) return &each;
    }
    return nullptr;
}

const Kernels* kernels_named(const char* name) {
    const Built* found = named(name);
    return found ? found->kernels : nullptr;
}

std::atomic<const Built*> current{nullptr};

const Built& in_use() {
    const Built* chosen = current.load(std::memory_order_acquire);
    if (chosen) return *chosen;
    for (const Built& each : built()) {
        if (each.runs) chosen = &each;
    }
    current.store(chosen, std::memory_order_release);
    return *chosen;
}

}  // namespace

const Kernels* kernels_portable() { return kernels_named("portable"); }
const Kernels* kernels_avx2() { return kernels_named("avx2"); }
const Kernels* kernels_avx512() { return kernels_named("avx512"); }
const Kernels* kernels_avx512bf16() { return kernels_named("avx512bf16"); }
const Kernels* kernels_neon() { return kernels_named("neon"); }

std::vector<std::string> built_variants() {
    std::vector<std::string> names;
    for (const Built& each : built()) names.emplace_back(each.kernels->name);
    return names;
}

std::map<std::string, std::string> refused_variants() {
    std::map<std::string, std::string> refused;
    for (const Built& each : built()) {
        if (!each.refused.empty()) refused[each.kernels->name] = each.refused;
    }
    return refused;
}

std::vector<const Kernels*> usable_variants() {
    std::vector<const Kernels*> usable;
    for (const Built& each : built()) {
        if (each.runs) usable.push_back(each.kernels);
    }
    return usable;
}

const Kernels& kernels() { return *in_use().kernels; }
const Peaks& peaks() { return *in_use().peaks; }
const Training& training() { return *in_use().training; }

bool use_variant(const std::string& name) {
    const Built* found = named(name);
    if (found) current.store(found, std::memory_order_release);
    return found != nullptr;
}

}  // namespace paddock
