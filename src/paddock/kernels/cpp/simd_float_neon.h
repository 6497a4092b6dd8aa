// Sixteen floats in four registers of 64-bit ARM, whose least machine has all of this. Included by simd_float.h.
#pragma once
#include <arm_neon.h>

namespace paddock {
namespace PADDOCK_VARIANT {

using Quarter = float32x4_t;

struct Floats {
    Quarter q[4];
};

#define PADDOCK_EACH_QUARTER(expression)                  \
    Floats result;                                        \
    PADDOCK_UNROLL                                        \
    for (int i = 0; i < 4; i++) result.q[i] = expression; \
    return result

PADDOCK_INLINE Floats broadcast(float x) { PADDOCK_EACH_QUARTER(vdupq_n_f32(x)); }
PADDOCK_INLINE Floats load(const float* p) { PADDOCK_EACH_QUARTER(vld1q_f32(p + 4 * i)); }
PADDOCK_INLINE void store(float* p, Floats x) {
    PADDOCK_UNROLL
    for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, x.q[i]);
}

// The first n of sixteen numbers, zeros behind them.
template <class T>
struct Part {
    alignas(64) T all[16] = {};
    PADDOCK_FORCED Part(const T* p, int64_t n) { std::memcpy(all, p, static_cast<size_t>(n > 16 ? 16 : n) * sizeof(T)); }
};

// The first n lanes, the others zero; nothing beyond them is touched in memory.
PADDOCK_INLINE Floats load(const float* p, int64_t n) { return load(Part<float>(p, n).all); }
PADDOCK_INLINE void store(float* p, Floats x, int64_t n) {
    alignas(64) float all[16];
    store(all, x);
    std::memcpy(p, all, static_cast<size_t>(n > 16 ? 16 : n) * 4);
}

PADDOCK_INLINE Floats add(Floats a, Floats b) { PADDOCK_EACH_QUARTER(vaddq_f32(a.q[i], b.q[i])); }
PADDOCK_INLINE Floats sub(Floats a, Floats b) { PADDOCK_EACH_QUARTER(vsubq_f32(a.q[i], b.q[i])); }
PADDOCK_INLINE Floats mul(Floats a, Floats b) { PADDOCK_EACH_QUARTER(vmulq_f32(a.q[i], b.q[i])); }
PADDOCK_INLINE Floats div(Floats a, Floats b) { PADDOCK_EACH_QUARTER(vdivq_f32(a.q[i], b.q[i])); }
PADDOCK_INLINE Floats fma(Floats a, Floats b, Floats c) { PADDOCK_EACH_QUARTER(vfmaq_f32(c.q[i], a.q[i], b.q[i])); }
// b where either is NaN, which vmaxq_f32 and vmaxnmq_f32 do otherwise.
PADDOCK_INLINE Floats max(Floats a, Floats b) { PADDOCK_EACH_QUARTER(vbslq_f32(vcgtq_f32(a.q[i], b.q[i]), a.q[i], b.q[i])); }
PADDOCK_INLINE Floats min(Floats a, Floats b) { PADDOCK_EACH_QUARTER(vbslq_f32(vcltq_f32(a.q[i], b.q[i]), a.q[i], b.q[i])); }
PADDOCK_INLINE Floats round(Floats a) { PADDOCK_EACH_QUARTER(vrndnq_f32(a.q[i])); }
PADDOCK_INLINE Floats magnitude(Floats a) { PADDOCK_EACH_QUARTER(vabsq_f32(a.q[i])); }
PADDOCK_INLINE uint32x4_t bits_of(float32x4_t x) { return vreinterpretq_u32_f32(x); }
PADDOCK_INLINE Floats with_sign_of(Floats a, Floats sign) {
    const uint32x4_t top = vdupq_n_u32(0x80000000u);
    PADDOCK_EACH_QUARTER(vreinterpretq_f32_u32(vorrq_u32(bits_of(a.q[i]), vandq_u32(bits_of(sign.q[i]), top))));
}
// yes where a < b, no elsewhere (also where either is NaN).
PADDOCK_INLINE Floats select_less(Floats a, Floats b, Floats yes, Floats no) {
    PADDOCK_EACH_QUARTER(vbslq_f32(vcltq_f32(a.q[i], b.q[i]), yes.q[i], no.q[i]));
}
PADDOCK_INLINE bool any_less(Floats a, Floats b) {
    const uint32x4_t low = vorrq_u32(vcltq_f32(a.q[0], b.q[0]), vcltq_f32(a.q[1], b.q[1]));
    const uint32x4_t high = vorrq_u32(vcltq_f32(a.q[2], b.q[2]), vcltq_f32(a.q[3], b.q[3]));
    return vmaxvq_u32(vorrq_u32(low, high)) != 0;
}
// 2^n for whole n in -126 .. 127.
PADDOCK_INLINE float32x4_t power_of_two(int32x4_t n) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}
// Twice by half the power, so that results near the ends of the range come out right.
PADDOCK_INLINE float32x4_t times_power_of_two(float32x4_t x, float32x4_t n) {
    const int32x4_t whole = vcvtnq_s32_f32(n), half = vshrq_n_s32(whole, 1);
    return vmulq_f32(vmulq_f32(x, power_of_two(half)), power_of_two(vsubq_s32(whole, half)));
}
PADDOCK_INLINE Floats times_power_of_two(Floats x, Floats n) { PADDOCK_EACH_QUARTER(times_power_of_two(x.q[i], n.q[i])); }

