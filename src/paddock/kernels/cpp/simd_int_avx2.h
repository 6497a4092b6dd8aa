// simd_int.h for AVX2: a line of codes is two registers. Products are added up in int16 as long as they cannot overflow:
// pairs of codes below 2^BITS times activations up to 127.
#pragma once
#include <immintrin.h>

namespace paddock {
namespace PADDOCK_VARIANT {

constexpr int MOST_ROWS = 4;

struct Codes {
    __m256i low, high;
};

PADDOCK_INLINE Codes load_codes(const uint8_t* p) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32))};
}
// Bits cross bytes: mask after.
template <int N> PADDOCK_INLINE Codes right(Codes x) { return {_mm256_srli_epi16(x.low, N), _mm256_srli_epi16(x.high, N)}; }
template <int N> PADDOCK_INLINE Codes left(Codes x) { return {_mm256_slli_epi16(x.low, N), _mm256_slli_epi16(x.high, N)}; }
PADDOCK_INLINE Codes masked(Codes x, int mask) {
    const __m256i bits = _mm256_set1_epi8(char(mask));
    return {_mm256_and_si256(x.low, bits), _mm256_and_si256(x.high, bits)};
}
// low | (high & mask)
PADDOCK_INLINE Codes merged(Codes low, Codes high, int mask) {
    const Codes more = masked(high, mask);
    return {_mm256_or_si256(low.low, more.low), _mm256_or_si256(low.high, more.high)};
}
PADDOCK_INLINE Codes lookup(const uint8_t* sixteen, Codes x) {
    const __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(sixteen)));
    return {_mm256_shuffle_epi8(table, x.low), _mm256_shuffle_epi8(table, x.high)};
}

struct Ints {
    __m256i low, high;
};

PADDOCK_INLINE Floats floats(Ints x) { return {_mm256_cvtepi32_ps(x.low), _mm256_cvtepi32_ps(x.high)}; }
PADDOCK_INLINE Ints sixteen_bytes(const uint8_t* p) {
    return {_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))),
            _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8)))};
}
PADDOCK_INLINE Floats load_uint8(const uint8_t* p) { return floats(sixteen_bytes(p)); }
PADDOCK_INLINE Floats load_low_nibbles(const uint8_t* p) {
    const Ints bytes = sixteen_bytes(p);
    const __m256i mask = _mm256_set1_epi32(15);
    return floats({_mm256_and_si256(bytes.low, mask), _mm256_and_si256(bytes.high, mask)});
}
PADDOCK_INLINE Floats load_high_nibbles(const uint8_t* p) {
    const Ints bytes = sixteen_bytes(p);
    return floats({_mm256_srli_epi32(bytes.low, 4), _mm256_srli_epi32(bytes.high, 4)});
}

PADDOCK_INLINE __m256i broadcast_four(const int8_t* four) {
    int32_t x;
    memcpy(&x, four, 4);
    return _mm256_set1_epi32(x);
}

template <int BITS> struct Dot {
    static constexpr int BIAS = 0;
    static constexpr int EVERY = BITS <= 4 ? 8 : BITS == 5 ? 4 : 2;  // steps that int16 can hold
    static_assert(BITS <= 6, "int16 holds no pair of larger products");
    const int32_t* from;
    __m256i part_low, part_high, sum_low, sum_high;
    using Operand = Codes;
    static PADDOCK_MEMBER Operand operand(Codes codes) { return codes; }
    PADDOCK_MEMBER void start(const int32_t* value) { from = value; }
    template <int STEP, int STEPS> PADDOCK_MEMBER void add(Operand codes, const int8_t* four) {
        const __m256i x = broadcast_four(four);
        const __m256i low = _mm256_maddubs_epi16(codes.low, x), high = _mm256_maddubs_epi16(codes.high, x);
        part_low = STEP % EVERY == 0 ? low : _mm256_add_epi16(part_low, low);
        part_high = STEP % EVERY == 0 ? high : _mm256_add_epi16(part_high, high);
        // In this order: left alone, the compiler adds up later and spills what waits.
        asm("" : "+x"(part_low), "+x"(part_high));
        if constexpr ((STEP + 1) % EVERY == 0 || STEP + 1 == STEPS) {
            const __m256i ones = _mm256_set1_epi16(1);
            const __m256i pairs_low = _mm256_madd_epi16(part_low, ones), pairs_high = _mm256_madd_epi16(part_high, ones);
            constexpr bool FIRST = STEP < EVERY;
            if (FIRST && !from) {
                sum_low = pairs_low;
                sum_high = pairs_high;
            } else {
                sum_low = _mm256_add_epi32(FIRST ? _mm256_set1_epi32(*from) : sum_low, pairs_low);
                sum_high = _mm256_add_epi32(FIRST ? _mm256_set1_epi32(*from) : sum_high, pairs_high);
            }
        }
    }
    PADDOCK_MEMBER Ints total() const { return {sum_low, sum_high}; }
};

