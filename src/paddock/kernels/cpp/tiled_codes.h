// Linears over quantised weights for many rows, on the matrix unit. Codes are taken apart to bytes once for a block of rows;
// sums of codes are exact, and are scaled in the order that quantised.h tells: so they have its bits.
#pragma once
#include <type_traits>

#include "formats.h"
#include "tiled_bands.h"

namespace paddock {
namespace PADDOCK_VARIANT {

constexpr int64_t LEAST_TILED = TILE_ROWS;  // fewer rows would not pay for taking codes apart

template <Format FORMAT> class TiledCodes {
public:
    using F = Of<FORMAT>;
    static constexpr Layout L = F::LAYOUT;
    static constexpr int64_t PART_BYTES = GROUP / F::SUBS;

    TiledCodes(const Linear& task, const RowTiles& rows) : task_(task), rows_(rows), groups_((task.w.columns + GROUP - 1) / GROUP) {}

    bool first_piece() { return begin(0); }
    bool next_piece() { return begin(from_ + count_); }

    void take_weights(const Place& place) {
        for (int64_t t = 0; t < place.tiles; t++)
            for (int64_t g = 0; g < count_; g++) take_group(lines(place.tile + t, g), weights_[t][g]);
    }

    template <int M> void take_rows(int64_t row_tile) {
        for (int m = 0; m < M; m++)
            for (int64_t r = 0; r < TILE_ROWS; r++) take_row(m, r, rows_.first(row_tile + m) + r);
    }

    template <int M, int N> void run(const Place& place, int64_t t, int64_t m, BandSums& sums) {
        for (int64_t from = 0; from < count_; from += CHUNK) {
            const int64_t count = lesser(count_ - from, CHUNK);
            for (int64_t g = 0; g < count; g++) {
                multiply<M, N, 0>(t, from + g, g);
                if constexpr (F::SUBS == 2) multiply<M, N, 1>(t, from + g, g);
            }
            for (int row = 0; row < M; row++)
                for (int column = 0; column < N; column++)
                    scale(place.tile + t + column, row, from, count, products_[2 * row + column], sums.at[t + column][m + row]);
        }
    }

private:
    // A code's offset is taken off, which leaves a signed byte. Zero points are not: they belong to a group.
    static constexpr int OFFSET = F::ZERO ? 0 : L.offset;
    using Kind = std::conditional_t<OFFSET != 0, SignedCodes, UnsignedCodes>;
    static constexpr bool SUM = F::MINIMUM || F::ZERO;
    static constexpr int64_t PIECE = 2 * SPAN_GROUPS;  // groups taken apart at a time
    static constexpr int64_t CHUNK = 4;                // groups of one span multiplied before they are scaled
    static constexpr int64_t STEPS = GROUP / 4;

    bool begin(int64_t from) {
        from_ = from, count_ = lesser(groups_ - from, PIECE);
        return count_ > 0;
    }

    // A span, of which the last may be shorter.
    const uint8_t* span(int64_t tile, int64_t group) const {
        return task_.w.data + tile * task_.w.tile_bytes + (from_ + group) / SPAN_GROUPS * span_size(L, SPAN_GROUPS);
    }
    int64_t span_groups(int64_t group) const { return lesser(groups_ - (from_ + group) / SPAN_GROUPS * SPAN_GROUPS, SPAN_GROUPS); }
    const uint8_t* lines(int64_t tile, int64_t group) const { return span(tile, group) + (from_ + group) % SPAN_GROUPS * L.code_bytes(); }

    template <int STEP> static PADDOCK_MEMBER void take_step(const uint8_t* lines, uint8_t (&to)[STEPS][TILE_LINE]) {
        const __m512i codes = F::template step<STEP>(lines).v;
        _mm512_store_si512(to[STEP], OFFSET ? _mm512_sub_epi8(codes, _mm512_set1_epi8(static_cast<char>(OFFSET))) : codes);
    }
    static void take_group(const uint8_t* lines, uint8_t (&to)[STEPS][TILE_LINE]) {
        for (int64_t at = 0; at < L.code_bytes(); at += LINE) __builtin_prefetch(lines + FETCHED + at);
        take_step<0>(lines, to), take_step<1>(lines, to), take_step<2>(lines, to), take_step<3>(lines, to);
        take_step<4>(lines, to), take_step<5>(lines, to), take_step<6>(lines, to), take_step<7>(lines, to);
    }

    // Scales and sums of rows side by side, as 16 rows are scaled together.
    void take_row(int m, int64_t r, int64_t row) {
        const int64_t at = row * (task_.x.padded / GROUP) + from_;
        const float* scales = task_.x.scales + at;
        const int32_t* sums = task_.x.sums + at * 2;
        for (int64_t g = 0; g < count_; g++) {
            std::memcpy(codes_[g][m][r], task_.x.codes + (at + g) * GROUP, GROUP);
            scale_[m][g][r] = scales[g];
            for (int sub = 0; SUM && sub < F::SUBS; sub++) {
                const float total = float(F::SUBS == 2 ? sums[2 * g + sub] : sums[2 * g] + sums[2 * g + 1]);
                sum_[m][g][sub][r] = F::ZERO ? -total : scales[g] * total;
            }
        }
    }

    // Products of one group, or of half of it, as they come: its lines of weights are 8, or 4, of a tile's 16.
    template <int M, int N, int SUB> void multiply(int64_t t, int64_t g, int64_t place) {
        constexpr int64_t STEP = SUB * STEPS / F::SUBS;
        load_tile<INPUTS>(codes_[g][0][0] + SUB * PART_BYTES, GROUP);
        if constexpr (M == 2) load_tile<INPUTS + 1>(codes_[g][1][0] + SUB * PART_BYTES, GROUP);
        load_tile<WEIGHTS>(weights_[t][g][STEP], TILE_LINE);
        if constexpr (N == 2) load_tile<WEIGHTS + 1>(weights_[t + 1][g][STEP], TILE_LINE);
        each_sum<M, N>([](auto sum) { zero_tile<SUMS + sum.VALUE>(); });
        multiply_tiles<Kind, M, N>();
        each_sum<M, N>([&](auto sum) { store_tile<SUMS + sum.VALUE>(products_[sum.VALUE][place][SUB], TILE_LINE); });
    }

    using Products = int32_t[F::SUBS][TILE_ROWS][LANES];

    template <int SUB> PADDOCK_MEMBER void scale_part(const uint8_t* beside, const SpanScales& span, int m, int64_t g, const Products& products, Floats (&y)[TILE_ROWS]) const {
        const Floats scale = F::template scale<SUB>(beside, span);
        Floats zero = zeros();
        if constexpr (F::ZERO) zero = F::zero(beside);
        PADDOCK_UNROLL
        for (int r = 0; r < TILE_ROWS; r++) {
            Floats sum = floats(Ints{_mm512_load_si512(products[SUB][r])});
            if constexpr (F::ZERO) sum = fma(zero, broadcast(sum_[m][g][SUB][r]), sum);
            y[r] = fma(sum, mul(scale, broadcast(scale_[m][g][r])), y[r]);
        }
        if constexpr (F::MINIMUM) {
            const Floats minimum = F::template minimum<SUB>(beside, span);
            PADDOCK_UNROLL
            for (int r = 0; r < TILE_ROWS; r++) y[r] = fma(minimum, broadcast(sum_[m][g][SUB][r]), y[r]);
        }
    }

    // y (16, 16) += the products of `count` groups from `from` on, scaled.
    void scale(int64_t tile, int m, int64_t from, int64_t count, const Products* products, float (&sums)[TILE_ROWS][LANES]) const {
        const int64_t groups = span_groups(from);
        const uint8_t* beside = span(tile, from) + groups * L.code_bytes();
        const SpanScales span = F::span_scales(beside + groups * L.group_bytes());
        Floats y[TILE_ROWS];
        PADDOCK_UNROLL
        for (int r = 0; r < TILE_ROWS; r++) y[r] = load(sums[r]);
        for (int64_t g = 0; g < count; g++) {
            const uint8_t* own = beside + (from_ + from + g) % SPAN_GROUPS * L.group_bytes();
            scale_part<0>(own, span, m, from + g, products[g], y);
            if constexpr (F::SUBS == 2) scale_part<1>(own, span, m, from + g, products[g], y);
        }
        PADDOCK_UNROLL
        for (int r = 0; r < TILE_ROWS; r++) store(sums[r], y[r]);
    }

    const Linear& task_;
    const RowTiles& rows_;
    const int64_t groups_;
    int64_t from_ = 0, count_ = 0;  // groups of the piece
    alignas(64) uint8_t weights_[BAND][PIECE][STEPS][TILE_LINE];
    alignas(64) int8_t codes_[PIECE][2][TILE_ROWS][GROUP];
    alignas(64) float scale_[2][PIECE][TILE_ROWS];
    alignas(64) float sum_[SUM ? 2 : 1][SUM ? PIECE : 1][F::SUBS][TILE_ROWS];  // scale * sum; for zero points -sum
    alignas(64) Products products_[4][CHUNK];
};

template <Format FORMAT> static void linear_format_tiled(const Linear& task, int64_t rows, int64_t first, int64_t last) {
    const RowTiles tiles = {rows};
    TiledCodes<FORMAT> work(task, tiles);
    configure_tiles(TileShapes(TILE_ROWS, TiledCodes<FORMAT>::PART_BYTES));
    linear_tiled(work, task, tiles, first, last);
    release_tiles();
}

// At least LEAST_TILED rows.
static void linear_codes_tiled(const Linear& task, int64_t rows, int64_t first, int64_t last) {
#define PADDOCK_FORMAT(NAME) \
    case Format::NAME: return linear_format_tiled<Format::NAME>(task, rows, first, last);
    switch (task.w.format) {
        PADDOCK_CODED_FORMATS(PADDOCK_FORMAT)
    default: return;
    }
#undef PADDOCK_FORMAT
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