// Lane i with lane i + 8, then + 4, + 2, + 1.
PADDOCK_INLINE float reduce_add(Floats x) {
    const float32x4_t four = vaddq_f32(vaddq_f32(x.q[0], x.q[2]), vaddq_f32(x.q[1], x.q[3]));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
PADDOCK_INLINE float reduce_max(Floats x) {
    const Floats upper = {{x.q[2], x.q[3], x.q[2], x.q[3]}}, eight = max(x, upper);
    const Floats lower = {{eight.q[1], eight.q[1], eight.q[1], eight.q[1]}};
    const float32x4_t four = max(eight, lower).q[0];
    const float32x2_t low = vget_low_f32(four), high = vget_high_f32(four), two = vbsl_f32(vcgt_f32(low, high), low, high);
    const float even = vget_lane_f32(two, 0), odd = vget_lane_f32(two, 1);
    return even > odd ? even : odd;
}

PADDOCK_INLINE Floats load_f16(const uint16_t* p) { PADDOCK_EACH_QUARTER(vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i)))); }
PADDOCK_INLINE Floats load_bf16(const uint16_t* p) { PADDOCK_EACH_QUARTER(vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16))); }
PADDOCK_INLINE Floats load_int8(const int8_t* p) {
    const int8x16_t codes = vld1q_s8(p);
    const int16x8_t halves[2] = {vmovl_s8(vget_low_s8(codes)), vmovl_high_s8(codes)};
    PADDOCK_EACH_QUARTER(vcvtq_f32_s32(vmovl_s16(i % 2 ? vget_high_s16(halves[i / 2]) : vget_low_s16(halves[i / 2]))));
}
PADDOCK_INLINE Floats load_f16(const uint16_t* p, int64_t n) { return load_f16(Part<uint16_t>(p, n).all); }
PADDOCK_INLINE Floats load_bf16(const uint16_t* p, int64_t n) { return load_bf16(Part<uint16_t>(p, n).all); }
PADDOCK_INLINE Floats load_int8(const int8_t* p, int64_t n) { return load_int8(Part<int8_t>(p, n).all); }

PADDOCK_INLINE void store_f16(uint16_t* p, Floats x) {
    PADDOCK_UNROLL
    for (int i = 0; i < 4; i++) vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(x.q[i])));
}
// The upper half to nearest, ties to even; a NaN's is made quiet, for rounding could carry it to infinity.
PADDOCK_INLINE uint16x4_t narrow_bf16(float32x4_t x) {
    const uint32x4_t bits = bits_of(x), odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t nearest = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
    const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
    return vshrn_n_u32(vbslq_u32(vceqq_f32(x, x), nearest, quiet), 16);
}
PADDOCK_INLINE void store_bf16(uint16_t* p, Floats x) {
    PADDOCK_UNROLL
    for (int i = 0; i < 4; i++) vst1_u16(p + 4 * i, narrow_bf16(x.q[i]));
}

// Pairs of bfloat16 in 32-bit lanes, the first of a pair in the lower half: the floats of the firsts, and of the seconds.
PADDOCK_INLINE uint32x4_t four_pairs(const uint16_t* p) { return vreinterpretq_u32_u16(vld1q_u16(p)); }

PADDOCK_INLINE Floats firsts(const uint16_t* pairs) { PADDOCK_EACH_QUARTER(vreinterpretq_f32_u32(vshlq_n_u32(four_pairs(pairs + 8 * i), 16))); }
PADDOCK_INLINE Floats seconds(const uint16_t* pairs) {
    PADDOCK_EACH_QUARTER(vreinterpretq_f32_u32(vandq_u32(four_pairs(pairs + 8 * i), vdupq_n_u32(0xffff0000u))));
}

#undef PADDOCK_EACH_QUARTER

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
