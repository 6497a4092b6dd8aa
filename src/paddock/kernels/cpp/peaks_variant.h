// The loops of one variant. Independent chains enough to cover an instruction's latency at two a cycle.
#pragma once
#include "peaks.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace paddock {
namespace PADDOCK_VARIANT {

constexpr int CHAINS = 12;

// The compiler must take the registers as changed, or it would compute a round once.
template <class Vector>
static inline __attribute__((always_inline)) void touch(Vector& vector) {
#if defined(__AVX2__)
    __asm__ volatile("" : "+v"(vector));
#elif defined(__aarch64__)
    __asm__ volatile("" : "+w"(vector));
#elif defined(__x86_64__)
    __asm__ volatile("" : "+x"(vector));
#else
    __asm__ volatile("" : "+r"(vector));
#endif
}

template <int64_t PRODUCTS, class Vector, class Step>
static inline __attribute__((always_inline)) int64_t count_products(int64_t rounds, Vector zero, Step step) {
    Vector chains[CHAINS];
    for (Vector& chain : chains) chain = zero;
    for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
        for (Vector& chain : chains) {
            chain = step(chain);
            touch(chain);
        }
    }
    return rounds * CHAINS * PRODUCTS;
}

#if defined(__AVX512F__)
static int64_t int8_dots(int64_t rounds) {
    const __m512i x = _mm512_set1_epi8(3);
    return count_products<64>(rounds, _mm512_setzero_si512(), [x](__m512i sum) { return _mm512_dpbusd_epi32(sum, x, x); });
}
static int64_t float_fmas(int64_t rounds) {
    const __m512 x = _mm512_set1_ps(0.5f);
    return count_products<16>(rounds, _mm512_setzero_ps(), [x](__m512 sum) { return _mm512_fmadd_ps(sum, x, x); });
}
#if defined(__AVX512BF16__)
static int64_t bfloat16_dots(int64_t rounds) {
    const __m512bh x = (__m512bh)_mm512_set1_epi16(0x3f00);
    return count_products<32>(rounds, _mm512_setzero_ps(), [x](__m512 sum) { return _mm512_dpbf16_ps(sum, x, x); });
}
#endif
static uint64_t read_all(const uint8_t* data, int64_t bytes) {
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    for (const uint8_t* end = data + bytes; data < end; data += 256) {
        a = _mm512_or_si512(a, _mm512_load_si512(data));
        b = _mm512_or_si512(b, _mm512_load_si512(data + 64));
        c = _mm512_or_si512(c, _mm512_load_si512(data + 128));
        d = _mm512_or_si512(d, _mm512_load_si512(data + 192));
    }
    const __m512i all = _mm512_or_si512(_mm512_or_si512(a, b), _mm512_or_si512(c, d));
    return static_cast<uint64_t>(_mm_cvtsi128_si64(_mm512_castsi512_si128(all)));
}
#elif defined(__AVX2__)
static int64_t int8_dots(int64_t rounds) {  // three instructions do the work of one vpdpbusd
    const __m256i x = _mm256_set1_epi8(3), ones = _mm256_set1_epi16(1);
    return count_products<32>(rounds, _mm256_setzero_si256(), [x, ones](__m256i sum) {
        __m256i operand = x;
        touch(operand);  // or the product, always the same, would leave the loop
        return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(operand, x), ones));
    });
}
static int64_t float_fmas(int64_t rounds) {
    const __m256 x = _mm256_set1_ps(0.5f);
    return count_products<8>(rounds, _mm256_setzero_ps(), [x](__m256 sum) { return _mm256_fmadd_ps(sum, x, x); });
}
static uint64_t read_all(const uint8_t* data, int64_t bytes) {
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    for (const uint8_t* end = data + bytes; data < end; data += 128) {
        a = _mm256_or_si256(a, _mm256_load_si256(reinterpret_cast<const __m256i*>(data)));
        b = _mm256_or_si256(b, _mm256_load_si256(reinterpret_cast<const __m256i*>(data + 32)));
        c = _mm256_or_si256(c, _mm256_load_si256(reinterpret_cast<const __m256i*>(data + 64)));
        d = _mm256_or_si256(d, _mm256_load_si256(reinterpret_cast<const __m256i*>(data + 96)));
    }
    const __m256i all = _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d));
    return static_cast<uint64_t>(_mm_cvtsi128_si64(_mm256_castsi256_si128(all)));
}
#else
#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
static int64_t int8_dots(int64_t rounds) {
    const int8x16_t x = vdupq_n_s8(3);
    return count_products<16>(rounds, vdupq_n_s32(0), [x](int32x4_t sum) { return vdotq_s32(sum, x, x); });
}
static int64_t float_fmas(int64_t rounds) {
    const float32x4_t x = vdupq_n_f32(0.5f);
    return count_products<4>(rounds, vdupq_n_f32(0), [x](float32x4_t sum) { return vfmaq_f32(x, sum, x); });
}
#define PADDOCK_PEAK_INT8 1
#else
static int64_t float_fmas(int64_t rounds) {
    return count_products<1>(rounds, 0.0f, [](float sum) { return sum * 0.5f + 0.5f; });
}
#endif
static uint64_t read_all(const uint8_t* data, int64_t bytes) {
    uint64_t sums[4] = {};
    const uint64_t* words = reinterpret_cast<const uint64_t*>(data);
    for (int64_t index = 0; index < bytes / 8; index += 4) {
        for (int lane = 0; lane < 4; ++lane) sums[lane] |= words[index + lane];
    }
    return sums[0] | sums[1] | sums[2] | sums[3];
}
#endif

extern const Peaks peaks;
const Peaks peaks = {
#if defined(__AVX2__) || defined(PADDOCK_PEAK_INT8)
    int8_dots,
#else
    nullptr,
#endif
#if defined(__AVX512BF16__)
    bfloat16_dots,
#else
    nullptr,
#endif
    float_fmas,
    read_all,
};

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
