// Compiled for the plainest machine: looks at the processor before any wider instruction runs.
#include "choose.h"

#include <atomic>

#if defined(PADDOCK_HAS_avx2)
#include <cpuid.h>
#elif defined(PADDOCK_HAS_neon) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(PADDOCK_HAS_neon) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace paddock {

#define VARIANT(name) namespace name { extern const Kernels table; }
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

namespace {

struct Processor {
    bool avx2 = false, avx512 = false, avx512bf16 = false, dotprod = false;
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
    constexpr unsigned YMM = 0x6, ZMM = 0xe6;
    if ((low & YMM) != YMM || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
    found.avx2 = bit(b, 5);
    bool f = bit(b, 16), dq = bit(b, 17), bw = bit(b, 30), vl = bit(b, 31), vbmi = bit(c, 1), vnni = bit(c, 11);
    found.avx512 = found.avx2 && (low & ZMM) == ZMM && f && dq && bw && vl && vbmi && vnni;
    unsigned leaves = a;
    found.avx512bf16 = found.avx512 && leaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && bit(a, 5);
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

std::atomic<const Kernels*> current{nullptr};

}  // namespace

const Kernels* kernels_portable() { return &portable::table; }

const Kernels* kernels_avx2() {
#ifdef PADDOCK_HAS_avx2
    if (processor().avx2) return &avx2::table;
#endif
    return nullptr;
}

const Kernels* kernels_avx512() {
#ifdef PADDOCK_HAS_avx512
    if (processor().avx512) return &avx512::table;
#endif
    return nullptr;
}

const Kernels* kernels_avx512bf16() {
#ifdef PADDOCK_HAS_avx512bf16
    if (processor().avx512bf16) return &avx512bf16::table;
#endif
    return nullptr;
}

const Kernels* kernels_neon() {
#ifdef PADDOCK_HAS_neon
    if (processor().dotprod) return &neon::table;
#endif
    return nullptr;
}

std::vector<std::string> built_variants() {
    std::vector<std::string> names = {"portable"};
#ifdef PADDOCK_HAS_neon
    names.push_back("neon");
#endif
#ifdef PADDOCK_HAS_avx2
    names.push_back("avx2");
#endif
#ifdef PADDOCK_HAS_avx512
    names.push_back("avx512");
#endif
#ifdef PADDOCK_HAS_avx512bf16
    names.push_back("avx512bf16");
#endif
    return names;
}

std::vector<const Kernels*> usable_variants() {
    std::vector<const Kernels*> usable;
    for (const Kernels* each :
         {kernels_portable(), kernels_neon(), kernels_avx2(), kernels_avx512(), kernels_avx512bf16()}) {
        if (each) usable.push_back(each);
    }
    return usable;
}

const Kernels& kernels() {
    const Kernels* chosen = current.load(std::memory_order_acquire);
    if (!chosen) {
        chosen = usable_variants().back();
        current.store(chosen, std::memory_order_release);
    }
    return *chosen;
}

bool use_variant(const std::string& name) {
    for (const Kernels* each : usable_variants()) {
        if (name == each->name) {
            current.store(each, std::memory_order_release);
            return true;
        }
    }
    return false;
}

}  // namespace paddock
