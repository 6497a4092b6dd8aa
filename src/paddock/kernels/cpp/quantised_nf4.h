// Linear layers over NF4: levels looked up, times float32 activations, and each group of 64 by its scale.
#pragma once
#include "formats.h"

namespace paddock {
namespace PADDOCK_VARIANT {

// R rows by T tiles that follow each other; for few rows several tiles give the processor independent sums to work on.
template <int R, int T> struct MicroNF4 {
    template <int N> static PADDOCK_MEMBER void input(const Levels& levels, const Codes (&lines)[T], const float* x, int64_t stride, Floats (&sums)[T][R]) {
#pragma GCC unroll 16
        for (int t = 0; t < T; t++) {
            const Floats weights = level<N>(levels, lines[t]);
#pragma GCC unroll 16
            for (int r = 0; r < R; r++) sums[t][r] = fma(weights, broadcast(x[r * stride + N]), sums[t][r]);
        }
    }

    static PADDOCK_MEMBER void eight(const Levels& levels, const uint8_t* tiles, int64_t tile_bytes, const float* x, int64_t stride, Floats (&sums)[T][R]) {
        Codes lines[T];
#pragma GCC unroll 16
        for (int t = 0; t < T; t++) lines[t] = load_codes(tiles + t * tile_bytes);
        input<0>(levels, lines, x, stride, sums);
        input<1>(levels, lines, x, stride, sums);
        input<2>(levels, lines, x, stride, sums);
        input<3>(levels, lines, x, stride, sums);
        input<4>(levels, lines, x, stride, sums);
        input<5>(levels, lines, x, stride, sums);
        input<6>(levels, lines, x, stride, sums);
        input<7>(levels, lines, x, stride, sums);
    }

    // out: (R, T, 16).
    static void run(const uint8_t* tiles, int64_t tile_bytes, const float* x, int64_t stride, int64_t columns, float* out) {
        const Levels levels = load_levels(NF4_LEVELS);
        Floats y[T][R];
        for (int t = 0; t < T; t++)
            for (int r = 0; r < R; r++) y[t][r] = zeros();
        for (int64_t at = 0; at < columns; at += NF4_GROUP, tiles += NF4_GROUP_BYTES) {
            const int64_t count = columns - at < NF4_GROUP ? columns - at : NF4_GROUP;
            Floats sums[T][R];
            for (int t = 0; t < T; t++)
                for (int r = 0; r < R; r++) sums[t][r] = zeros();
            int64_t i = 0;
            for (; i + 8 <= count; i += 8) eight(levels, tiles + i / 8 * LINE, tile_bytes, x + at + i, stride, sums);
            if (i < count) {  // nothing may be read past a row's end
                float last[R][8] = {};
                for (int r = 0; r < R; r++) memcpy(last[r], x + r * stride + at + i, size_t(count - i) * sizeof(float));
                eight(levels, tiles + i / 8 * LINE, tile_bytes, last[0], 8, sums);
            }
            for (int t = 0; t < T; t++) {
                float scales[LANES];
                memcpy(scales, tiles + t * tile_bytes + 8 * LINE, sizeof scales);
                for (int r = 0; r < R; r++) y[t][r] = fma(sums[t][r], load(scales), y[t][r]);
            }
        }
        for (int t = 0; t < T; t++)
            for (int r = 0; r < R; r++) store(out + (r * T + t) * LANES, y[t][r]);
    }
};

constexpr int64_t NF4_ROWS_BYTES = 256 * 1024;  // of activations that stay in the second-level cache over many tiles

// Rows by tiles of one call: 1 x 4, 1 x 1, 4 x 1, or 12 x 1 where there are the registers.
template <int R, int T> static void nf4_block(const Weight& w, const Rows& x, int64_t row, int64_t tile, const float* bias, bool add, float* y, int64_t stride) {
    alignas(64) float out[R * T * LANES];
    MicroNF4<R, T>::run(w.data + tile * w.tile_bytes, w.tile_bytes, x.floats + row * x.stride, x.stride, w.columns, out);
    for (int t = 0; t < T; t++) {
        const int64_t o = (tile + t) * LANES, lanes = w.rows - o < LANES ? w.rows - o : LANES;
        for (int r = 0; r < R; r++) put(out + (r * T + t) * LANES, lanes, bias ? bias + o : nullptr, add, y + (row + r) * stride + o);
    }
}

static void linear_nf4(const Weight& w, const Rows& x, int64_t rows, int64_t first, int64_t last, const float* bias, bool add, float* y, int64_t stride) {
    int64_t block = NF4_ROWS_BYTES / 4 / (w.columns + 1) / 12 * 12;
    block = block < 24 ? 24 : block;
    for (int64_t start = 0; start < rows; start += block) {
        const int64_t end = rows - start < block ? rows : start + block;
        const int64_t few = start + (end - start) / 4 * 4;  // rows from here on go one by one
        for (int64_t tile = first; tile < last; tile++) {
            int64_t row = start;
            if constexpr (MOST_ROWS >= 12)
                for (; row + 12 <= end; row += 12) nf4_block<12, 1>(w, x, row, tile, bias, add, y, stride);
            for (; row + 4 <= end; row += 4) nf4_block<4, 1>(w, x, row, tile, bias, add, y, stride);
        }
        for (int64_t row = few; row < end; row++) {
            int64_t tile = first;
            for (; tile + 4 <= last; tile += 4) nf4_block<1, 4>(w, x, row, tile, bias, add, y, stride);
            for (; tile < last; tile++) nf4_block<1, 1>(w, x, row, tile, bias, add, y, stride);
        }
    }
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
