// Matrices that own their packed tiles.
#pragma once
#include <memory>

#include "kernels.h"

namespace paddock {

struct PackedWeight : Weight {
    PackedWeight(Format format, int64_t rows, int64_t columns);  // room for the tiles, not filled yet
    PackedWeight(const PackedWeight&) = delete;
    PackedWeight& operator=(const PackedWeight&) = delete;

    uint8_t* room() { return const_cast<uint8_t*>(data); }
    int64_t bytes() const { return tiles() * tile_bytes; }

private:
    std::shared_ptr<void> owner_;  // of the memory, which other matrices may share
};

// Repack published bytes by all threads. std::invalid_argument where the columns do not fit the format's blocks or the
// row is shorter than its columns need, std::bad_alloc where there is no memory.
std::shared_ptr<PackedWeight> pack_weight(Format format, const uint8_t* blocks, int64_t row_bytes, int64_t rows, int64_t columns);
std::shared_ptr<PackedWeight> pack_weight_affine(Format format, const uint8_t* codes, const uint16_t* scales, const uint8_t* zeros, int64_t rows, int64_t columns);
std::shared_ptr<PackedWeight> pack_weight_nf4(const uint8_t* codes, const float* scales, int64_t rows, int64_t columns);

// A format's name, its block and the bytes of one in the published order; names are those of kernels.h in lower case.
struct FormatFacts {
    const char* name;
    Format format;
    int64_t block, block_bytes;  // 0 bytes: made of parts (pack_weight_affine, pack_weight_nf4)
};
const FormatFacts& facts(Format format);
const FormatFacts* format_named(const char* name);  // null where there is none
extern const FormatFacts FORMATS[];
extern const int FORMAT_COUNT;

}  // namespace paddock