// Eight bits: the sign goes over to the activations, for pairs of magnitudes up to 128 times 127 fit int16.
template <> struct Dot<8> {
    static constexpr int BIAS = 128;
    __m256i low, high;
    struct Operand {
        Codes value, magnitude;
    };
    static PADDOCK_MEMBER Operand operand(Codes codes) {
        const __m256i bias = _mm256_set1_epi8(-128);
        const Codes value = {_mm256_xor_si256(codes.low, bias), _mm256_xor_si256(codes.high, bias)};
        return {value, {_mm256_abs_epi8(value.low), _mm256_abs_epi8(value.high)}};
    }
    PADDOCK_MEMBER void start(const int32_t* value) { low = high = value ? _mm256_set1_epi32(*value) : _mm256_setzero_si256(); }
    template <int STEP, int STEPS> PADDOCK_MEMBER void add(const Operand& codes, const int8_t* four) {
        const __m256i x = broadcast_four(four), ones = _mm256_set1_epi16(1);
        const __m256i a = _mm256_maddubs_epi16(codes.magnitude.low, _mm256_sign_epi8(x, codes.value.low));
        const __m256i b = _mm256_maddubs_epi16(codes.magnitude.high, _mm256_sign_epi8(x, codes.value.high));
        low = _mm256_add_epi32(low, _mm256_madd_epi16(a, ones));
        high = _mm256_add_epi32(high, _mm256_madd_epi16(b, ones));
        asm("" : "+x"(low), "+x"(high));  // in this order, as above
    }
    PADDOCK_MEMBER Ints total() const { return {low, high}; }
};

// Sixteen floats by index: NF4's levels.
struct Levels {
    __m256 low, high;
};

PADDOCK_INLINE Levels load_levels(const float* sixteen) { return {_mm256_loadu_ps(sixteen), _mm256_loadu_ps(sixteen + 8)}; }
template <int N> PADDOCK_INLINE __m256 eight_levels(Levels levels, __m256i codes) {
    const __m256i index = _mm256_srli_epi32(codes, 4 * N), fourth_bit = _mm256_slli_epi32(codes, 28 - 4 * N);
    const __m256 low = _mm256_permutevar8x32_ps(levels.low, index), high = _mm256_permutevar8x32_ps(levels.high, index);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(fourth_bit));
}
// Level of nibble N of every lane's four bytes.
template <int N> PADDOCK_INLINE Floats level(Levels levels, const uint8_t* line) {
    const Codes codes = load_codes(line);
    return {eight_levels<N>(levels, codes.low), eight_levels<N>(levels, codes.high)};
}

// Eight codes as int32.
PADDOCK_INLINE __m256i eight_codes(const float* x, __m256 scale, __m256 sound) {
    const __m256 most = _mm256_set1_ps(127.0f), least = _mm256_set1_ps(-127.0f);
    const __m256 quotient = _mm256_and_ps(_mm256_div_ps(_mm256_loadu_ps(x), scale), sound);
    return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(quotient, least), most));
}

// One group of 32 activations to codes: writes 32 codes, the scale, and two sums of 16.
PADDOCK_INLINE void quantise_group(const float* x, int8_t* codes, float* scale, int32_t* sums) {
    const __m256i positive = _mm256_set1_epi32(0x7fffffff);
    // Compared as integers, NaN is the largest of all: it must not be lost.
    __m256i sizes = _mm256_setzero_si256();
    for (int i = 0; i < GROUP; i += 8) sizes = _mm256_max_epu32(sizes, _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x + i)), positive));
    __m128i four = _mm_max_epu32(_mm256_castsi256_si128(sizes), _mm256_extracti128_si256(sizes, 1));
    four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4e));
    const int32_t bits = _mm_cvtsi128_si32(_mm_max_epu32(four, _mm_shuffle_epi32(four, 0xb1)));
    float largest;
    memcpy(&largest, &bits, 4);
    *scale = largest / 127.0f;
    const __m256 sound = _mm256_castsi256_ps(_mm256_set1_epi32(*scale > 0 && bits < 0x7f800000 ? -1 : 0)), by = _mm256_set1_ps(*scale);
    for (int half = 0; half < 2; half++) {
        const __m256i a = eight_codes(x + half * 16, by, sound), b = eight_codes(x + half * 16 + 8, by, sound);
        const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
        const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + half * 16), bytes);
        const __m256i eight = _mm256_add_epi32(a, b);
        __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
        sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
        sums[half] = _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1)));
    }
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
