// Activations to int8 codes, and single rows of quantised matrices back to floats.
#pragma once
#include "formats.h"

namespace paddock {
namespace PADDOCK_VARIANT {

// x (rows, columns) to codes, scales and sums as `Rows` holds them.
static void quantise(const float* x, int64_t stride, int64_t rows, int64_t columns, int64_t padded, int8_t* codes, float* scales, int32_t* sums) {
    for (int64_t r = 0; r < rows; r++) {
        const float* row = x + r * stride;
        for (int64_t c = 0; c < padded; c += GROUP) {
            const int64_t at = r * padded + c, left = columns - c;
            if (left >= GROUP) {
                quantise_group(row + c, codes + at, scales + at / GROUP, sums + at / 16);
                continue;
            }
            alignas(LINE) float part[GROUP] = {};
            for (int64_t i = 0; i < left; i++) part[i] = row[c + i];
            quantise_group(part, codes + at, scales + at / GROUP, sums + at / 16);
        }
    }
}

// Code of one lane's input (0..31) of a group.
template <Planes PLANES> static inline int one_code(const uint8_t* lines, int64_t lane, int64_t input) {
    const int64_t step = input / 4, byte = lane * 4 + input % 4;
    const auto at = [&](int64_t line) { return int(lines[line * LINE + byte]); };
    if constexpr (PLANES == Planes::Bytes) return at(step);
    else if constexpr (PLANES == Planes::Twos || PLANES == Planes::TwosBits) {
        const int low = at(step / 4) >> step % 4 * 2 & 3;
        return PLANES == Planes::Twos ? low : low | (at(2) >> step & 1) << 2;
    } else {
        const int low = at(step / 2) >> step % 2 * 4 & 15;
        if constexpr (PLANES == Planes::Nibbles) return low;
        else if constexpr (PLANES == Planes::NibblesBits) return low | (at(4) >> step & 1) << 4;
        else return low | (at(4 + step / 4) >> step % 4 * 2 & 3) << 4;
    }
}

// Exact: every product of a scale and a code fits float32, so it does not matter whether the compiler fuses the sum.
template <Format FORMAT, int SUB> static void part_row(const uint8_t* lines, const uint8_t* beside, const SpanScales& span, int64_t lane, int64_t from, int64_t to, float* out) {
    using F = Of<FORMAT>;
    alignas(LINE) float scales[LANES], minima[LANES] = {}, offsets[LANES] = {};
    store(scales, F::template scale<SUB>(beside, span));
    if constexpr (F::MINIMUM) store(minima, F::template minimum<SUB>(beside, span));
    if constexpr (F::ZERO) store(offsets, F::zero(beside));
    for (int64_t i = from; i < to; i++) {
        int code = one_code<F::LAYOUT.planes>(lines, lane, i);
        if constexpr (FORMAT == Format::IQ4_NL) code = IQ4_LEVELS[code];
        const float product = scales[lane] * (float(code - F::LAYOUT.offset) - offsets[lane]);
        out[i] = F::MINIMUM ? product + minima[lane] : product;
    }
}

template <Format FORMAT> static void row_format(const Weight& w, int64_t row, float* out) {
    using F = Of<FORMAT>;
    constexpr Layout L = F::LAYOUT;
    const int64_t lane = row % LANES, groups = (w.columns + GROUP - 1) / GROUP;
    const uint8_t* tile = w.data + row / LANES * w.tile_bytes;
    for (int64_t first = 0; first < groups; first += SPAN_GROUPS) {
        const int64_t count = groups - first < SPAN_GROUPS ? groups - first : SPAN_GROUPS;
        const uint8_t* beside = tile + count * L.code_bytes();
        const SpanScales span = F::span_scales(beside + count * L.group_bytes());
        for (int64_t g = 0; g < count; g++) {
            const uint8_t *lines = tile + g * L.code_bytes(), *own = beside + g * L.group_bytes();
            const int64_t at = (first + g) * GROUP, left = w.columns - at < GROUP ? w.columns - at : GROUP;
            const int64_t half = F::SUBS == 2 ? 16 : left;
            part_row<FORMAT, 0>(lines, own, span, lane, 0, half, out + at);
            if constexpr (F::SUBS == 2) part_row<FORMAT, 1>(lines, own, span, lane, half, left, out + at);
        }
        tile += span_size(L, count);
    }
}

static inline void row_nf4(const Weight& w, int64_t row, float* out) {
    const int64_t lane = row % LANES;
    const uint8_t* tile = w.data + row / LANES * w.tile_bytes;
    for (int64_t i = 0; i < w.columns; i++) {
        const uint8_t* group = tile + i / NF4_GROUP * NF4_GROUP_BYTES;
        const int64_t within = i % NF4_GROUP, nibble = within % 8;
        float scale;
        memcpy(&scale, group + 8 * LINE + lane * 4, 4);
        out[i] = NF4_LEVELS[group[within / 8 * LINE + lane * 4 + nibble / 2] >> nibble % 2 * 4 & 15] * scale;
    }
}

// weight_row of every quantised format.
static void row_codes(const Weight& w, int64_t row, float* out) {
#define PADDOCK_FORMAT(NAME) \
    case Format::NAME: return row_format<Format::NAME>(w, row, out);
    switch (w.format) {
        PADDOCK_CODED_FORMATS(PADDOCK_FORMAT)
    case Format::NF4: return row_nf4(w, row, out);
    default: return;
    }
#undef PADDOCK_FORMAT
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
