// Linear layers over quantised weights. Activations are int8 with a scale per 32 inputs (NF4: float32).
//
// Per output, in this order whatever stands beside it: for every group of 32 inputs (or its two halves, where each has a
// scale), y += float(sum of codes) * (weight scale * activation scale), then y += minimum * (activation scale * sum of
// activations). The sums of codes are exact integers, and lanes are outputs: so a row has the same bits alone or among
// many, and in every variant that has a fused multiply-add.
#pragma once
#include "formats.h"

namespace paddock {
namespace PADDOCK_VARIANT {

constexpr int64_t PREFETCH_AHEAD = 4096;          // bytes, for a single row: memory is all it waits for
constexpr int64_t ROWS_CACHE_BYTES = 256 * 1024;  // codes of rows that stay in the second-level cache over many tiles

// What a span needs of R rows beside their codes.
template <Format FORMAT, int R> struct Terms {
    using F = Of<FORMAT>;
    static constexpr int SHIFT = F::ZERO ? 0 : F::LAYOUT.offset - Dot<F::BITS>::BIAS;
    static constexpr int64_t PARTS = SPAN_GROUPS * F::SUBS;
    float scale[R][SPAN_GROUPS];
    int32_t start[SHIFT != 0 ? R : 1][PARTS];   // -SHIFT * sum
    float sum[F::MINIMUM || F::ZERO ? R : 1][PARTS];  // scale * sum; for zero points -sum

    PADDOCK_MEMBER void take_row(int r, const float* scales, const int32_t* sums, int64_t groups) {
        for (int64_t g = 0; g < groups; g++) scale[r][g] = scales[g];
        for (int64_t p = 0; p < groups * F::SUBS; p++) {
            const int32_t total = F::SUBS == 2 ? sums[p] : sums[2 * p] + sums[2 * p + 1];
            if constexpr (SHIFT != 0) start[r][p] = -SHIFT * total;
            if constexpr (F::MINIMUM) sum[r][p] = scales[p / F::SUBS] * float(total);
            if constexpr (F::ZERO) sum[r][p] = -float(total);
        }
    }
    PADDOCK_MEMBER void take(const Rows& x, int64_t row, int64_t first_group, int64_t groups) {
        for (int r = 0; r < R; r++) {
            const float* scales = x.scales + (row + r) * (x.padded / GROUP) + first_group;
            const int32_t* sums = x.sums + ((row + r) * (x.padded / GROUP) + first_group) * 2;
            if (groups == SPAN_GROUPS) take_row(r, scales, sums, SPAN_GROUPS);
            else take_row(r, scales, sums, groups);
        }
    }
};

// R rows by one tile.
template <Format FORMAT, int R> struct Micro {
    using F = Of<FORMAT>;
    static constexpr Layout L = F::LAYOUT;
    static constexpr int STEPS = 8 / F::SUBS;

    template <int STEP> static PADDOCK_MEMBER void step(const uint8_t* lines, const int8_t* codes, int64_t stride, Dot<F::BITS> (&dots)[R]) {
        const auto weights = Dot<F::BITS>::operand(F::template step<STEP>(lines));
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) dots[r].add(weights, codes + r * stride + 4 * STEP);
    }

    template <int SUB> static PADDOCK_MEMBER void part(const uint8_t* lines, const uint8_t* beside, const SpanScales& span, const Terms<FORMAT, R>& terms, int64_t g,
                                                       const int8_t* codes, int64_t stride, Floats (&y)[R]) {
        const int64_t p = g * F::SUBS + SUB;
        Dot<F::BITS> dots[R];
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) dots[r].start(Terms<FORMAT, R>::SHIFT != 0 ? terms.start[r][p] : 0);
        constexpr int BASE = SUB * STEPS;
        step<BASE + 0>(lines, codes, stride, dots);
        step<BASE + 1>(lines, codes, stride, dots);
        step<BASE + 2>(lines, codes, stride, dots);
        step<BASE + 3>(lines, codes, stride, dots);
        if constexpr (F::SUBS == 1) {
            step<4>(lines, codes, stride, dots);
            step<5>(lines, codes, stride, dots);
            step<6>(lines, codes, stride, dots);
            step<7>(lines, codes, stride, dots);
        }
        const Floats scale = F::template scale<SUB>(beside, span);
        Floats zero = zeros();
        if constexpr (F::ZERO) zero = add(F::zero(beside), broadcast(-Dot<F::BITS>::BIAS));
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            Floats sum = floats(dots[r].total());
            // Below 2^24, so floats are exact.
            if constexpr (F::ZERO) sum = fma(zero, broadcast(terms.sum[r][p]), sum);
            y[r] = fma(sum, mul(scale, broadcast(terms.scale[r][g])), y[r]);
        }
        if constexpr (F::MINIMUM) {
            const Floats minimum = F::template minimum<SUB>(beside, span);
#pragma GCC unroll 16
            for (int r = 0; r < R; r++) y[r] = fma(minimum, broadcast(terms.sum[r][p]), y[r]);
        }
    }

    static PADDOCK_MEMBER void prefetch(const uint8_t* lines, int64_t bytes) {
        for (int64_t at = 0; at < bytes; at += LINE) __builtin_prefetch(lines + PREFETCH_AHEAD + at);
    }

    // out: (R, 16), 64-byte aligned.
    static void run(const uint8_t* tile, const Rows& x, int64_t row, int64_t groups, float* out) {
        Floats y[R];
        for (int r = 0; r < R; r++) y[r] = zeros();
        Terms<FORMAT, R> terms;
        for (int64_t first = 0; first < groups; first += SPAN_GROUPS) {
            const int64_t count = groups - first < SPAN_GROUPS ? groups - first : SPAN_GROUPS;
            terms.take(x, row, first, count);
            const uint8_t* beside = tile + count * L.code_bytes();
            const SpanScales span = F::span_scales(beside + count * L.group_bytes());
            const int8_t* codes = x.codes + row * x.padded + first * GROUP;
            if (R == 1) prefetch(beside, span_size(L, count) - count * L.code_bytes());
            for (int64_t g = 0; g < count; g++) {
                const uint8_t* lines = tile + g * L.code_bytes();
                if (R == 1) prefetch(lines, L.code_bytes());
                part<0>(lines, beside + g * L.group_bytes(), span, terms, g, codes + g * GROUP, x.padded, y);
                if constexpr (F::SUBS == 2) part<1>(lines, beside + g * L.group_bytes(), span, terms, g, codes + g * GROUP, x.padded, y);
            }
            tile += span_size(L, count);
        }
        for (int r = 0; r < R; r++) store(out + r * LANES, y[r]);
    }
};

