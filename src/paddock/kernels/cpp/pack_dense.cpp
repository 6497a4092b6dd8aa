#include "pack_dense.h"

#include <cstring>

namespace paddock {

namespace {

struct Layout {
    int64_t number_bytes;  // of one weight
    int64_t together;      // inputs of a row that lie side by side
};

Layout layout_of(Format format) {
    if (format == Format::F32) return {4, 1};
    if (format == Format::F16) return {2, 1};
    return {2, 2};
}

// Columns of a tile: an even number, so that tiles of 16-bit numbers begin at multiples of 64 bytes.
int64_t columns_of_tile(Format format, int64_t columns) { return format == Format::F32 ? columns : (columns + 1) / 2 * 2; }

// Constant sizes make each copy one instruction; whole cache lines of the tile are written in order.
template <int64_t BYTES>
void interleave(const uint8_t* const* rows, int64_t units, uint8_t* out) {
    for (int64_t i = 0; i < units; i++) {
        for (int64_t lane = 0; lane < LANES; lane++, out += BYTES) {
            if (rows[lane])
                std::memcpy(out, rows[lane] + i * BYTES, BYTES);
            else
                std::memset(out, 0, BYTES);
        }
    }
}

}  // namespace

int64_t packed_bytes_dense(Format format, int64_t rows, int64_t columns) {
    const int64_t tiles = (rows + LANES - 1) / LANES;
    return tiles * LANES * columns_of_tile(format, columns) * layout_of(format).number_bytes;
}

void pack_dense(Format format, const uint8_t* blocks, int64_t row_bytes, int64_t rows, int64_t columns, int64_t first,
                int64_t last, uint8_t* out) {
    const auto [number_bytes, together] = layout_of(format);
    const int64_t tile_bytes = packed_bytes_dense(format, LANES, columns);
    for (int64_t tile = first; tile < last; tile++) {
        const uint8_t* sources[LANES];
        for (int64_t lane = 0; lane < LANES; lane++) {
            const int64_t row = tile * LANES + lane;
            sources[lane] = row < rows ? blocks + row * row_bytes : nullptr;
        }
        uint8_t* target = out + tile * tile_bytes;
        const int64_t units = columns / together;
        const int64_t unit_bytes = number_bytes * together;
        if (unit_bytes == 4)
            interleave<4>(sources, units, target);
        else
            interleave<2>(sources, units, target);
        // What is left of the tile: the last input of a pair that has no second, and padding.
        const int64_t done = units * LANES * unit_bytes;
        std::memset(target + done, 0, static_cast<size_t>(tile_bytes - done));
        if (units * together == columns) continue;
        for (int64_t lane = 0; lane < LANES; lane++) {
            if (sources[lane]) std::memcpy(target + done + lane * unit_bytes, sources[lane] + units * unit_bytes, 2);
        }
    }
}

}  // namespace paddock
