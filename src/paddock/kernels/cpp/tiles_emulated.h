// tiles.h in plain C++, for tests: what the instructions do by the Intel 64 manual, volume 2 (LDTILECFG, TILELOADD,
// TILESTORED, TDPBSSD, TDPBSUD, TDPBF16PS). What would raise #UD or #GP there ends the program here.
#pragma once
#include <cstring>

namespace paddock {
namespace PADDOCK_VARIANT {

struct EmulatedTile {
    int64_t rows, line_bytes;  // 0 where not configured
    uint8_t bytes[TILE_ROWS][TILE_LINE];
};
static thread_local EmulatedTile emulated_tiles[8];

static inline void fault_unless(bool right) {
    if (!right) __builtin_trap();
}

static void release_tiles() { std::memset(emulated_tiles, 0, sizeof emulated_tiles); }

static void configure_tiles(const TileShapes& shapes) {
    release_tiles();
    fault_unless(shapes.palette == 1 && shapes.start == 0);
    for (int tile = 0; tile < 16; tile++) {
        const int64_t rows = shapes.rows[tile], line = shapes.line_bytes[tile];
        fault_unless(tile < 8 ? rows <= TILE_ROWS && line <= TILE_LINE && (rows == 0) == (line == 0) : rows == 0 && line == 0);
        if (tile < 8) emulated_tiles[tile].rows = rows, emulated_tiles[tile].line_bytes = line;
    }
    for (uint8_t each : shapes.reserved) fault_unless(each == 0);
}

static EmulatedTile& emulated(int number) {
    EmulatedTile& tile = emulated_tiles[number];
    fault_unless(tile.rows != 0);
    return tile;
}

static void zero_emulated(EmulatedTile& tile) { std::memset(tile.bytes, 0, sizeof tile.bytes); }

static void load_emulated(EmulatedTile& tile, const uint8_t* from, int64_t stride) {
    zero_emulated(tile);
    for (int64_t r = 0; r < tile.rows; r++) std::memcpy(tile.bytes[r], from + r * stride, static_cast<size_t>(tile.line_bytes));
}

static void store_emulated(const EmulatedTile& tile, uint8_t* to, int64_t stride) {
    for (int64_t r = 0; r < tile.rows; r++) std::memcpy(to + r * stride, tile.bytes[r], static_cast<size_t>(tile.line_bytes));
}

// Rows, lines and outputs of a product, checked as the instruction does.
struct EmulatedProduct {
    EmulatedTile& c;
    const EmulatedTile &a, &b;
    int64_t rows, depth, outputs;

    EmulatedProduct(int number_c, int number_a, int number_b)
        : c(emulated(number_c)), a(emulated(number_a)), b(emulated(number_b)), rows(c.rows), depth(a.line_bytes / 4), outputs(c.line_bytes / 4) {
        fault_unless(number_a != number_b && number_a != number_c && number_b != number_c);
        fault_unless(c.line_bytes % 4 == 0 && a.line_bytes % 4 == 0 && b.line_bytes == c.line_bytes && a.rows == c.rows && b.rows == depth);
    }
};

// Weight: int8_t or uint8_t. Sums wrap.
template <class Weight> static void multiply_emulated_codes(const EmulatedProduct& p) {
    for (int64_t r = 0; r < p.rows; r++) {
        uint32_t sums[TILE_ROWS];
        std::memcpy(sums, p.c.bytes[r], sizeof sums);
        for (int64_t k = 0; k < p.depth; k++) {
            int8_t inputs[4];
            Weight weights[TILE_LINE];
            std::memcpy(inputs, p.a.bytes[r] + 4 * k, sizeof inputs);
            std::memcpy(weights, p.b.bytes[k], sizeof weights);
            for (int64_t o = 0; o < p.outputs; o++) {
                int32_t four = 0;
                for (int i = 0; i < 4; i++) four += int32_t(inputs[i]) * int32_t(weights[4 * o + i]);
                sums[o] += static_cast<uint32_t>(four);
            }
        }
        std::memset(p.c.bytes[r], 0, TILE_LINE);
        std::memcpy(p.c.bytes[r], sums, static_cast<size_t>(p.outputs) * 4);
    }
}

// Of one row: first and second inputs of the pairs are summed apart, then added, then added to what there was.
struct PairSums {
    float firsts[TILE_ROWS], seconds[TILE_ROWS], held[TILE_ROWS];
};

static inline float upper_half(uint32_t bits) {
    bits &= 0xffff0000u;
    float number;
    std::memcpy(&number, &bits, 4);
    return number;
}

static void multiply_emulated_row(const EmulatedProduct& p, int64_t r, PairSums& sums) {
    for (int64_t k = 0; k < p.depth; k++) {
        uint32_t inputs, weights[TILE_ROWS];
        std::memcpy(&inputs, p.a.bytes[r] + 4 * k, 4);
        std::memcpy(weights, p.b.bytes[k], sizeof weights);
        const float first = upper_half(inputs << 16), second = upper_half(inputs);
        for (int64_t o = 0; o < TILE_ROWS; o++) {
            sums.firsts[o] = __builtin_fmaf(first, upper_half(weights[o] << 16), sums.firsts[o]);
            sums.seconds[o] = __builtin_fmaf(second, upper_half(weights[o]), sums.seconds[o]);
        }
    }
    for (int64_t o = 0; o < TILE_ROWS; o++) sums.held[o] += sums.firsts[o] + sums.seconds[o];
}

static void multiply_emulated_bfloats(const EmulatedProduct& p) {
    // Round to nearest, all exceptions masked, denormals taken for zero and written as zero, whatever the thread has set.
    // The sums pass through the statements that set it, so that no arithmetic moves across them.
    const uint32_t flushing = 0x1f80 | 1 << 15 | 1 << 6;
    uint32_t before;
    __asm__ volatile("stmxcsr %0" : "=m"(before));
    for (int64_t r = 0; r < p.rows; r++) {
        PairSums sums = {};
        std::memcpy(sums.held, p.c.bytes[r], sizeof sums.held);
        __asm__ volatile("ldmxcsr %1" : "+m"(sums) : "m"(flushing) : "memory");
        multiply_emulated_row(p, r, sums);
        __asm__ volatile("ldmxcsr %1" : "+m"(sums) : "m"(before) : "memory");
        std::memset(p.c.bytes[r], 0, TILE_LINE);
        std::memcpy(p.c.bytes[r], sums.held, static_cast<size_t>(p.outputs) * 4);
    }
}

template <int TILE> static void zero_tile() { zero_emulated(emulated(TILE)); }
template <int TILE> static void load_tile(const void* from, int64_t stride) { load_emulated(emulated(TILE), static_cast<const uint8_t*>(from), stride); }
template <int TILE> static void store_tile(void* to, int64_t stride) { store_emulated(emulated(TILE), static_cast<uint8_t*>(to), stride); }

template <int C, int A, int B> static void multiply_bfloats() { multiply_emulated_bfloats({C, A, B}); }
template <int C, int A, int B> static void multiply_signed() { multiply_emulated_codes<int8_t>({C, A, B}); }
template <int C, int A, int B> static void multiply_unsigned() { multiply_emulated_codes<uint8_t>({C, A, B}); }

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
