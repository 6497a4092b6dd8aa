// Linear layers over NF4: levels looked up, times float32 activations, and each group of 64 by its scale.
//
// Per output: the products of a group are added up in order of inputs, and y += sum * scale, whatever stands beside it.
#pragma once
#include "formats.h"

namespace paddock {
namespace PADDOCK_VARIANT {

constexpr int FETCHING_ROWS = 4;  // with more rows looking levels up takes longer than memory does

constexpr int NF4_TILES = MOST_ROWS >= 12 ? 8 : 4;  // at once for a single row
constexpr int64_t NF4_PIECE = 512;  // inputs of 12 rows that the first-level cache holds

// A piece of R rows, padded with zeros to whole groups. Rows do not lie a power of two apart: they would fall into the same
// few sets of the cache.
template <int R> struct FloatPanel {
    alignas(LINE) float x[R][NF4_PIECE + 16];

    void take(const Rows& from, int64_t row, int64_t first, int64_t count) {
        for (int r = 0; r < R; r++) {
            memcpy(x[r], from.floats + (row + r) * from.stride + first, size_t(count) * sizeof(float));
            for (int64_t i = count; i % NF4_GROUP; i++) x[r][i] = 0;
        }
    }
};

// R rows by T tiles that follow each other; for few rows several tiles give the processor independent sums to work on.
template <int R, int T> struct MicroNF4 {
    template <int N> static PADDOCK_MEMBER void input(const Levels& levels, const uint8_t* lines, int64_t tile_bytes, const FloatPanel<R>& panel, int64_t at, Floats (&sums)[T][R]) {
        PADDOCK_UNROLL
        for (int t = 0; t < T; t++) {
            const Floats weights = level<N>(levels, lines + t * tile_bytes);
            PADDOCK_UNROLL
            for (int r = 0; r < R; r++) sums[t][r] = fma(weights, broadcast(panel.x[r][at + N]), sums[t][r]);
        }
    }

    static PADDOCK_MEMBER void eight(const Levels& levels, const uint8_t* lines, int64_t tile_bytes, const FloatPanel<R>& panel, int64_t at, Floats (&sums)[T][R]) {
        if constexpr (R <= FETCHING_ROWS)
            for (int t = 0; t < T; t++) __builtin_prefetch(lines + t * tile_bytes + PREFETCH_AHEAD / T);
        input<0>(levels, lines, tile_bytes, panel, at, sums);
        input<1>(levels, lines, tile_bytes, panel, at, sums);
        input<2>(levels, lines, tile_bytes, panel, at, sums);
        input<3>(levels, lines, tile_bytes, panel, at, sums);
        input<4>(levels, lines, tile_bytes, panel, at, sums);
        input<5>(levels, lines, tile_bytes, panel, at, sums);
        input<6>(levels, lines, tile_bytes, panel, at, sums);
        input<7>(levels, lines, tile_bytes, panel, at, sums);
    }

    // The `count` inputs in the panel, whose weights begin at `tiles`; out: (T, R, 16), read and written.
    static void run(const uint8_t* tiles, int64_t tile_bytes, const FloatPanel<R>& panel, int64_t count, float* out) {
        const Levels levels = load_levels(NF4_LEVELS);
        Floats y[T][R];
        for (int t = 0; t < T; t++)
            for (int r = 0; r < R; r++) y[t][r] = load(out + (t * R + r) * LANES);
        for (int64_t at = 0; at < count; at += NF4_GROUP, tiles += NF4_GROUP_BYTES) {
            Floats sums[T][R];
            for (int t = 0; t < T; t++)
                for (int r = 0; r < R; r++) sums[t][r] = zeros();
            for (int64_t i = 0; i < NF4_GROUP; i += 8) eight(levels, tiles + i / 8 * LINE, tile_bytes, panel, at + i, sums);
            for (int t = 0; t < T; t++) {
                float scales[LANES];
                memcpy(scales, tiles + t * tile_bytes + 8 * LINE, sizeof scales);
                for (int r = 0; r < R; r++) y[t][r] = fma(sums[t][r], load(scales), y[t][r]);
            }
        }
        for (int t = 0; t < T; t++)
            for (int r = 0; r < R; r++) store(out + (t * R + r) * LANES, y[t][r]);
    }
};

// R rows by tiles, T at a time and the rest one by one.
template <int R, int T> static void band_nf4(const Linear& task, int64_t row, int64_t first, int64_t last) {
    const Weight& w = task.w;
    FloatPanel<R> panel;
    alignas(64) float sums[BAND_TILES][R][LANES];
    for (int64_t tile = first; tile < last; tile += BAND_TILES) {
        const int64_t count = last - tile < BAND_TILES ? last - tile : BAND_TILES;
        memset(sums, 0, size_t(count) * sizeof sums[0]);
        for (int64_t at = 0; at < w.columns; at += NF4_PIECE) {
            const int64_t piece = w.columns - at < NF4_PIECE ? w.columns - at : NF4_PIECE;
            const uint8_t* from = w.data + tile * w.tile_bytes + at / NF4_GROUP * NF4_GROUP_BYTES;
            panel.take(task.x, row, at, piece);
            int64_t t = 0;
            for (; t + T <= count; t += T) MicroNF4<R, T>::run(from + t * w.tile_bytes, w.tile_bytes, panel, piece, sums[t][0]);
            for (; t < count; t++) MicroNF4<R, 1>::run(from + t * w.tile_bytes, w.tile_bytes, panel, piece, sums[t][0]);
        }
        put_band<R>(task, sums, row, tile, count);
    }
}

static void linear_nf4(const Weight& w, const Rows& x, int64_t rows, int64_t first, int64_t last, const float* bias, bool add, float* y, int64_t stride) {
    const Linear task = {w, x, bias, add, y, stride};
    for (int64_t tile = first; tile < last; tile += BAND_TILES) {
        const int64_t end = last - tile < BAND_TILES ? last : tile + BAND_TILES;
        int64_t row = 0;
        if constexpr (MOST_ROWS >= 12)
            for (; row + 12 <= rows; row += 12) band_nf4<12, 1>(task, row, tile, end);
        for (; row + 4 <= rows; row += 4) band_nf4<4, 1>(task, row, tile, end);
        for (; row < rows; row++) band_nf4<1, NF4_TILES>(task, row, tile, end);
    }
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
