// The one inner loop of all dense products: R rows of inputs times T tiles of 16 outputs, sums in registers.
//
// Each output has one chain of fused multiply-adds over the inputs in order, whatever R and T are and wherever the loop
// is cut (sums go out to memory and come back unchanged). So a row's bits never depend on how many rows run beside it.
#pragma once
#include "simd_float.h"

namespace paddock {
namespace PADDOCK_VARIANT {

// What one step of the loop is: a vector of weights, and one or two inputs that meet all its lanes.
struct StepF32 {
    using Input = float;
    static constexpr int64_t INPUTS = 1, BYTES = 4;  // inputs of a step; bytes of an element in memory
    Floats weights;
    static PADDOCK_FORCED StepF32 at(const uint8_t* p) { return {load(reinterpret_cast<const float*>(p))}; }
    static PADDOCK_FORCED StepF32 at(const uint8_t* p, int64_t n) { return {load(reinterpret_cast<const float*>(p), n)}; }
    PADDOCK_FORCED Floats onto(Floats sum, const float* x) const { return fma(weights, broadcast(*x), sum); }
};

struct StepF16 {
    using Input = float;
    static constexpr int64_t INPUTS = 1, BYTES = 2;
    Floats weights;
    static PADDOCK_FORCED StepF16 at(const uint8_t* p) { return {load_f16(reinterpret_cast<const uint16_t*>(p))}; }
    static PADDOCK_FORCED StepF16 at(const uint8_t* p, int64_t n) { return {load_f16(reinterpret_cast<const uint16_t*>(p), n)}; }
    PADDOCK_FORCED Floats onto(Floats sum, const float* x) const { return fma(weights, broadcast(*x), sum); }
};

struct StepBF16 {
    using Input = float;
    static constexpr int64_t INPUTS = 1, BYTES = 2;
    Floats weights;
    static PADDOCK_FORCED StepBF16 at(const uint8_t* p) { return {load_bf16(reinterpret_cast<const uint16_t*>(p))}; }
    static PADDOCK_FORCED StepBF16 at(const uint8_t* p, int64_t n) { return {load_bf16(reinterpret_cast<const uint16_t*>(p), n)}; }
    PADDOCK_FORCED Floats onto(Floats sum, const float* x) const { return fma(weights, broadcast(*x), sum); }
};

struct StepInt8 {
    using Input = float;
    static constexpr int64_t INPUTS = 1, BYTES = 1;
    Floats weights;
    static PADDOCK_FORCED StepInt8 at(const uint8_t* p) { return {load_int8(reinterpret_cast<const int8_t*>(p))}; }
    static PADDOCK_FORCED StepInt8 at(const uint8_t* p, int64_t n) { return {load_int8(reinterpret_cast<const int8_t*>(p), n)}; }
    PADDOCK_FORCED Floats onto(Floats sum, const float* x) const { return fma(weights, broadcast(*x), sum); }
};

// Pairs of bfloat16 weights, two inputs a step.
#ifdef __AVX512BF16__
struct StepPairs {
    using Input = uint16_t;
    static constexpr int64_t INPUTS = 2, BYTES = 4;
    __m512bh weights;
    static PADDOCK_FORCED StepPairs at(const uint8_t* p) { return {(__m512bh)_mm512_loadu_si512(p)}; }
    PADDOCK_FORCED Floats onto(Floats sum, const uint16_t* x) const {
        int32_t pair;
        std::memcpy(&pair, x, 4);
        return {_mm512_dpbf16_ps(sum.v, weights, (__m512bh)_mm512_set1_epi32(pair))};
    }
};
#else
struct StepPairs {
    using Input = float;
    static constexpr int64_t INPUTS = 2, BYTES = 4;
    Floats weights;
    static PADDOCK_FORCED StepPairs at(const uint8_t* p) { return {firsts(reinterpret_cast<const uint16_t*>(p))}; }
    static PADDOCK_FORCED StepPairs second(const uint8_t* p) { return {seconds(reinterpret_cast<const uint16_t*>(p))}; }
    PADDOCK_FORCED Floats onto(Floats sum, const float* x) const { return fma(weights, broadcast(*x), sum); }
};
#endif

// Whether a step has two halves, one input each.
template <class Step>
constexpr bool WIDENED = Step::INPUTS == 2 && sizeof(typename Step::Input) == 4;

// How many rows and tiles fill the registers; the one row of decoding takes more tiles, for enough
// chains in flight.
#if defined(PADDOCK_FLOATS_AVX512)
constexpr int ROWS = 6, TILES = 4, TILES_OF_ONE = 4;
#elif defined(PADDOCK_FLOATS_AVX2)
constexpr int ROWS = 6, TILES = 1, TILES_OF_ONE = 4;
#elif defined(PADDOCK_FLOATS_NEON)
constexpr int ROWS = 6, TILES = 1, TILES_OF_ONE = 4;
#else
constexpr int ROWS = 2, TILES = 1, TILES_OF_ONE = 2;
#endif

// sums[r][t] += step[t] times the input of row r at x[r] + i.
template <class Step, int R, int T>
PADDOCK_INLINE void meet(Floats (&sums)[R][T], const Step (&step)[T], const typename Step::Input* const (&x)[R], int64_t i) {
    PADDOCK_UNROLL
    for (int r = 0; r < R; r++) {
        PADDOCK_UNROLL
        for (int t = 0; t < T; t++) sums[r][t] = step[t].onto(sums[r][t], x[r] + i);
    }
}

// sums[r][t] += sum over steps of tile[t]'s vector (stride bytes apart) times x[r]'s inputs. FETCH: what lies at ahead[t]
// is brought into the second-level cache at the same pace.
template <class Step, int R, int T, bool FETCH>
PADDOCK_INLINE void multiply(Floats (&sums)[R][T], const uint8_t* const (&tile)[T], const uint8_t* const (&ahead)[T],
                             int64_t stride, const typename Step::Input* const (&x)[R], int64_t steps) {
    for (int64_t i = 0; i < steps; i++) {
        Step step[T];
        PADDOCK_UNROLL
        for (int t = 0; t < T; t++) {
            if (FETCH) __builtin_prefetch(ahead[t] + i * stride, 0, 2);
            step[t] = Step::at(tile[t] + i * stride);
        }
        meet(sums, step, x, i * Step::INPUTS);
        if constexpr (WIDENED<Step>) {
            // After all rows met the firsts: both at once would not fit the registers of AVX2.
            PADDOCK_UNROLL
            for (int t = 0; t < T; t++) step[t] = Step::second(tile[t] + i * stride);
            meet(sums, step, x, i * Step::INPUTS + 1);
        }
    }
}

// The same for one tile of which only the first n lanes exist in memory.
template <class Step, int R>
PADDOCK_INLINE void multiply_part(Floats (&sums)[R][1], const uint8_t* tile, int64_t stride, int64_t n,
                                  const typename Step::Input* const (&x)[R], int64_t steps) {
    for (int64_t i = 0; i < steps; i++) {
        const Step step = Step::at(tile + i * stride, n);
        PADDOCK_UNROLL
        for (int r = 0; r < R; r++) sums[r][0] = step.onto(sums[r][0], x[r] + i * Step::INPUTS);
    }
}

// Calls f(first, count) on groups of rows of nearly one size, at most MOST: a group of few rows is slow for its rows.
template <int MOST, class F>
PADDOCK_INLINE void in_groups(int64_t rows, F f) {
    int64_t groups = (rows + MOST - 1) / MOST;
    for (int64_t row = 0; groups > 0; groups--) {
        const int64_t count = (rows - row + groups - 1) / groups;
        f(row, count);
        row += count;
    }
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
