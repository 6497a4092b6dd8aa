// simd_int.h for ARM with the dot-product extension: a line of codes is four registers of signed bytes.
#pragma once
#include <arm_neon.h>

namespace paddock {
namespace PADDOCK_VARIANT {

constexpr int MOST_ROWS = 4;

struct Codes {
    uint8x16_t q[4];
};

PADDOCK_INLINE Codes load_codes(const uint8_t* p) { return {{vld1q_u8(p), vld1q_u8(p + 16), vld1q_u8(p + 32), vld1q_u8(p + 48)}}; }
// Only the bits that stay in their byte are kept; whoever asks masks the others anyway.
template <int N> PADDOCK_INLINE Codes right(Codes x) {
    for (uint8x16_t& q : x.q) q = vshrq_n_u8(q, N);
    return x;
}
template <int N> PADDOCK_INLINE Codes left(Codes x) {
    for (uint8x16_t& q : x.q) q = vshlq_n_u8(q, N);
    return x;
}
PADDOCK_INLINE Codes masked(Codes x, int mask) {
    for (uint8x16_t& q : x.q) q = vandq_u8(q, vdupq_n_u8(uint8_t(mask)));
    return x;
}
// low | (high & mask)
PADDOCK_INLINE Codes merged(Codes low, Codes high, int mask) {
    for (int i = 0; i < 4; i++) low.q[i] = vorrq_u8(low.q[i], vandq_u8(high.q[i], vdupq_n_u8(uint8_t(mask))));
    return low;
}
PADDOCK_INLINE Codes lookup(const uint8_t* sixteen, Codes x) {
    for (uint8x16_t& q : x.q) q = vqtbl1q_u8(vld1q_u8(sixteen), q);
    return x;
}

struct Ints {
    int32x4_t q[4];
};

PADDOCK_INLINE Floats floats(Ints x) {
    Floats result;
    for (int i = 0; i < 4; i++) result.q[i] = vcvtq_f32_s32(x.q[i]);
    return result;
}
PADDOCK_INLINE Floats widened(uint8x16_t x) {
    const uint16x8_t low = vmovl_u8(vget_low_u8(x)), high = vmovl_high_u8(x);
    const uint32x4_t quarters[4] = {vmovl_u16(vget_low_u16(low)), vmovl_high_u16(low), vmovl_u16(vget_low_u16(high)), vmovl_high_u16(high)};
    Floats result;
    for (int i = 0; i < 4; i++) result.q[i] = vcvtq_f32_u32(quarters[i]);
    return result;
}
PADDOCK_INLINE Floats load_uint8(const uint8_t* p) { return widened(vld1q_u8(p)); }
PADDOCK_INLINE Floats load_low_nibbles(const uint8_t* p) { return widened(vandq_u8(vld1q_u8(p), vdupq_n_u8(15))); }
PADDOCK_INLINE Floats load_high_nibbles(const uint8_t* p) { return widened(vshrq_n_u8(vld1q_u8(p), 4)); }

template <int BITS> struct Dot {
    static constexpr int BIAS = BITS == 8 ? 128 : 0;  // as signed bytes, codes of fewer bits are what they are
    int32x4_t sum[4];
    struct Operand {
        int8x16_t q[4];
    };
    static PADDOCK_MEMBER Operand operand(Codes codes) {
        Operand result;
        for (int i = 0; i < 4; i++) result.q[i] = vreinterpretq_s8_u8(veorq_u8(codes.q[i], vdupq_n_u8(uint8_t(BIAS))));
        return result;
    }
    PADDOCK_MEMBER void start(const int32_t* from) {
        for (int32x4_t& quarter : sum) quarter = vdupq_n_s32(from ? *from : 0);
    }
    template <int STEP, int STEPS> PADDOCK_MEMBER void add(const Operand& codes, const int8_t* four) {
        int32_t x;
        memcpy(&x, four, 4);
        for (int i = 0; i < 4; i++) sum[i] = vdotq_s32(sum[i], codes.q[i], vreinterpretq_s8_s32(vdupq_n_s32(x)));
    }
    PADDOCK_MEMBER Ints total() const { return {{sum[0], sum[1], sum[2], sum[3]}}; }
};

// Sixteen floats by index: NF4's levels, as 64 bytes.
struct Levels {
    uint8x16x4_t table;
};

PADDOCK_INLINE Levels load_levels(const float* sixteen) {
    const uint8_t* bytes = reinterpret_cast<const uint8_t*>(sixteen);
    return {{{vld1q_u8(bytes), vld1q_u8(bytes + 16), vld1q_u8(bytes + 32), vld1q_u8(bytes + 48)}}};
}
// Level of nibble N of every lane's four bytes.
template <int N> PADDOCK_INLINE Floats level(const Levels& levels, const uint8_t* line) {
    const Codes codes = load_codes(line);
    Floats result;
    for (int i = 0; i < 4; i++) {
        // Bytes 4 n .. 4 n + 3 of the table for index n.
        const uint32x4_t shifted = vshlq_u32(vreinterpretq_u32_u8(codes.q[i]), vdupq_n_s32(-4 * N));
        const uint32x4_t places = vmlaq_u32(vdupq_n_u32(0x03020100), vandq_u32(shifted, vdupq_n_u32(15)), vdupq_n_u32(0x04040404));
        result.q[i] = vreinterpretq_f32_u8(vqtbl4q_u8(levels.table, vreinterpretq_u8_u32(places)));
    }
    return result;
}

// One group of 32 activations to codes: writes 32 codes, the scale, and two sums of 16.
PADDOCK_INLINE void quantise_group(const float* x, int8_t* codes, float* scale, int32_t* sums) {
    // Compared as integers, NaN is the largest of all: it must not be lost.
    uint32x4_t sizes = vdupq_n_u32(0);
    for (int i = 0; i < GROUP; i += 4) sizes = vmaxq_u32(sizes, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), vdupq_n_u32(0x7fffffff)));
    const uint32_t bits = vmaxvq_u32(sizes);
    float largest;
    memcpy(&largest, &bits, 4);
    *scale = largest / 127.0f;
    const uint32x4_t sound = vdupq_n_u32(*scale > 0 && bits < 0x7f800000u ? 0xffffffffu : 0);
    sums[0] = sums[1] = 0;
    for (int i = 0; i < GROUP; i += 4) {
        const float32x4_t quotient = vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(vdivq_f32(vld1q_f32(x + i), vdupq_n_f32(*scale))), sound));
        const int32x4_t four = vcvtnq_s32_f32(vminq_f32(vmaxq_f32(quotient, vdupq_n_f32(-127.0f)), vdupq_n_f32(127.0f)));
        sums[i / 16] += vaddvq_s32(four);
        int32_t each[4];
        vst1q_s32(each, four);
        for (int j = 0; j < 4; j++) codes[i + j] = int8_t(each[j]);
    }
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