// One row of a finished tile to its place, with what is to be added.
static inline void put(const float* sums, int64_t lanes, const float* bias, bool keep, float* y) {
    if (lanes == LANES) {
        Floats out = load(sums);
        if (bias) out = add(out, load(bias));
        if (keep) out = add(out, load(y));
        return store(y, out);
    }
    for (int64_t l = 0; l < lanes; l++) {
        float out = sums[l];
        if (bias) out += bias[l];
        if (keep) out += y[l];
        y[l] = out;
    }
}

// How many rows to take at once of those left: few passes over a tile, and none of a single row where it can be helped.
static inline int rows_at_once(int64_t left) {
    if (MOST_ROWS >= 12) {
        if (left == 12 || left >= 20) return 12;
        if (left >= 8) return 8;
        if (left >= 6) return 6;
    }
    return left >= 4 ? 4 : int(left);
}

template <Format FORMAT> static int tile_rows(const uint8_t* tile, const Rows& x, int64_t row, int64_t rows, int64_t groups, float* out) {
    const int count = rows_at_once(rows);
    switch (count) {
    case 1: Micro<FORMAT, 1>::run(tile, x, row, groups, out); break;
    case 2: Micro<FORMAT, 2>::run(tile, x, row, groups, out); break;
    case 3: Micro<FORMAT, 3>::run(tile, x, row, groups, out); break;
    case 4: Micro<FORMAT, 4>::run(tile, x, row, groups, out); break;
    default:
        if constexpr (MOST_ROWS >= 12) {
            if (count == 6) Micro<FORMAT, 6>::run(tile, x, row, groups, out);
            else if (count == 8) Micro<FORMAT, 8>::run(tile, x, row, groups, out);
            else Micro<FORMAT, 12>::run(tile, x, row, groups, out);
        }
    }
    return count;
}

template <Format FORMAT> static void linear_format(const Weight& w, const Rows& x, int64_t rows, int64_t first, int64_t last, const float* bias, bool add, float* y, int64_t stride) {
    const int64_t groups = (w.columns + GROUP - 1) / GROUP;
    int64_t block = ROWS_CACHE_BYTES / (x.padded + 1) / 12 * 12;
    block = block < 24 ? 24 : block;
    alignas(64) float out[MOST_ROWS * LANES];
    for (int64_t row = 0; row < rows; row += block) {
        const int64_t end = rows - row < block ? rows : row + block;
        for (int64_t tile = first; tile < last; tile++) {
            const int64_t o = tile * LANES, lanes = w.rows - o < LANES ? w.rows - o : LANES;
            for (int64_t r = row; r < end;) {
                const int64_t count = tile_rows<FORMAT>(w.data + tile * w.tile_bytes, x, r, end - r, groups, out);
                for (int64_t i = 0; i < count; i++)
                    put(out + i * LANES, lanes, bias ? bias + o : nullptr, add, y + (r + i) * stride + o);
                r += count;
            }
        }
    }
}

// linear of every format whose input is Codes.
static void linear_codes(const Weight& w, const Rows& x, int64_t rows, int64_t first, int64_t last, const float* bias, bool add, float* y, int64_t stride) {
#define PADDOCK_FORMAT(NAME) \
    case Format::NAME: return linear_format<Format::NAME>(w, x, rows, first, last, bias, add, y, stride);
    switch (w.format) {
        PADDOCK_FORMAT(Q8_0)
        PADDOCK_FORMAT(Q4_0)
        PADDOCK_FORMAT(Q4_1)
        PADDOCK_FORMAT(Q5_0)
        PADDOCK_FORMAT(Q5_1)
        PADDOCK_FORMAT(IQ4_NL)
        PADDOCK_FORMAT(Q2_K)
        PADDOCK_FORMAT(Q3_K)
        PADDOCK_FORMAT(Q4_K)
        PADDOCK_FORMAT(Q5_K)
        PADDOCK_FORMAT(Q6_K)
        PADDOCK_FORMAT(INT4)
        PADDOCK_FORMAT(INT8)
    default: return;
    }
#undef PADDOCK_FORMAT
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock

#include "quantised_rows.h"
#include "quantised_nf4.h"
