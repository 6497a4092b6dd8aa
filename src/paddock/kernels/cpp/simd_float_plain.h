// Sixteen floats in four vectors of the compiler's own kind: SSE2 on any x86-64, plain instructions elsewhere. Included by
// simd_float.h.
#pragma once

namespace paddock {
namespace PADDOCK_VARIANT {

typedef float Quarter __attribute__((vector_size(16)));
typedef int32_t QuarterBits __attribute__((vector_size(16)));

struct Floats {
    Quarter q[4];
};

#define PADDOCK_EACH_QUARTER(expression)                  \
    Floats result;                                        \
    PADDOCK_UNROLL                                        \
    for (int i = 0; i < 4; i++) result.q[i] = expression; \
    return result

PADDOCK_INLINE Quarter choose(QuarterBits mask, Quarter yes, Quarter no) {
    return (Quarter)((mask & (QuarterBits)yes) | (~mask & (QuarterBits)no));
}

PADDOCK_INLINE Floats broadcast(float x) { PADDOCK_EACH_QUARTER((Quarter{x, x, x, x})); }
PADDOCK_INLINE Floats load(const float* p) {
    Floats x;
    std::memcpy(&x, p, sizeof x);
    return x;
}
PADDOCK_INLINE void store(float* p, Floats x) { std::memcpy(p, &x, sizeof x); }
// The first n lanes, the others zero; nothing beyond them is touched in memory.
PADDOCK_INLINE Floats load(const float* p, int64_t n) {
    Floats x = {};
    std::memcpy(&x, p, static_cast<size_t>(n > 16 ? 16 : n) * 4);
    return x;
}
PADDOCK_INLINE void store(float* p, Floats x, int64_t n) { std::memcpy(p, &x, static_cast<size_t>(n > 16 ? 16 : n) * 4); }

PADDOCK_INLINE Floats add(Floats a, Floats b) { PADDOCK_EACH_QUARTER(a.q[i] + b.q[i]); }
PADDOCK_INLINE Floats sub(Floats a, Floats b) { PADDOCK_EACH_QUARTER(a.q[i] - b.q[i]); }
PADDOCK_INLINE Floats mul(Floats a, Floats b) { PADDOCK_EACH_QUARTER(a.q[i] * b.q[i]); }
PADDOCK_INLINE Floats div(Floats a, Floats b) { PADDOCK_EACH_QUARTER(a.q[i] / b.q[i]); }
PADDOCK_INLINE Floats fma(Floats a, Floats b, Floats c) { PADDOCK_EACH_QUARTER(a.q[i] * b.q[i] + c.q[i]); }
// b where either is NaN.
PADDOCK_INLINE Floats max(Floats a, Floats b) { PADDOCK_EACH_QUARTER(choose(a.q[i] > b.q[i], a.q[i], b.q[i])); }
PADDOCK_INLINE Floats min(Floats a, Floats b) { PADDOCK_EACH_QUARTER(choose(a.q[i] < b.q[i], a.q[i], b.q[i])); }
PADDOCK_INLINE Floats magnitude(Floats a) { PADDOCK_EACH_QUARTER((Quarter)((QuarterBits)a.q[i] & 0x7fffffff)); }
PADDOCK_INLINE Floats with_sign_of(Floats a, Floats sign) {
    PADDOCK_EACH_QUARTER((Quarter)((QuarterBits)a.q[i] | ((QuarterBits)sign.q[i] & ~0x7fffffff)));
}
// To nearest, for |a| < 2^22: adding 1.5 * 2^23 leaves no bits for a fraction.
PADDOCK_INLINE Floats round(Floats a) {
    const Floats big = broadcast(12582912.0f);
    return sub(add(a, big), big);
}
// yes where a < b, no elsewhere (also where either is NaN).
PADDOCK_INLINE Floats select_less(Floats a, Floats b, Floats yes, Floats no) {
    PADDOCK_EACH_QUARTER(choose(a.q[i] < b.q[i], yes.q[i], no.q[i]));
}
PADDOCK_INLINE bool any_less(Floats a, Floats b) {
    const QuarterBits low = (a.q[0] < b.q[0]) | (a.q[1] < b.q[1]), high = (a.q[2] < b.q[2]) | (a.q[3] < b.q[3]);
    const QuarterBits any = low | high;
    return (any[0] | any[1] | any[2] | any[3]) != 0;
}
// x 2^n for whole n, |n| < 200. Twice by half the power, so that results near the ends of the range come out right. The
// whole number is read from the lowest bits of n + 1.5 * 2^23; a NaN gives some power, and x is NaN then.
PADDOCK_INLINE Quarter times_power_of_two(Quarter x, Quarter n) {
    const QuarterBits whole = (QuarterBits)(n + 12582912.0f) - 0x4b400000, half = whole >> 1;
    return x * (Quarter)((half + 127) << 23) * (Quarter)((whole - half + 127) << 23);
}
PADDOCK_INLINE Floats times_power_of_two(Floats x, Floats n) { PADDOCK_EACH_QUARTER(times_power_of_two(x.q[i], n.q[i])); }

// Lane i with lane i + 8, then + 4, + 2, + 1.
PADDOCK_INLINE float reduce_add(Floats x) {
    const Quarter four = (x.q[0] + x.q[2]) + (x.q[1] + x.q[3]);
    return (four[0] + four[2]) + (four[1] + four[3]);
}
PADDOCK_INLINE float reduce_max(Floats x) {
    const Floats upper = {{x.q[2], x.q[3], x.q[2], x.q[3]}}, eight = max(x, upper);
    const Quarter four = choose(eight.q[0] > eight.q[1], eight.q[0], eight.q[1]);
    const float even = four[0] > four[2] ? four[0] : four[2], odd = four[1] > four[3] ? four[1] : four[3];
    return even > odd ? even : odd;
}

// IEEE half precision by its bits: a normal one is its float times 2^-112; multiplying also makes denormals right.
PADDOCK_INLINE float widen_f16(uint16_t h) {
    uint32_t bits = static_cast<uint32_t>(h & 0x7fff) << 13;
    float x;
    std::memcpy(&x, &bits, 4);
    x *= 5.192296858534828e33f;  // 2^112
    std::memcpy(&bits, &x, 4);
    if ((h & 0x7c00) == 0x7c00) bits |= 0x7f800000u;
    bits |= static_cast<uint32_t>(h & 0x8000) << 16;
    std::memcpy(&x, &bits, 4);
    return x;
}
// To nearest, ties to even.
PADDOCK_INLINE uint16_t narrow_f16(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    const uint32_t sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | (bits >> 13 & 0x1ffu));
    if (bits >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 65520 and more
    if (bits < 0x38800000u) {                                               // below 2^-14: denormal, in steps of 2^-24
        std::memcpy(&x, &bits, 4);
        x += 0.5f;  // whose last place is 2^-24
        std::memcpy(&bits, &x, 4);
        return static_cast<uint16_t>(sign | (bits - 0x3f000000u));
    }
    bits += 0xfffu + (bits >> 13 & 1u) - (112u << 23);
    return static_cast<uint16_t>(sign | bits >> 13);
}
PADDOCK_INLINE uint16_t narrow_bf16(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40u);
    return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
PADDOCK_INLINE float widen_bf16(uint16_t h) {
    const uint32_t bits = static_cast<uint32_t>(h) << 16;
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

#define PADDOCK_EACH_LANE(count, expression)                   \
    alignas(64) float all[16] = {};                            \
    for (int64_t i = 0; i < (count); i++) all[i] = expression; \
    return load(all)

PADDOCK_INLINE int64_t lanes_of(int64_t n) { return n > 16 ? 16 : n; }

PADDOCK_INLINE Floats load_f16(const uint16_t* p) { PADDOCK_EACH_LANE(16, widen_f16(p[i])); }
PADDOCK_INLINE Floats load_f16(const uint16_t* p, int64_t n) { PADDOCK_EACH_LANE(lanes_of(n), widen_f16(p[i])); }
PADDOCK_INLINE Floats load_bf16(const uint16_t* p) { PADDOCK_EACH_LANE(16, widen_bf16(p[i])); }
PADDOCK_INLINE Floats load_bf16(const uint16_t* p, int64_t n) { PADDOCK_EACH_LANE(lanes_of(n), widen_bf16(p[i])); }
PADDOCK_INLINE Floats load_int8(const int8_t* p) { PADDOCK_EACH_LANE(16, static_cast<float>(p[i])); }
PADDOCK_INLINE Floats load_int8(const int8_t* p, int64_t n) { PADDOCK_EACH_LANE(lanes_of(n), static_cast<float>(p[i])); }
PADDOCK_INLINE void store_f16(uint16_t* p, Floats x) {
    float all[16];
    store(all, x);
    for (int i = 0; i < 16; i++) p[i] = narrow_f16(all[i]);
}
PADDOCK_INLINE void store_bf16(uint16_t* p, Floats x) {
    float all[16];
    store(all, x);
    for (int i = 0; i < 16; i++) p[i] = narrow_bf16(all[i]);
}

// Pairs of bfloat16 in 32-bit lanes, the first of a pair in the lower half: the floats of the firsts, and of the seconds.
PADDOCK_INLINE Floats firsts(const uint16_t* pairs) { PADDOCK_EACH_LANE(16, widen_bf16(pairs[2 * i])); }
PADDOCK_INLINE Floats seconds(const uint16_t* pairs) { PADDOCK_EACH_LANE(16, widen_bf16(pairs[2 * i + 1])); }

#undef PADDOCK_EACH_QUARTER
#undef PADDOCK_EACH_LANE

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
