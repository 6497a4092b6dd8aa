// simd_int.h for AVX-512 with VNNI: a line of codes is one register, and one instruction multiplies and adds all of it.
#pragma once
#include <immintrin.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // of the undefined registers inside gcc 12's own intrinsics
#endif

namespace paddock {
namespace PADDOCK_VARIANT {

constexpr int MOST_ROWS = 12;  // rows a micro-kernel takes: two accumulators for each, and a few registers besides

struct Codes {
    __m512i v;
};

PADDOCK_INLINE Codes load_codes(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
// Bits cross bytes: mask after.
template <int N> PADDOCK_INLINE Codes right(Codes x) { return {_mm512_srli_epi16(x.v, N)}; }
template <int N> PADDOCK_INLINE Codes left(Codes x) { return {_mm512_slli_epi16(x.v, N)}; }
PADDOCK_INLINE Codes masked(Codes x, int mask) { return {_mm512_and_si512(x.v, _mm512_set1_epi8(char(mask)))}; }
// low | (high & mask)
PADDOCK_INLINE Codes merged(Codes low, Codes high, int mask) {
    return {_mm512_ternarylogic_epi32(low.v, high.v, _mm512_set1_epi8(char(mask)), 0xF8)};
}
PADDOCK_INLINE Codes lookup(const uint8_t* sixteen, Codes x) {
    const __m128i table = _mm_loadu_si128(reinterpret_cast<const __m128i*>(sixteen));
    return {_mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), x.v)};
}

struct Ints {
    __m512i v;
};

PADDOCK_INLINE Floats floats(Ints x) { return {_mm512_cvtepi32_ps(x.v)}; }
PADDOCK_INLINE __m512i sixteen_bytes(const uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
PADDOCK_INLINE Floats load_uint8(const uint8_t* p) { return {_mm512_cvtepi32_ps(sixteen_bytes(p))}; }
PADDOCK_INLINE Floats load_low_nibbles(const uint8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_and_si512(sixteen_bytes(p), _mm512_set1_epi32(15)))};
}
PADDOCK_INLINE Floats load_high_nibbles(const uint8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_srli_epi32(sixteen_bytes(p), 4))};
}

template <int BITS> struct Dot {
    static constexpr int BIAS = 0;
    __m512i sum;
    struct Operand {
        __m512i v;
    };
    static PADDOCK_MEMBER Operand operand(Codes codes) { return {codes.v}; }
    PADDOCK_MEMBER void start(const int32_t* from) { sum = from ? _mm512_set1_epi32(*from) : _mm512_setzero_si512(); }
    template <int STEP, int STEPS> PADDOCK_MEMBER void add(Operand codes, const int8_t* four) {
        int32_t x;
        memcpy(&x, four, 4);
        sum = _mm512_dpbusd_epi32(sum, codes.v, _mm512_set1_epi32(x));
    }
    PADDOCK_MEMBER Ints total() const { return {sum}; }
};

// Sixteen floats by index: NF4's levels.
struct Levels {
    __m512 table;
};

PADDOCK_INLINE Levels load_levels(const float* sixteen) { return {_mm512_loadu_ps(sixteen)}; }
// Level of nibble N of every lane's four bytes. The index is a lane's lowest four bits: to read from another byte on costs
// less than to shift by one. Up to 3 bytes after the line are read; scales lie there.
template <int N> PADDOCK_INLINE Floats level(Levels levels, const uint8_t* line) {
    const __m512i codes = _mm512_loadu_si512(line + N / 2);
    return {_mm512_permutexvar_ps(N % 2 ? _mm512_srli_epi32(codes, 4) : codes, levels.table)};
}

// One group of 32 activations to codes: writes 32 codes, the scale, and two sums of 16.
PADDOCK_INLINE void quantise_group(const float* x, int8_t* codes, float* scale, int32_t* sums) {
    const __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
    const __m512i positive = _mm512_set1_epi32(0x7fffffff);
    // Compared as integers, NaN is the largest of all: it must not be lost.
    const __m512i sizes = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(a), positive),
                                           _mm512_and_si512(_mm512_castps_si512(b), positive));
    const int32_t bits = int32_t(_mm512_reduce_max_epu32(sizes));
    float largest;
    memcpy(&largest, &bits, 4);
    *scale = largest / 127.0f;
    const __mmask16 sound = *scale > 0 && bits < 0x7f800000 ? 0xffff : 0;
    const __m512 by = _mm512_set1_ps(*scale), most = _mm512_set1_ps(127.0f), least = _mm512_set1_ps(-127.0f);
    const __m512 p = _mm512_min_ps(_mm512_max_ps(_mm512_maskz_div_ps(sound, a, by), least), most);
    const __m512 q = _mm512_min_ps(_mm512_max_ps(_mm512_maskz_div_ps(sound, b, by), least), most);
    const __m512i c = _mm512_cvtps_epi32(p), d = _mm512_cvtps_epi32(q);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), _mm512_cvtepi32_epi8(c));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + 16), _mm512_cvtepi32_epi8(d));
    sums[0] = _mm512_reduce_add_epi32(c);
    sums[1] = _mm512_reduce_add_epi32(d);
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
