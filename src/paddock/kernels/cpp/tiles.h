// The matrix unit of AMX: eight tiles of up to 16 rows of 64 bytes, and one instruction that multiplies two of them. One
// function for each instruction; the kernels (tiled*.h) know nothing else of it. Where the compiler was not told of AMX,
// the same functions compute what Intel's manual says the instructions do, so that the kernels run on other machines.
//
// A thread has tiles from configure_tiles to release_tiles; in use any longer, they would be saved at every switch of threads.
// Tiles 0..3 hold sums, 4 and 5 rows of inputs (A), 6 and 7 weights (B). Line k of B holds, for each of 16 outputs, the four
// bytes that meet bytes 4k..4k+3 of a row of A: two bfloat16, or four int8.
#pragma once
#include <cstdint>

#include "simd_float.h"

#if defined(__AMX_TILE__) || defined(__AMXTILE__)  // gcc's name, and that of older clang
#define PADDOCK_AMX 1
#endif

namespace paddock {
namespace PADDOCK_VARIANT {

constexpr int64_t TILE_ROWS = 16, TILE_LINE = 64;
constexpr int SUMS = 0, INPUTS = 4, WEIGHTS = 6;

// What ldtilecfg reads.
struct alignas(64) TileShapes {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t line_bytes[16] = {};
    uint8_t rows[16] = {};

    // `height` rows of inputs, of `bytes` bytes each.
    TileShapes(int64_t height, int64_t bytes) {
        const auto shape = [this](int tile, int64_t count, int64_t line) {
            rows[tile] = static_cast<uint8_t>(count), line_bytes[tile] = static_cast<uint16_t>(line);
        };
        for (int tile = SUMS; tile < INPUTS; tile++) shape(tile, height, TILE_LINE);
        for (int tile = INPUTS; tile < WEIGHTS; tile++) shape(tile, height, bytes);
        for (int tile = WEIGHTS; tile < 8; tile++) shape(tile, bytes / 4, TILE_LINE);
    }
};

}  // namespace PADDOCK_VARIANT
}  // namespace paddock

#ifdef PADDOCK_AMX
#include "tiles_amx.h"
#else
#include "tiles_emulated.h"
#endif

namespace paddock {
namespace PADDOCK_VARIANT {

// How tiles are multiplied: bfloat16 pairs, or int8 inputs with weights of either kind.
struct Bfloats {
    template <int C, int A, int B> static PADDOCK_FORCED void onto() { multiply_bfloats<C, A, B>(); }
};
struct SignedCodes {
    template <int C, int A, int B> static PADDOCK_FORCED void onto() { multiply_signed<C, A, B>(); }
};
struct UnsignedCodes {
    template <int C, int A, int B> static PADDOCK_FORCED void onto() { multiply_unsigned<C, A, B>(); }
};

// Sums 2m + n += inputs m times weights n.
template <class Kind, int M, int N> PADDOCK_INLINE void multiply_tiles() {
    Kind::template onto<0, 4, 6>();
    if constexpr (N == 2) Kind::template onto<1, 4, 7>();
    if constexpr (M == 2) Kind::template onto<2, 5, 6>();
    if constexpr (M == 2 && N == 2) Kind::template onto<3, 5, 7>();
}

// f(integral constant m, integral constant n, 2m + n) for each tile of sums.
template <int TILE> struct TileNumber {
    static constexpr int VALUE = TILE, ROW = TILE / 2, COLUMN = TILE % 2;
};
template <int M, int N, class F> PADDOCK_INLINE void each_sum(F f) {
    f(TileNumber<0>());
    if constexpr (N == 2) f(TileNumber<1>());
    if constexpr (M == 2) f(TileNumber<2>());
    if constexpr (M == 2 && N == 2) f(TileNumber<3>());
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
