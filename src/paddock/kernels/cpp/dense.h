// Linears whose weights are plain numbers, in tiles of 16 outputs (pack_dense.cpp): F32 and F16 lie [input][16], BF16
// [pair of inputs][16][2].
#pragma once
#include "kernels.h"
#include "multiply.h"

namespace paddock {
namespace PADDOCK_VARIANT {

// What a linear needs to know inside its loops.
template <class Input>
struct Dense {
    const uint8_t* tiles;
    int64_t tile_bytes, outputs;
    const Input* x;
    int64_t x_stride, steps;
    const float* bias;
    bool onto;
    float* y;
    int64_t y_stride;
};

constexpr int64_t STEPS_OF_BLOCK = 512;  // of a tile: 32 KiB at most, so that a group of four stays near while rows pass
constexpr int64_t ROWS_OF_BLOCK = 96;    // whose sums wait on the stack between blocks of steps

template <class Input>
PADDOCK_INLINE void finish(const Dense<Input>& d, int64_t row, int64_t tile, Floats sum) {
    const int64_t output = tile * LANES, lanes = d.outputs - output;
    float* y = d.y + row * d.y_stride + output;
    if (lanes >= LANES) {
        if (d.bias) sum = add(sum, load(d.bias + output));
        if (d.onto) sum = add(sum, load(y));
        store(y, sum);
    } else {
        if (d.bias) sum = add(sum, load(d.bias + output, lanes));
        if (d.onto) sum = add(sum, load(y, lanes));
        store(y, sum, lanes);
    }
}

// Rows of inputs as a step takes them: as they lie, or bfloat16 widened into `room` where there is no bfloat16 product.
template <int R>
PADDOCK_INLINE void take(const float* x, int64_t stride, int64_t, float*, const float* (&rows)[R]) {
    for (int r = 0; r < R; r++) rows[r] = x + r * stride;
}
template <int R>
PADDOCK_INLINE void take(const uint16_t* x, int64_t stride, int64_t, float*, const uint16_t* (&rows)[R]) {
    for (int r = 0; r < R; r++) rows[r] = x + r * stride;
}
template <int R>
PADDOCK_INLINE void take(const uint16_t* x, int64_t stride, int64_t count, float* room, const float* (&rows)[R]) {
    for (int r = 0; r < R; r++) {
        float* row = room + r * STEPS_OF_BLOCK * 2;
        // Rows of bfloats are padded to 32, so whole vectors may be read.
        for (int64_t i = 0; i < count; i += LANES) store(row + i, load_bf16(x + r * stride + i));
        rows[r] = row;
    }
}

// R rows from `row` on, T tiles from `tile` on, `count` steps from `from` on. Sums of a block that is not the first come
// from `waiting` and those of one that is not the last go there.
template <class Step, int R, int T, class Input>
static void dense_block(const Dense<Input>& d, int64_t row, int64_t tile, int64_t from, int64_t count, float* waiting) {
    constexpr int64_t AHEAD = 512;  // bytes
    constexpr bool WIDENS = sizeof(Input) < sizeof(typename Step::Input);
    constexpr int64_t STRIDE = LANES * Step::BYTES;
    alignas(64) float room[WIDENS ? R * STEPS_OF_BLOCK * 2 : 1];
    const typename Step::Input* x[R];
    take(d.x + row * d.x_stride + from * Step::INPUTS, d.x_stride, count * Step::INPUTS, room, x);
    const uint8_t *tiles[T], *ahead[T];
    Floats sums[R][T];
    PADDOCK_UNROLL
    for (int t = 0; t < T; t++) tiles[t] = d.tiles + (tile + t) * d.tile_bytes + from * STRIDE, ahead[t] = tiles[t] + AHEAD;
    PADDOCK_UNROLL
    for (int r = 0; r < R; r++) {
        PADDOCK_UNROLL
        for (int t = 0; t < T; t++) sums[r][t] = from ? load(waiting + (r * T + t) * LANES) : zeros();
    }
    multiply<Step, R, T, R == 1>(sums, tiles, ahead, STRIDE, x, count);
    const bool last = from + count == d.steps;
    PADDOCK_UNROLL
    for (int r = 0; r < R; r++) {
        PADDOCK_UNROLL
        for (int t = 0; t < T; t++) {
            if (last)
                finish(d, row + r, tile + t, sums[r][t]);
            else
                store(waiting + (r * T + t) * LANES, sums[r][t]);
        }
    }
}

// `rows` is at most R: the number becomes the compiler's.
template <class Step, int R, int T, class Input>
static void dense_rows(const Dense<Input>& d, int64_t rows, int64_t row, int64_t tile, int64_t from, int64_t count, float* waiting) {
    if constexpr (R > 1) {
        if (rows < R) return dense_rows<Step, R - 1, T>(d, rows, row, tile, from, count, waiting);
    }
    dense_block<Step, R, T>(d, row, tile, from, count, waiting);
}

// T tiles for all rows, R at a time: weights come from memory once, then for each group of rows from the cache.
template <class Step, int R, int T, class Input>
static void dense_tiles(const Dense<Input>& d, int64_t rows, int64_t tile) {
    alignas(64) float waiting[(R == 1 ? 1 : ROWS_OF_BLOCK) * T * LANES];
    constexpr int64_t MOST = R == 1 ? 1 : ROWS_OF_BLOCK;
    for (int64_t first = 0; first < rows; first += MOST) {
        const int64_t end = first + MOST < rows ? first + MOST : rows;
        for (int64_t from = 0; from == 0 || from < d.steps; from += STEPS_OF_BLOCK) {
            const int64_t count = d.steps - from < STEPS_OF_BLOCK ? d.steps - from : STEPS_OF_BLOCK;
            in_groups<R>(end - first, [&](int64_t row, int64_t group) {
                dense_rows<Step, R, T>(d, group, first + row, tile, from, count, waiting + row * T * LANES);
            });
        }
    }
}

template <class Step, class Input>
static void dense(const Dense<Input>& d, int64_t rows, int64_t first, int64_t last) {
    int64_t tile = first;
    if (rows == 1) {
        for (; tile + TILES_OF_ONE <= last; tile += TILES_OF_ONE) dense_tiles<Step, 1, TILES_OF_ONE>(d, rows, tile);
        for (; tile < last; tile++) dense_tiles<Step, 1, 1>(d, rows, tile);
        return;
    }
    for (; tile + TILES <= last; tile += TILES) dense_tiles<Step, ROWS, TILES>(d, rows, tile);
    for (; tile < last; tile++) dense_tiles<Step, ROWS, 1>(d, rows, tile);
}

// Weights F32 or F16, inputs x.floats.
PADDOCK_INLINE void linear_floats(const Weight& w, const Rows& x, int64_t rows, int64_t first, int64_t last,
                                  const float* bias, bool add, float* y, int64_t stride) {
    const Dense<float> d = {w.data, w.tile_bytes, w.rows, x.floats, x.stride, w.columns, bias, add, y, stride};
    if (w.format == Format::F32)
        dense<StepF32>(d, rows, first, last);
    else
        dense<StepF16>(d, rows, first, last);
}

// Weights BF16, inputs x.bfloats.
PADDOCK_INLINE void linear_bfloats(const Weight& w, const Rows& x, int64_t rows, int64_t first, int64_t last,
                                   const float* bias, bool add, float* y, int64_t stride) {
    const int64_t pairs = (w.columns + 1) / 2;
    const Dense<uint16_t> d = {w.data, w.tile_bytes, w.rows, x.bfloats, x.padded, pairs, bias, add, y, stride};
    dense<StepPairs>(d, rows, first, last);
}

static inline void to_bfloat16(const float* x, int64_t stride, int64_t rows, int64_t columns, int64_t padded, uint16_t* out) {
    for (int64_t r = 0; r < rows; r++, x += stride, out += padded) {
        int64_t i = 0;
        for (; i + LANES <= columns; i += LANES) store_bf16(out + i, load(x + i));
        for (; i < columns; i++) out[i] = to_bf16(x[i]);
        for (; i < padded; i++) out[i] = 0;
    }
}

// Row `row` of F32, F16 or BF16 tiles: every sixteenth number of its tile.
static inline void row_dense(const Weight& w, int64_t row, float* out) {
    const uint8_t* tile = w.data + row / LANES * w.tile_bytes;
    const int64_t lane = row % LANES;
    if (w.format == Format::F32) {
        for (int64_t i = 0; i < w.columns; i++) std::memcpy(out + i, tile + (i * LANES + lane) * 4, 4);
        return;
    }
    const uint16_t* halves = reinterpret_cast<const uint16_t*>(tile);
    if (w.format == Format::F16) {
        for (int64_t i = 0; i < w.columns; i++) out[i] = from_f16(halves[i * LANES + lane]);
        return;
    }
    for (int64_t i = 0; i < w.columns; i++) out[i] = from_bf16(halves[(i / 2 * LANES + lane) * 2 + i % 2]);
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
