// The few operations quantised kernels are made of, for each instruction set: 64 bytes of codes (16 lanes of 4), sums of
// codes times activations in 16 int32, and 16 float32 to scale them.
//
// `Dot<BITS>` adds up codes (unsigned, below 2^BITS) times int8 activations, in STEPS steps, beginning with `*from`. The
// sum is exact, and is that of code - BIAS: some instruction sets can only multiply 8-bit codes when these are signed.
#pragma once
#include <cstring>

#include "layout.h"
#include "simd_float.h"

// For members, where `static` would mean something else.
#define PADDOCK_MEMBER inline __attribute__((always_inline))

namespace paddock {
namespace PADDOCK_VARIANT {

PADDOCK_INLINE const uint16_t* halves(const uint8_t* p) { return reinterpret_cast<const uint16_t*>(p); }

}  // namespace PADDOCK_VARIANT
}  // namespace paddock

#if defined(__AVX512VNNI__) && defined(PADDOCK_FLOATS_AVX512)
#include "simd_int_avx512.h"
#elif defined(PADDOCK_FLOATS_AVX2)
#include "simd_int_avx2.h"
#elif defined(PADDOCK_FLOATS_NEON) && defined(__ARM_FEATURE_DOTPROD)
#include "simd_int_neon.h"
#else
#include "simd_int_portable.h"
#endif
