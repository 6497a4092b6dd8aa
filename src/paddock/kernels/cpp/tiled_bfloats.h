// bfloat16 matrices on the matrix unit, whatever the number of rows: it rounds otherwise than vdpbf16ps does.
//
// Per output: 32 inputs at a time, in order; of these the products with even inputs are summed, and those with odd ones, and
// the two sums' sum is added to y. Cut anywhere between two times 32 inputs, y goes out to memory and comes back unchanged.
#pragma once
#include "tiled_bands.h"

namespace paddock {
namespace PADDOCK_VARIANT {

class TiledBfloats {
public:
    TiledBfloats(const Linear& task, const RowTiles& rows)
        : task_(task), rows_(rows), pairs_((task.w.columns + 1) / 2), steps_((pairs_ + PAIRS - 1) / PAIRS),
          most_(PANEL / (lesser(rows.count(), 2) * rows.height())) {}

    bool first_piece() { return begin(0); }
    bool next_piece() { return begin(from_ + count_); }

    // The last lines of the tiles as a whole step: others lie behind them, or nothing.
    void take_weights(const Place& place) {
        whole_ = lesser(count_, pairs_ / PAIRS - from_);
        if (whole_ == count_) return;
        const int64_t lines = pairs_ % PAIRS;
        for (int64_t t = 0; t < place.tiles; t++) {
            std::memset(tails_[t], 0, sizeof tails_[t]);
            std::memcpy(tails_[t], at(place.tile + t, pairs_ / PAIRS), static_cast<size_t>(lines * TILE_LINE));
        }
    }

    template <int M> void take_rows(int64_t row_tile) {
        const int64_t height = rows_.height();
        fetch_ = row_tile == 0;
        for (int64_t m = 0; m < M; m++) {
            for (int64_t r = 0; r < height; r++) {
                const uint16_t* from = task_.x.bfloats + (rows_.first(row_tile + m) + r) * task_.x.padded + from_ * NUMBERS;
                for (int64_t k = 0; k < count_; k++) std::memcpy(panel_[(k * M + m) * height + r], from + k * NUMBERS, TILE_LINE);
            }
        }
    }

    template <int M, int N> void run(const Place& place, int64_t t, int64_t m, BandSums& sums) {
        each_sum<M, N>([&](auto sum) { load_tile<SUMS + sum.VALUE>(sums.at[t + sum.COLUMN][m + sum.ROW], TILE_LINE); });
        const uint8_t* weights[N];
        for (int n = 0; n < N; n++) weights[n] = at(place.tile + t + n, from_);
        for (int64_t k = 0; k < whole_; k++) {
            for (int n = 0; n < N; n++) {
                if (fetch_) fetch(weights[n] + k * STEP_BYTES);
            }
            step<M, N>(k, weights[0] + k * STEP_BYTES, weights[N - 1] + k * STEP_BYTES);
        }
        if (whole_ < count_) step<M, N>(whole_, tails_[t][0], tails_[t + N - 1][0]);
        each_sum<M, N>([&](auto sum) { store_tile<SUMS + sum.VALUE>(sums.at[t + sum.COLUMN][m + sum.ROW], TILE_LINE); });
    }

private:
    static constexpr int64_t NUMBERS = 32, PAIRS = 16, STEP_BYTES = PAIRS * TILE_LINE;  // of one multiplication
    static constexpr int64_t PANEL = 512;  // lines of 64 bytes: two row tiles' 512 inputs, a single row's 16384

    bool begin(int64_t from) {
        from_ = from, count_ = lesser(steps_ - from, most_);
        return count_ > 0;
    }
    const uint8_t* at(int64_t tile, int64_t step) const { return task_.w.data + tile * task_.w.tile_bytes + step * STEP_BYTES; }
    static void fetch(const uint8_t* weights) {
        for (int64_t line = 0; line < STEP_BYTES; line += TILE_LINE) __builtin_prefetch(weights + FETCHED + line, 0, 2);
    }

    template <int M, int N> void step(int64_t k, const uint8_t* first, const uint8_t* second) {
        const int64_t height = rows_.height();
        load_tile<INPUTS>(panel_[k * M * height], TILE_LINE);
        if constexpr (M == 2) load_tile<INPUTS + 1>(panel_[(k * M + 1) * height], TILE_LINE);
        load_tile<WEIGHTS>(first, TILE_LINE);
        if constexpr (N == 2) load_tile<WEIGHTS + 1>(second, TILE_LINE);
        multiply_tiles<Bfloats, M, N>();
    }

    const Linear& task_;
    const RowTiles& rows_;
    const int64_t pairs_, steps_, most_;
    int64_t from_ = 0, count_ = 0, whole_ = 0;  // steps of the piece; `whole_` of them lie in the matrix
    bool fetch_ = false;
    alignas(64) uint16_t panel_[PANEL][NUMBERS];  // [step][row tile][row]
    alignas(64) uint8_t tails_[BAND][PAIRS][TILE_LINE];
};

static void linear_bfloats_tiled(const Linear& task, int64_t rows, int64_t first, int64_t last) {
    if (rows == 0) return;
    const RowTiles tiles = {rows};
    TiledBfloats work(task, tiles);
    configure_tiles(TileShapes(tiles.height(), TILE_LINE));
    linear_tiled(work, task, tiles, first, last);
    release_tiles();
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
