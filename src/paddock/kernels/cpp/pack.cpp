// Published matrices into tiles (layout.h). Compiled once, for any machine.
#undef PADDOCK_VARIANT  // whichever a test was compiled for
#define PADDOCK_VARIANT packing
#include "pack_dense.h"

#include "unpack_blocks.h"

namespace paddock {

using namespace packing;

namespace {

// What lies in a tile: 16 rows of one span, not yet interleaved.
struct TileSpan {
    RowSpan rows[LANES];
};

uint32_t word(const uint8_t* p) {
    uint32_t value;
    memcpy(&value, p, 4);
    return value;
}

void put_word(uint8_t* line, int64_t lane, uint32_t value) { memcpy(line + lane * 4, &value, 4); }

// Bits [FROM, FROM + BITS) of the 32 codes of one lane's group as a plane (layout.h: lines of 8 / BITS steps each).
template <int BITS, int FROM> void write_plane(const uint8_t* codes, int64_t lane, uint8_t* lines) {
    constexpr int STEPS = 8 / BITS;
    constexpr uint32_t MASK = 0x01010101u * ((1u << BITS) - 1);
    for (int line = 0; line < BITS; line++) {
        uint32_t value = 0;
        for (int k = 0; k < STEPS; k++) value |= (word(codes + (line * STEPS + k) * 4) >> FROM & MASK) << k * BITS;
        put_word(lines + line * LINE, lane, value);
    }
}

void write_codes(Planes planes, const uint8_t* codes, int64_t lane, uint8_t* lines) {
    switch (planes) {
    case Planes::Bytes: return write_plane<8, 0>(codes, lane, lines);
    case Planes::Nibbles: return write_plane<4, 0>(codes, lane, lines);
    case Planes::NibblesTwos: write_plane<4, 0>(codes, lane, lines); return write_plane<2, 4>(codes, lane, lines + 4 * LINE);
    case Planes::NibblesBits: write_plane<4, 0>(codes, lane, lines); return write_plane<1, 4>(codes, lane, lines + 4 * LINE);
    case Planes::Twos: return write_plane<2, 0>(codes, lane, lines);
    case Planes::TwosBits: write_plane<2, 0>(codes, lane, lines); return write_plane<1, 2>(codes, lane, lines + 2 * LINE);
    }
}

// A lane's bytes among the 16 lanes': runs of numbers of `widths[i]` bytes.
void write_beside(const uint8_t* bytes, const int (&widths)[2], int64_t lane, uint8_t* out) {
    for (int width : widths) {
        memcpy(out + lane * width, bytes, size_t(width));
        bytes += width;
        out += LANES * width;
    }
}

struct Widths {
    int group[2], span[2];  // bytes of each parameter of a lane
};

Widths widths_of(Beside beside) {
    switch (beside) {
    case Beside::Scale: return {{2, 0}, {0, 0}};
    case Beside::ScaleMinimum: return {{2, 2}, {0, 0}};
    case Beside::ScaleZero: return {{2, 1}, {0, 0}};
    case Beside::TwoSubScales: return {{1, 1}, {2, 0}};
    default: return {{1, 1}, {2, 2}};
    }
}

uint8_t* write_span(Layout layout, const TileSpan& span, int64_t groups, uint8_t* out) {
    const Widths widths = widths_of(layout.beside);
    uint8_t* beside = out + groups * layout.code_bytes();
    for (int64_t lane = 0; lane < LANES; lane++) {
        const RowSpan& row = span.rows[lane];
        for (int64_t g = 0; g < groups; g++) {
            write_codes(layout.planes, row.codes + g * GROUP, lane, out + g * layout.code_bytes());
            write_beside(row.beside[g], widths.group, lane, beside + g * layout.group_bytes());
        }
        write_beside(row.span, widths.span, lane, beside + groups * layout.group_bytes());
    }
    return out + span_size(layout, groups);
}

// Packs tiles [first, last); `take(row, first group, groups, RowSpan&)` fetches one row's part of a span, zeroed before.
template <class Take> void pack_tiles(Format format, int64_t rows, int64_t columns, int64_t first, int64_t last, uint8_t* out, const Take& take) {
    const Layout layout = layout_of(format);
    const int64_t groups = (columns + GROUP - 1) / GROUP, bytes = tile_size(layout, groups);
    for (int64_t tile = first; tile < last; tile++) {
        uint8_t* to = out + tile * bytes;
        for (int64_t group = 0; group < groups; group += SPAN_GROUPS) {
            const int64_t count = groups - group < SPAN_GROUPS ? groups - group : SPAN_GROUPS;
            TileSpan span = {};
            for (int64_t lane = 0; lane < LANES && tile * LANES + lane < rows; lane++) take(tile * LANES + lane, group, count, span.rows[lane]);
            to = write_span(layout, span, count, to);
        }
        memset(to, 0, size_t(out + (tile + 1) * bytes - to));
    }
}

}  // namespace

Input input_of(Format format) {
    switch (format) {
    case Format::F32:
    case Format::F16:
    case Format::NF4: return Input::Floats;
    case Format::BF16: return Input::BFloats;
    default: return Input::Codes;
    }
}

int64_t packed_bytes(Format format, int64_t rows, int64_t columns) {
    if (format <= Format::BF16) return packed_bytes_dense(format, rows, columns);
    const int64_t tiles = (rows + LANES - 1) / LANES;
    if (format == Format::NF4) return tiles * ((columns + NF4_GROUP - 1) / NF4_GROUP) * NF4_GROUP_BYTES;
    const int64_t weights = block_of(format).weights;
    if (weights != 0 && columns % weights != 0) return 0;
    return tiles * tile_size(layout_of(format), (columns + GROUP - 1) / GROUP);
}

void pack(Format format, const uint8_t* blocks, int64_t row_bytes, int64_t rows, int64_t columns, int64_t first, int64_t last, uint8_t* out) {
    if (format <= Format::BF16) return pack_dense(format, blocks, row_bytes, rows, columns, first, last, out);
    const Block block = block_of(format);
    pack_tiles(format, rows, columns, first, last, out, [&](int64_t row, int64_t group, int64_t count, RowSpan& to) {
        const uint8_t* from = blocks + row * row_bytes + group * GROUP / block.weights * block.bytes;
        if (block.weights == SPAN) return unpack_super_block(format, from, to);
        for (int64_t g = 0; g < count; g++) unpack_group(format, from + g * block.bytes, g, to);
    });
}

void pack_affine(Format format, const uint8_t* codes, const uint16_t* scales, const uint8_t* zeros, int64_t rows, int64_t columns, int64_t first, int64_t last, uint8_t* out) {
    const int64_t groups = (columns + GROUP - 1) / GROUP;
    pack_tiles(format, rows, columns, first, last, out, [&](int64_t row, int64_t group, int64_t count, RowSpan& to) {
        const int64_t at = group * GROUP, left = columns - at < count * GROUP ? columns - at : count * GROUP;
        memcpy(to.codes, codes + row * columns + at, size_t(left));
        for (int64_t g = 0; g < count; g++) {
            memcpy(to.beside[g], scales + row * groups + group + g, 2);
            to.beside[g][2] = zeros[row * groups + group + g];
        }
    });
}

void pack_nf4(const uint8_t* codes, const float* scales, int64_t rows, int64_t columns, int64_t first, int64_t last, uint8_t* out) {
    const int64_t groups = (columns + NF4_GROUP - 1) / NF4_GROUP, bytes = groups * NF4_GROUP_BYTES;
    for (int64_t tile = first; tile < last; tile++) {
        memset(out + tile * bytes, 0, size_t(bytes));
        for (int64_t lane = 0; lane < LANES && tile * LANES + lane < rows; lane++) {
            const int64_t row = tile * LANES + lane;
            for (int64_t i = 0; i < columns; i++) {
                uint8_t* lines = out + tile * bytes + i / NF4_GROUP * NF4_GROUP_BYTES;
                const int64_t within = i % NF4_GROUP, nibble = within % 8;
                uint8_t& byte = lines[within / 8 * LINE + lane * 4 + nibble / 2];
                byte = uint8_t(byte | (codes[row * columns + i] & 15) << nibble % 2 * 4);
            }
            for (int64_t g = 0; g < groups; g++) memcpy(out + tile * bytes + g * NF4_GROUP_BYTES + 8 * LINE + lane * 4, scales + row * groups + g, 4);
        }
    }
}

}  // namespace paddock
