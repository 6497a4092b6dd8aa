// Where a quantised matrix's bits lie in memory. Read by pack.cpp, which writes them, and by every variant.
//
// A tile is 16 output rows ("lanes"). Its inputs come in spans of 256, the last one shorter; the span of a K-quant is its
// super-block. A span holds the codes of its groups of 32 inputs, then those groups' parameters, then the span's own.
//
// Codes of one group are 64-byte lines. In every line, byte 4l + b belongs to lane l. Step j = 0..7 stands for the inputs
// 4j..4j+3, one per b, which is what one vpdpbusd multiplies. A line of
//   bytes    holds step i in line i (8 lines)
//   nibbles  holds step 2i in the low half of the bytes of line i, step 2i + 1 in the high half (4 lines)
//   twos     holds steps 4i + k in bits 2k, 2k + 1 of line i (2 lines)
//   bits     holds step j in bit j (1 line)
// and formats of other widths put two such planes after each other, the lower bits of the codes first.
#pragma once
#include "kernels.h"

namespace paddock {
namespace PADDOCK_VARIANT {

constexpr int64_t SPAN = 256;
constexpr int64_t SPAN_GROUPS = SPAN / GROUP;

// Calls CASE with the name of every format of codes.
#define PADDOCK_CODED_FORMATS(CASE) \
    CASE(Q8_0) CASE(Q4_0) CASE(Q4_1) CASE(Q5_0) CASE(Q5_1) CASE(IQ4_NL) \
    CASE(Q2_K) CASE(Q3_K) CASE(Q4_K) CASE(Q5_K) CASE(Q6_K) CASE(INT4) CASE(INT8)
constexpr int64_t LINE = 64;
constexpr int64_t NF4_GROUP = 64;

enum class Planes { Bytes, Nibbles, NibblesTwos, NibblesBits, Twos, TwosBits };

// What stands beside the codes of a group (of 16 lanes each), and beside those of a span.
enum class Beside {
    Scale,               // float16 scale
    ScaleMinimum,        // float16 scale, float16 minimum
    ScaleZero,           // float16 scale, uint8 zero point
    SubScaleMinimum,     // uint8 scale, uint8 minimum; per span float16 scale of scales, float16 scale of minima
    TwoSubScales,        // two int8 scales, each for 16 inputs; per span float16 scale of scales
    TwoSubScaleMinimum,  // two bytes, each for 16 inputs: scale in the low half, minimum in the high; per span as above
};

struct Layout {
    Planes planes;
    Beside beside;
    int offset;  // a code c means c - offset

    constexpr int code_bytes() const {
        return LINE * (planes == Planes::Bytes         ? 8
                       : planes == Planes::Nibbles     ? 4
                       : planes == Planes::NibblesTwos ? 6
                       : planes == Planes::NibblesBits ? 5
                       : planes == Planes::Twos        ? 2
                                                       : 3);
    }
    constexpr int group_bytes() const {
        return LANES * (beside == Beside::ScaleMinimum ? 4 : beside == Beside::ScaleZero ? 3 : 2);
    }
    constexpr int span_bytes() const {
        return LANES * (beside == Beside::SubScaleMinimum || beside == Beside::TwoSubScaleMinimum ? 4
                        : beside == Beside::TwoSubScales                                         ? 2
                                                                                                 : 0);
    }
};

// Of every format of codes; the levels of IQ4_NL are looked up, plus 128.
constexpr Layout layout_of(Format format) {
    switch (format) {
    case Format::Q8_0: return {Planes::Bytes, Beside::Scale, 128};
    case Format::Q4_0: return {Planes::Nibbles, Beside::Scale, 8};
    case Format::Q4_1: return {Planes::Nibbles, Beside::ScaleMinimum, 0};
    case Format::Q5_0: return {Planes::NibblesBits, Beside::Scale, 16};
    case Format::Q5_1: return {Planes::NibblesBits, Beside::ScaleMinimum, 0};
    case Format::IQ4_NL: return {Planes::Nibbles, Beside::Scale, 128};
    case Format::Q2_K: return {Planes::Twos, Beside::TwoSubScaleMinimum, 0};
    case Format::Q3_K: return {Planes::TwosBits, Beside::TwoSubScales, 4};
    case Format::Q4_K: return {Planes::Nibbles, Beside::SubScaleMinimum, 0};
    case Format::Q5_K: return {Planes::NibblesBits, Beside::SubScaleMinimum, 0};
    case Format::Q6_K: return {Planes::NibblesTwos, Beside::TwoSubScales, 32};
    case Format::INT4: return {Planes::Nibbles, Beside::ScaleZero, 0};
    default: return {Planes::Bytes, Beside::ScaleZero, 0};  // INT8
    }
}

// Bytes of a span of `groups` groups.
constexpr int64_t span_size(Layout layout, int64_t groups) {
    return groups * (layout.code_bytes() + layout.group_bytes()) + layout.span_bytes();
}

// Bytes of a tile of `groups` groups, a multiple of 64.
constexpr int64_t tile_size(Layout layout, int64_t groups) {
    const int64_t whole = groups / SPAN_GROUPS, rest = groups % SPAN_GROUPS;
    const int64_t bytes = whole * span_size(layout, SPAN_GROUPS) + (rest ? span_size(layout, rest) : 0);
    return (bytes + LINE - 1) / LINE * LINE;
}

// NF4 has groups of 64 inputs: 8 lines of codes, each 8 inputs in the 8 nibbles of a lane's 4 bytes, then 16 float32 scales.
constexpr int64_t NF4_GROUP_BYTES = 8 * LINE + LANES * 4;

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
