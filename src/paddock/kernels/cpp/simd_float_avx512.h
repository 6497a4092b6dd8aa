// Sixteen floats in one AVX-512 register. Included by simd_float.h.
#pragma once
#if defined(__GNUC__) && !defined(__clang__)
// GCC 12's own header takes undefined registers in a way that it then warns of.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

namespace paddock {
namespace PADDOCK_VARIANT {

struct Floats {
    __m512 v;
};

PADDOCK_INLINE __mmask16 first_lanes(int64_t n) { return static_cast<__mmask16>(n >= 16 ? 0xffff : (1u << n) - 1); }

PADDOCK_INLINE Floats broadcast(float x) { return {_mm512_set1_ps(x)}; }
PADDOCK_INLINE Floats load(const float* p) { return {_mm512_loadu_ps(p)}; }
PADDOCK_INLINE void store(float* p, Floats x) { _mm512_storeu_ps(p, x.v); }
// The first n lanes, the others zero; nothing beyond them is touched in memory.
PADDOCK_INLINE Floats load(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(first_lanes(n), p)}; }
PADDOCK_INLINE void store(float* p, Floats x, int64_t n) { _mm512_mask_storeu_ps(p, first_lanes(n), x.v); }

PADDOCK_INLINE Floats add(Floats a, Floats b) { return {_mm512_add_ps(a.v, b.v)}; }
PADDOCK_INLINE Floats sub(Floats a, Floats b) { return {_mm512_sub_ps(a.v, b.v)}; }
PADDOCK_INLINE Floats mul(Floats a, Floats b) { return {_mm512_mul_ps(a.v, b.v)}; }
PADDOCK_INLINE Floats div(Floats a, Floats b) { return {_mm512_div_ps(a.v, b.v)}; }
PADDOCK_INLINE Floats fma(Floats a, Floats b, Floats c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
// b where either is NaN.
PADDOCK_INLINE Floats max(Floats a, Floats b) { return {_mm512_max_ps(a.v, b.v)}; }
PADDOCK_INLINE Floats min(Floats a, Floats b) { return {_mm512_min_ps(a.v, b.v)}; }
PADDOCK_INLINE Floats round(Floats a) {
    return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
PADDOCK_INLINE Floats magnitude(Floats a) { return {_mm512_andnot_ps(_mm512_set1_ps(-0.0f), a.v)}; }
PADDOCK_INLINE Floats with_sign_of(Floats a, Floats sign) {
    return {_mm512_or_ps(a.v, _mm512_and_ps(_mm512_set1_ps(-0.0f), sign.v))};
}
// yes where a < b, no elsewhere (also where either is NaN).
PADDOCK_INLINE Floats select_less(Floats a, Floats b, Floats yes, Floats no) {
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), no.v, yes.v)};
}
PADDOCK_INLINE bool any_less(Floats a, Floats b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ) != 0; }
PADDOCK_INLINE Floats times_power_of_two(Floats x, Floats n) { return {_mm512_scalef_ps(x.v, n.v)}; }

PADDOCK_INLINE float reduce_add(Floats x) {
    const __m256 high = _mm512_extractf32x8_ps(x.v, 1), eight = _mm256_add_ps(_mm512_castps512_ps256(x.v), high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
PADDOCK_INLINE float reduce_max(Floats x) {
    const __m256 high = _mm512_extractf32x8_ps(x.v, 1), eight = _mm256_max_ps(_mm512_castps512_ps256(x.v), high);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

PADDOCK_INLINE Floats load_f16(const uint16_t* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
PADDOCK_INLINE Floats load_f16(const uint16_t* p, int64_t n) {
    return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n), p))};
}
PADDOCK_INLINE void store_f16(uint16_t* p, Floats x) {
    const __m256i h = _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), h);
}
PADDOCK_INLINE Floats widen_bf16(__m256i h) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16))};
}
PADDOCK_INLINE Floats load_bf16(const uint16_t* p) {
    return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
PADDOCK_INLINE Floats load_bf16(const uint16_t* p, int64_t n) {
    return widen_bf16(_mm256_maskz_loadu_epi16(first_lanes(n), p));
}
// Ordinary rounding, not the bfloat16 instruction's: that one takes denormals for zero.
PADDOCK_INLINE void store_bf16(uint16_t* p, Floats x) {
    const __m512i bits = _mm512_castps_si512(x.v), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i nearest = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 nan = _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q);
    const __m512i result = _mm512_srli_epi32(_mm512_mask_blend_epi32(nan, nearest, quiet), 16);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(result));
}
PADDOCK_INLINE Floats load_int8(const int8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
PADDOCK_INLINE Floats load_int8(const int8_t* p, int64_t n) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(first_lanes(n), p)))};
}

// Pairs of bfloat16 in 32-bit lanes, the first of a pair in the lower half: the floats of the firsts, and of the seconds.
PADDOCK_INLINE Floats firsts(const uint16_t* pairs) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(pairs), 16))};
}
PADDOCK_INLINE Floats seconds(const uint16_t* pairs) {
    const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(pairs), upper))};
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
