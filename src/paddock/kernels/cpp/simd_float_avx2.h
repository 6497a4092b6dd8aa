// Sixteen floats in two AVX2 registers. Included by simd_float.h.
#pragma once
#include <immintrin.h>

namespace paddock {
namespace PADDOCK_VARIANT {

struct Floats {
    __m256 low, high;
};

// All ones in the first n of eight lanes (n may be out of range).
PADDOCK_INLINE __m256i first_lanes(int64_t n) {
    const int count = n < 0 ? 0 : n > 8 ? 8 : static_cast<int>(n);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

PADDOCK_INLINE Floats broadcast(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
PADDOCK_INLINE Floats load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
PADDOCK_INLINE void store(float* p, Floats x) {
    _mm256_storeu_ps(p, x.low);
    _mm256_storeu_ps(p + 8, x.high);
}
// The first n lanes, the others zero; nothing beyond them is touched in memory.
PADDOCK_INLINE Floats load(const float* p, int64_t n) {
    if (n <= 8) return {_mm256_maskload_ps(p, first_lanes(n)), _mm256_setzero_ps()};
    return {_mm256_loadu_ps(p), _mm256_maskload_ps(p + 8, first_lanes(n - 8))};
}
PADDOCK_INLINE void store(float* p, Floats x, int64_t n) {
    _mm256_maskstore_ps(p, first_lanes(n), x.low);
    if (n > 8) _mm256_maskstore_ps(p + 8, first_lanes(n - 8), x.high);
}

PADDOCK_INLINE Floats add(Floats a, Floats b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
PADDOCK_INLINE Floats sub(Floats a, Floats b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
PADDOCK_INLINE Floats mul(Floats a, Floats b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
PADDOCK_INLINE Floats div(Floats a, Floats b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
PADDOCK_INLINE Floats fma(Floats a, Floats b, Floats c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
// b where either is NaN.
PADDOCK_INLINE Floats max(Floats a, Floats b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
PADDOCK_INLINE Floats min(Floats a, Floats b) { return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }
PADDOCK_INLINE Floats round(Floats a) {
    constexpr int NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(a.low, NEAREST), _mm256_round_ps(a.high, NEAREST)};
}
PADDOCK_INLINE Floats magnitude(Floats a) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high)};
}
PADDOCK_INLINE Floats with_sign_of(Floats a, Floats b) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_or_ps(a.low, _mm256_and_ps(sign, b.low)), _mm256_or_ps(a.high, _mm256_and_ps(sign, b.high))};
}
// yes where a < b, no elsewhere (also where either is NaN).
PADDOCK_INLINE Floats select_less(Floats a, Floats b, Floats yes, Floats no) {
    return {_mm256_blendv_ps(no.low, yes.low, _mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ)),
            _mm256_blendv_ps(no.high, yes.high, _mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ))};
}
PADDOCK_INLINE bool any_less(Floats a, Floats b) {
    const __m256 low = _mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ), high = _mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ);
    return _mm256_movemask_ps(_mm256_or_ps(low, high)) != 0;
}
// 2^n for whole n in -126 .. 127.
PADDOCK_INLINE __m256 power_of_two(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
// Twice by half the power, so that results near the ends of the range come out right.
PADDOCK_INLINE __m256 times_power_of_two(__m256 x, __m256 n) {
    const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    return _mm256_mul_ps(_mm256_mul_ps(x, power_of_two(half)), power_of_two(_mm256_sub_epi32(whole, half)));
}
PADDOCK_INLINE Floats times_power_of_two(Floats x, Floats n) {
    return {times_power_of_two(x.low, n.low), times_power_of_two(x.high, n.high)};
}

PADDOCK_INLINE float reduce_add(Floats x) {
    const __m256 eight = _mm256_add_ps(x.low, x.high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
PADDOCK_INLINE float reduce_max(Floats x) {
    const __m256 eight = _mm256_max_ps(x.low, x.high);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

PADDOCK_INLINE __m128i eight_halves(const uint16_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }

PADDOCK_INLINE Floats load_f16(const uint16_t* p) {
    return {_mm256_cvtph_ps(eight_halves(p)), _mm256_cvtph_ps(eight_halves(p + 8))};
}
PADDOCK_INLINE void store_f16(uint16_t* p, Floats x) {
    constexpr int NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x.low, NEAREST));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(x.high, NEAREST));
}
PADDOCK_INLINE __m256 widen_bf16(__m128i h) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
PADDOCK_INLINE Floats load_bf16(const uint16_t* p) {
    return {widen_bf16(eight_halves(p)), widen_bf16(eight_halves(p + 8))};
}
PADDOCK_INLINE __m256i nearest_bf16(__m256 x) {
    const __m256i bits = _mm256_castps_si256(x), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i nearest = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_srli_epi32(_mm256_blendv_epi8(nearest, quiet, nan), 16);
}
PADDOCK_INLINE void store_bf16(uint16_t* p, Floats x) {
    // Packing works within halves of a register: 0..3 8..11 4..7 12..15, put right by the permutation.
    const __m256i packed = _mm256_packus_epi32(nearest_bf16(x.low), nearest_bf16(x.high));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xd8));
}
PADDOCK_INLINE Floats load_int8(const int8_t* p) {
    const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes)),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(codes, 8)))};
}
PADDOCK_INLINE Floats load_f16(const uint16_t* p, int64_t n) {
    uint16_t all[16] = {};
    std::memcpy(all, p, static_cast<size_t>(n > 16 ? 16 : n) * 2);
    return load_f16(all);
}
PADDOCK_INLINE Floats load_bf16(const uint16_t* p, int64_t n) {
    uint16_t all[16] = {};
    std::memcpy(all, p, static_cast<size_t>(n > 16 ? 16 : n) * 2);
    return load_bf16(all);
}
PADDOCK_INLINE Floats load_int8(const int8_t* p, int64_t n) {
    int8_t all[16] = {};
    std::memcpy(all, p, static_cast<size_t>(n > 16 ? 16 : n));
    return load_int8(all);
}

// Pairs of bfloat16 in 32-bit lanes, the first of a pair in the lower half: the floats of the firsts, and of the seconds.
PADDOCK_INLINE __m256i eight_pairs(const uint16_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

PADDOCK_INLINE Floats firsts(const uint16_t* pairs) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(eight_pairs(pairs), 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(eight_pairs(pairs + 16), 16))};
}
PADDOCK_INLINE Floats seconds(const uint16_t* pairs) {
    const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    return {_mm256_castsi256_ps(_mm256_and_si256(eight_pairs(pairs), upper)),
            _mm256_castsi256_ps(_mm256_and_si256(eight_pairs(pairs + 16), upper))};
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
