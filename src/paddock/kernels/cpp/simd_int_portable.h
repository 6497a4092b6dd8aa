// simd_int.h for any machine. On x86-64, which always has SSE2, pairs of int16 are multiplied and added at once; elsewhere
// it is left to the compiler.
#pragma once
#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace paddock {
namespace PADDOCK_VARIANT {

constexpr int MOST_ROWS = 4;

typedef uint8_t SixteenBytes __attribute__((vector_size(16)));
typedef uint16_t EightWords __attribute__((vector_size(16)));
typedef int32_t FourInts __attribute__((vector_size(16)));

struct Codes {
    SixteenBytes q[4];
};

PADDOCK_INLINE Codes load_codes(const uint8_t* p) {
    Codes x;
    memcpy(&x, p, sizeof x);
    return x;
}
// Bits cross bytes: mask after.
template <int N> PADDOCK_INLINE Codes right(Codes x) {
    for (SixteenBytes& q : x.q) q = (SixteenBytes)((EightWords)q >> N);
    return x;
}
template <int N> PADDOCK_INLINE Codes left(Codes x) {
    for (SixteenBytes& q : x.q) q = (SixteenBytes)((EightWords)q << N);
    return x;
}
PADDOCK_INLINE Codes masked(Codes x, int mask) {
    for (SixteenBytes& q : x.q) q &= uint8_t(mask);
    return x;
}
// low | (high & mask)
PADDOCK_INLINE Codes merged(Codes low, Codes high, int mask) {
    for (int i = 0; i < 4; i++) low.q[i] |= high.q[i] & uint8_t(mask);
    return low;
}
PADDOCK_INLINE Codes lookup(const uint8_t* sixteen, Codes x) {
    uint8_t bytes[64];
    memcpy(bytes, &x, sizeof bytes);
    for (uint8_t& byte : bytes) byte = sixteen[byte];
    return load_codes(bytes);
}

struct Ints {
    FourInts q[4];
};

PADDOCK_INLINE Floats floats(Ints x) {
    Floats result;
    for (int i = 0; i < 4; i++) result.q[i] = __builtin_convertvector(x.q[i], Quarter);
    return result;
}
PADDOCK_INLINE Floats load_uint8(const uint8_t* p) {
    alignas(64) float x[LANES];
    for (int i = 0; i < LANES; i++) x[i] = float(p[i]);
    return load(x);
}
PADDOCK_INLINE Floats load_low_nibbles(const uint8_t* p) {
    alignas(64) float x[LANES];
    for (int i = 0; i < LANES; i++) x[i] = float(p[i] & 15);
    return load(x);
}
PADDOCK_INLINE Floats load_high_nibbles(const uint8_t* p) {
    alignas(64) float x[LANES];
    for (int i = 0; i < LANES; i++) x[i] = float(p[i] >> 4);
    return load(x);
}

template <int BITS> struct Dot {
    static constexpr int BIAS = 0;
    FourInts sum[4];
    struct Operand {
        EightWords even[4], odd[4];  // the bytes 0 and 2, and 1 and 3, of every lane
    };
    static PADDOCK_MEMBER Operand operand(Codes codes) {
        Operand result;
        for (int i = 0; i < 4; i++) {
            const EightWords words = (EightWords)codes.q[i];
            result.even[i] = words & 255;
            result.odd[i] = words >> 8;
        }
        return result;
    }
    PADDOCK_MEMBER void start(const int32_t* from) {
        const int32_t x = from ? *from : 0;
        for (FourInts& quarter : sum) quarter = FourInts{x, x, x, x};
    }
    // Lanes' sums of pairs of int16 products.
    static PADDOCK_MEMBER FourInts pairs(EightWords codes, int16_t first, int16_t second) {
#ifdef __SSE2__
        const int32_t both = int32_t(uint32_t(uint16_t(first)) | uint32_t(uint16_t(second)) << 16);
        return (FourInts)_mm_madd_epi16((__m128i)codes, _mm_set1_epi32(both));
#else
        FourInts result;
        for (int i = 0; i < 4; i++) result[i] = int32_t(codes[2 * i]) * first + int32_t(codes[2 * i + 1]) * second;
        return result;
#endif
    }
    template <int STEP, int STEPS> PADDOCK_MEMBER void add(const Operand& codes, const int8_t* four) {
        for (int i = 0; i < 4; i++) sum[i] += pairs(codes.even[i], four[0], four[2]) + pairs(codes.odd[i], four[1], four[3]);
    }
    PADDOCK_MEMBER Ints total() const {
        Ints result;
        for (int i = 0; i < 4; i++) result.q[i] = sum[i];
        return result;
    }
};

// Sixteen floats by index: NF4's levels.
struct Levels {
    const float* table;
};

PADDOCK_INLINE Levels load_levels(const float* sixteen) { return {sixteen}; }
// Level of nibble N of every lane's four bytes.
template <int N> PADDOCK_INLINE Floats level(Levels levels, const uint8_t* line) {
    alignas(64) float x[LANES];
    for (int i = 0; i < LANES; i++) x[i] = levels.table[line[4 * i + N / 2] >> N % 2 * 4 & 15];
    return load(x);
}

// One group of 32 activations to codes: writes 32 codes, the scale, and two sums of 16.
PADDOCK_INLINE void quantise_group(const float* x, int8_t* codes, float* scale, int32_t* sums) {
    uint32_t bits[GROUP], most = 0;
    memcpy(bits, x, sizeof bits);
    // Compared as integers, NaN is the largest of all: it must not be lost.
    for (uint32_t b : bits) most = (b & 0x7fffffffu) > most ? b & 0x7fffffffu : most;
    float largest;
    memcpy(&largest, &most, 4);
    *scale = largest / 127.0f;
    const bool sound = *scale > 0 && most < 0x7f800000u;
    sums[0] = sums[1] = 0;
    for (int i = 0; i < GROUP; i++) {
        float quotient = sound ? x[i] / *scale : 0.0f;
        quotient = quotient > 127.0f ? 127.0f : quotient < -127.0f ? -127.0f : quotient;
        // Adding 1.5 * 2^23 leaves no bits for a fraction: rounds to nearest, ties to even.
        const int32_t code = int32_t((quotient + 12582912.0f) - 12582912.0f);
        codes[i] = int8_t(code);
        sums[i / 16] += code;
    }
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
