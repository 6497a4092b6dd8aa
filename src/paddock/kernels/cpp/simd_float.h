// Sixteen floats at a time, whatever the machine: one AVX-512 register, two of AVX2, four of NEON or of plain vectors.
// Lanes never mix except in the two reductions, which add in one fixed tree, so every variant's order is the same.
//
// Everything has internal linkage: no copy compiled for one instruction set can stand in for another's at link time.
#pragma once
#include <cstdint>
#include <cstring>

#ifndef PADDOCK_FORCED
#define PADDOCK_FORCED inline __attribute__((always_inline))
#endif
#ifndef PADDOCK_INLINE
#define PADDOCK_INLINE static PADDOCK_FORCED
#endif
#ifndef PADDOCK_UNROLL
#ifdef __clang__
#define PADDOCK_UNROLL _Pragma("unroll")
#else
#define PADDOCK_UNROLL _Pragma("GCC unroll 16")
#endif
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#define PADDOCK_FLOATS_AVX512 1
#include "simd_float_avx512.h"
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define PADDOCK_FLOATS_AVX2 1
#include "simd_float_avx2.h"
#elif defined(__aarch64__)
#define PADDOCK_FLOATS_NEON 1
#include "simd_float_neon.h"
#else
#include "simd_float_plain.h"
#endif

namespace paddock {
namespace PADDOCK_VARIANT {

PADDOCK_INLINE Floats zeros() { return broadcast(0.0f); }

PADDOCK_INLINE Floats negative(Floats x) { return sub(broadcast(-0.0f), x); }

PADDOCK_INLINE Floats lane_numbers() {
    alignas(64) static constexpr float NUMBERS[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return load(NUMBERS);
}

// x with zeros from lane n on.
PADDOCK_INLINE Floats first_only(Floats x, int64_t n) {
    return select_less(lane_numbers(), broadcast(static_cast<float>(n)), x, zeros());
}

// p[0] + x p[1] + x^2 p[2] ...
template <int N>
PADDOCK_INLINE Floats polynomial(Floats x, const float (&p)[N]) {
    Floats sum = broadcast(p[N - 1]);
    PADDOCK_UNROLL
    for (int i = N - 2; i >= 0; i--) sum = fma(sum, x, broadcast(p[i]));
    return sum;
}

// e^x within about one unit of the last place; 0 and infinity where they belong, NaN stays.
// x = n ln 2 + r with |r| <= ln 2 / 2, and e^r = 1 + r + r^2 P(r), P fitted for least relative error (3e-9).
PADDOCK_INLINE Floats exp(Floats x) {
    static constexpr float P[] = {0.4999999341f, 0.1666652011f, 0.04166839388f, 0.008368780488f, 0.001381448551f};
    // Beyond these the answer is 0 or infinity. A NaN comes through: max and min give their second argument then.
    x = min(broadcast(90.0f), max(broadcast(-105.0f), x));
    const Floats n = round(mul(x, broadcast(1.44269504089f)));
    // ln 2 in two parts; the first has so few bits that n times it is exact.
    Floats r = fma(n, broadcast(-0.693145751953125f), x);
    r = fma(n, broadcast(-1.42860682030941723212e-6f), r);
    const Floats p = fma(mul(r, r), polynomial(r, P), r);
    return times_power_of_two(add(p, broadcast(1.0f)), n);
}

PADDOCK_INLINE Floats sigmoid(Floats x) {
    const Floats one = broadcast(1.0f);
    return div(one, add(one, exp(negative(x))));
}

// Small |x|: x + x^3 P(x^2), for (1 - e) / (1 + e) with e = exp(-2|x|) would cancel.
PADDOCK_INLINE Floats tanh(Floats x) {
    static constexpr float P[] = {-0.3333327619f, 0.1333127698f, -0.05372529605f, 0.02059028824f, -0.00564876024f};
    const Floats square = mul(x, x), size = magnitude(x), one = broadcast(1.0f);
    const Floats small = fma(mul(x, square), polynomial(square, P), x);
    const Floats e = exp(mul(size, broadcast(-2.0f)));
    const Floats large = with_sign_of(div(sub(one, e), add(one, e)), x);
    return select_less(size, broadcast(0.62f), small, large);
}

// The normal distribution's share below x. With z = |x| / sqrt 2 and t = 1 / (1 + 0.4 z), the smaller tail is
// exp(-z^2) P(t), P fitted to exp(z^2) erfc(z) / 2 for 0 <= z <= 9 (relative error 2.4e-8); the larger is one less that.
PADDOCK_INLINE Floats normal_below(Floats x) {
    static constexpr float P[] = {1.916586346e-5f, 0.1124248798f,  0.1166511877f,  0.08412676928f,  0.1476984545f,
                                  -0.05946756045f, 0.1684981209f, -0.0550386535f, -0.02740579403f, 0.01249344211f};
    const Floats one = broadcast(1.0f);
    const Floats z = mul(magnitude(x), broadcast(0.70710678118654752f));
    const Floats t = div(one, fma(z, broadcast(0.4f), one));
    const Floats tail = mul(exp(negative(mul(z, z))), polynomial(t, P));
    return select_less(x, broadcast(0.0f), tail, sub(one, tail));
}

// Bits of a bfloat16: the upper half of a float, to nearest, ties to even; NaN stays NaN.
PADDOCK_INLINE uint16_t to_bf16(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40u);
    return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

PADDOCK_INLINE float from_bf16(uint16_t h) {
    const uint32_t bits = static_cast<uint32_t>(h) << 16;
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

PADDOCK_INLINE float from_f16(uint16_t h) {
    uint16_t all[16] = {h};
    float x[16];
    store(x, load_f16(all));
    return x[0];
}

PADDOCK_INLINE uint16_t to_f16(float x) {
    uint16_t all[16];
    store_f16(all, broadcast(x));
    return all[0];
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
