// Linear layers over quantised weights. Activations are int8 with a scale per 32 inputs (NF4: float32).
//
// Per output, in this order whatever stands beside it: for every group of 32 inputs (or its two halves, where each has a
// scale), y += float(sum of codes) * (weight scale * activation scale), then y += minimum * (activation scale * sum of
// activations). The sums of codes are exact integers, and lanes are outputs: so a row has the same bits alone or among
// many, and in every variant that has a fused multiply-add.
#pragma once
#include "formats.h"
#include "linear.h"

namespace paddock {
namespace PADDOCK_VARIANT {

constexpr int64_t PREFETCH_AHEAD = 8192;      // bytes: up to 16 rows wait for memory, more do not notice
constexpr int64_t PANEL_BYTES = 40 * 1024;    // of the stack, about what the first-level cache holds
constexpr int64_t BAND_BYTES = 384 * 1024;    // of weights that stay in the second-level cache while rows pass by
constexpr int64_t BAND_TILES = 32;

// A piece of R rows as the micro-kernel reads it: everything at fixed distances from one pointer, rows side by side (rows
// that lie a power of two apart would fall into the same few sets of the cache).
template <Format FORMAT, int R> struct Panel {
    using F = Of<FORMAT>;
    static constexpr int SHIFT = F::ZERO ? 0 : F::LAYOUT.offset - Dot<F::BITS>::BIAS;
    static constexpr bool SUM = F::MINIMUM || F::ZERO;
    static constexpr int64_t ROW_BYTES = GROUP + 4 + F::SUBS * (4 * (SHIFT != 0) + 4 * SUM);  // of a group
    // Every row of every array begins at a multiple of 64 bytes. Not for speed alone: where a loop over a row has to be
    // peeled to become aligned, gcc 12 takes the rest of a short one to be so too, and stores to what is not.
    static constexpr int64_t WHOLE = SPAN_GROUPS > LANES ? SPAN_GROUPS : LANES;
    static constexpr int64_t GROUPS = PANEL_BYTES / (R * ROW_BYTES) / WHOLE * WHOLE;
    static constexpr int64_t PARTS = GROUPS * F::SUBS;
    alignas(LINE) int8_t codes[GROUPS][R][GROUP];
    alignas(LINE) float scale[R][GROUPS];
    alignas(LINE) int32_t start[SHIFT != 0 ? R : 1][SHIFT != 0 ? PARTS : 1];  // -SHIFT * sum
    alignas(LINE) float sum[SUM ? R : 1][SUM ? PARTS : 1];                    // scale * sum; for zero points -sum

    void take_row(int r, const int8_t* from, const float* scales, const int32_t* sums, int64_t groups) {
        for (int64_t g = 0; g < groups; g++) memcpy(codes[g][r], from + g * GROUP, GROUP);
        for (int64_t g = 0; g < groups; g++) scale[r][g] = scales[g];
        for (int64_t p = 0; p < groups * F::SUBS; p++) {
            const int32_t total = F::SUBS == 2 ? sums[p] : sums[2 * p] + sums[2 * p + 1];
            if constexpr (SHIFT != 0) start[r][p] = -SHIFT * total;
            if constexpr (F::MINIMUM) sum[r][p] = scales[p / F::SUBS] * float(total);
            if constexpr (F::ZERO) sum[r][p] = -float(total);
        }
    }
    void take(const Rows& x, int64_t row, int64_t first_group, int64_t groups) {
        for (int r = 0; r < R; r++) {
            const int64_t at = (row + r) * (x.padded / GROUP) + first_group;
            take_row(r, x.codes + at * GROUP, x.scales + at, x.sums + at * 2, groups);
        }
    }
};

// R rows by one tile.
template <Format FORMAT, int R> struct Micro {
    using F = Of<FORMAT>;
    static constexpr Layout L = F::LAYOUT;
    static constexpr int STEPS = 8 / F::SUBS;

    template <int STEP> static PADDOCK_MEMBER void step(const uint8_t* lines, const int8_t (&codes)[R][GROUP], Dot<F::BITS> (&dots)[R]) {
        const auto weights = Dot<F::BITS>::operand(F::template step<STEP>(lines));
        PADDOCK_UNROLL
        for (int r = 0; r < R; r++) dots[r].template add<STEP % STEPS, STEPS>(weights, codes[r] + 4 * STEP);
    }

    template <int SUB> static PADDOCK_MEMBER void part(const uint8_t* lines, const uint8_t* beside, const SpanScales& span, const Panel<FORMAT, R>& panel, int64_t g,
                                    Floats (&y)[R]) {
        const int64_t p = g * F::SUBS + SUB;
        Dot<F::BITS> dots[R];
        PADDOCK_UNROLL
        for (int r = 0; r < R; r++) dots[r].start(Panel<FORMAT, R>::SHIFT != 0 ? &panel.start[r][p] : nullptr);
        constexpr int BASE = SUB * STEPS;
        step<BASE + 0>(lines, panel.codes[g], dots);
        step<BASE + 1>(lines, panel.codes[g], dots);
        step<BASE + 2>(lines, panel.codes[g], dots);
        step<BASE + 3>(lines, panel.codes[g], dots);
        if constexpr (F::SUBS == 1) {
            step<4>(lines, panel.codes[g], dots);
            step<5>(lines, panel.codes[g], dots);
            step<6>(lines, panel.codes[g], dots);
            step<7>(lines, panel.codes[g], dots);
        }
        const Floats scale = F::template scale<SUB>(beside, span);
        Floats zero = zeros();
        if constexpr (F::ZERO) zero = add(F::zero(beside), broadcast(-Dot<F::BITS>::BIAS));
        PADDOCK_UNROLL
        for (int r = 0; r < R; r++) {
            Floats sum = floats(dots[r].total());
            // Below 2^24, so floats are exact.
            if constexpr (F::ZERO) sum = fma(zero, broadcast(panel.sum[r][p]), sum);
            y[r] = fma(sum, mul(scale, broadcast(panel.scale[r][g])), y[r]);
        }
        if constexpr (F::MINIMUM) {
            const Floats minimum = F::template minimum<SUB>(beside, span);
        PADDOCK_UNROLL
            for (int r = 0; r < R; r++) y[r] = fma(minimum, broadcast(panel.sum[r][p]), y[r]);
        }
    }

    static PADDOCK_MEMBER void prefetch(const uint8_t* lines, int64_t bytes) {
        for (int64_t at = 0; at < bytes; at += LINE) __builtin_prefetch(lines + PREFETCH_AHEAD + at);
    }

    // The `groups` groups in the panel, whose weights begin at `tile`; sums: (R, 16), 64-byte aligned, read and written.
    static void run(const uint8_t* tile, const Panel<FORMAT, R>& panel, int64_t groups, float* sums) {
        Floats y[R];
        for (int r = 0; r < R; r++) y[r] = load(sums + r * LANES);
        for (int64_t first = 0; first < groups; first += SPAN_GROUPS) {
            const int64_t count = groups - first < SPAN_GROUPS ? groups - first : SPAN_GROUPS;
            const uint8_t* beside = tile + count * L.code_bytes();
            const SpanScales span = F::span_scales(beside + count * L.group_bytes());
            prefetch(beside, span_size(L, count) - count * L.code_bytes());
            for (int64_t g = 0; g < count; g++) {
                const uint8_t* lines = tile + g * L.code_bytes();
                prefetch(lines, L.code_bytes());
                part<0>(lines, beside + g * L.group_bytes(), span, panel, first + g, y);
                if constexpr (F::SUBS == 2) part<1>(lines, beside + g * L.group_bytes(), span, panel, first + g, y);
            }
            tile += span_size(L, count);
        }
        for (int r = 0; r < R; r++) store(sums + r * LANES, y[r]);
    }
};

// How many rows to take at once of those left: few passes over a tile, and none of a single row where it can be helped.
static inline int rows_at_once(int64_t left) {
    if (MOST_ROWS >= 12) {
        if (left == 12 || left >= 20) return 12;
        if (left >= 8) return 8;
        if (left >= 6) return 6;
    }
    return left >= 4 ? 4 : int(left);
}

// The finished sums of R rows and `count` tiles from `tile` on.
template <int R> static void put_band(const Linear& task, const float (&sums)[BAND_TILES][R][LANES], int64_t row, int64_t tile, int64_t count) {
    for (int64_t t = 0; t < count; t++) {
        const int64_t o = (tile + t) * LANES, lanes = task.w.rows - o < LANES ? task.w.rows - o : LANES;
        for (int r = 0; r < R; r++)
            put(sums[t][r], lanes, task.bias ? task.bias + o : nullptr, task.keep, task.y + (row + r) * task.stride + o);
    }
}

// R rows by a band of tiles. The sums of a band wait in `sums` while a piece of the rows after the other is in the panel.
template <Format FORMAT, int R> static void band(const Linear& task, int64_t row, int64_t first, int64_t last) {
    using P = Panel<FORMAT, R>;
    const Weight& w = task.w;
    const int64_t groups = (w.columns + GROUP - 1) / GROUP;
    P panel;
    alignas(64) float sums[BAND_TILES][R][LANES];
    for (int64_t tile = first; tile < last; tile += BAND_TILES) {
        const int64_t count = last - tile < BAND_TILES ? last - tile : BAND_TILES;
        memset(sums, 0, size_t(count) * sizeof sums[0]);
        for (int64_t g = 0; g < groups; g += P::GROUPS) {
            const int64_t piece = groups - g < P::GROUPS ? groups - g : P::GROUPS;
            if (tile == first || groups > P::GROUPS) panel.take(task.x, row, g, piece);
            const uint8_t* from = w.data + g / SPAN_GROUPS * span_size(layout_of(FORMAT), SPAN_GROUPS);
            for (int64_t t = 0; t < count; t++) Micro<FORMAT, R>::run(from + (tile + t) * w.tile_bytes, panel, piece, sums[t][0]);
        }
        put_band<R>(task, sums, row, tile, count);
    }
}

template <Format FORMAT> static int band_rows(const Linear& task, int64_t row, int64_t rows, int64_t first, int64_t last) {
    const int count = rows_at_once(rows);
    switch (count) {
    case 1: band<FORMAT, 1>(task, row, first, last); break;
    case 2: band<FORMAT, 2>(task, row, first, last); break;
    case 3: band<FORMAT, 3>(task, row, first, last); break;
    case 4: band<FORMAT, 4>(task, row, first, last); break;
    default:
        if constexpr (MOST_ROWS >= 12) {
            if (count == 6) band<FORMAT, 6>(task, row, first, last);
            else if (count == 8) band<FORMAT, 8>(task, row, first, last);
            else band<FORMAT, 12>(task, row, first, last);
        }
    }
    return count;
}

template <Format FORMAT> static void linear_format(const Linear& task, int64_t rows, int64_t first, int64_t last) {
    int64_t tiles = rows <= MOST_ROWS ? last - first : BAND_BYTES / (task.w.tile_bytes + 1);
    tiles = tiles < 4 ? 4 : tiles;
    for (int64_t tile = first; tile < last; tile += tiles) {
        const int64_t end = last - tile < tiles ? last : tile + tiles;
        for (int64_t row = 0; row < rows;) row += band_rows<FORMAT>(task, row, rows - row, tile, end);
    }
}

// linear of every format whose input is Codes.
static void linear_codes(const Weight& w, const Rows& x, int64_t rows, int64_t first, int64_t last, const float* bias, bool add, float* y, int64_t stride) {
    const Linear task = {w, x, bias, add, y, stride};
#define PADDOCK_FORMAT(NAME) \
    case Format::NAME: return linear_format<Format::NAME>(task, rows, first, last);
    switch (w.format) {
        PADDOCK_CODED_FORMATS(PADDOCK_FORMAT)
    default: return;
    }
#undef PADDOCK_FORMAT
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock

#include "quantised_rows.h"
#include "quantised_nf4.h"
