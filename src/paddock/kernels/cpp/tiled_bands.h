// How a linear over tiles of the matrix unit is cut: bands of weight tiles, blocks of rows, pieces of the inputs.
//
// Rows come in tiles of 16. Where their number is no multiple of 16 the last tile begins 16 before the end and computes a few
// rows a second time, which gives the same bits; only fewer than 16 rows in all are a lower tile. So nothing is read that is
// not there, and nothing has to be padded.
#pragma once
#include "linear.h"
#include "tiles.h"

namespace paddock {
namespace PADDOCK_VARIANT {

constexpr int64_t BAND = 8;         // weight tiles that a panel of rows meets
constexpr int64_t ROW_TILES = 8;    // whose sums wait while pieces of the inputs pass
constexpr int64_t FETCHED = 8192;   // bytes ahead: what few rows wait for is memory

static inline int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }

struct RowTiles {
    int64_t rows;
    int64_t count() const { return (rows + TILE_ROWS - 1) / TILE_ROWS; }
    int64_t height() const { return lesser(rows, TILE_ROWS); }
    int64_t first(int64_t tile) const { return lesser(tile * TILE_ROWS, rows - height()); }
};

// Sums of a band: [weight tile][row tile][row][output].
struct BandSums {
    alignas(64) float at[BAND][ROW_TILES][TILE_ROWS][LANES];
};

// Where the work is: weight tiles from `tile` on, row tiles from `row_tile` on, and how many.
struct Place {
    int64_t tile, tiles, row_tile, row_tiles;
};

static void put_place(const Linear& task, const RowTiles& rows, const Place& place, const BandSums& sums) {
    for (int64_t t = 0; t < place.tiles; t++) {
        const int64_t output = (place.tile + t) * LANES, lanes = lesser(task.w.rows - output, LANES);
        for (int64_t m = 0; m < place.row_tiles; m++) {
            const int64_t number = place.row_tile + m, first = rows.first(number);
            for (int64_t r = number * TILE_ROWS - first; r < rows.height(); r++)
                put(sums.at[t][m][r], lanes, task.bias ? task.bias + output : nullptr, task.keep, task.y + (first + r) * task.stride + output);
        }
    }
}

// Two row tiles by two weight tiles at a time, or what is left of them.
template <int M, class Work> static void run_rows(Work& work, const Place& place, int64_t m, BandSums& sums) {
    work.template take_rows<M>(place.row_tile + m);
    int64_t t = 0;
    for (; t + 2 <= place.tiles; t += 2) work.template run<M, 2>(place, t, m, sums);
    if (t < place.tiles) work.template run<M, 1>(place, t, m, sums);
}

template <class Work> static void run_place(Work& work, const Place& place, BandSums& sums) {
    for (int64_t t = 0; t < place.tiles; t++) std::memset(sums.at[t], 0, static_cast<size_t>(place.row_tiles) * sizeof sums.at[t][0]);
    for (bool more = work.first_piece(); more; more = work.next_piece()) {
        work.take_weights(place);
        int64_t m = 0;
        for (; m + 2 <= place.row_tiles; m += 2) run_rows<2>(work, place, m, sums);
        if (m < place.row_tiles) run_rows<1>(work, place, m, sums);
    }
}

// Work: pieces of the inputs one after the other (first_piece, next_piece), their weights and rows made ready (take_weights,
// take_rows), and their products added to the sums (run).
template <class Work> static void linear_tiled(Work& work, const Linear& task, const RowTiles& rows, int64_t first, int64_t last) {
    BandSums sums;
    for (int64_t tile = first; tile < last; tile += BAND) {
        for (int64_t row_tile = 0; row_tile < rows.count(); row_tile += ROW_TILES) {
            const Place place = {tile, lesser(last - tile, BAND), row_tile, lesser(rows.count() - row_tile, ROW_TILES)};
            run_place(work, place, sums);
            put_place(task, rows, place, sums);
        }
    }
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
