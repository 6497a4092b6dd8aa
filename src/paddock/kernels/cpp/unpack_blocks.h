// Published ggml blocks taken apart: codes one to a byte in the order of inputs, and the scales as layout.h wants them.
// Source of the layouts: ggml-org/llama.cpp, ggml-common.h and ggml-quants.c.
#pragma once
#include <cstring>

#include "layout.h"

namespace paddock {
namespace PADDOCK_VARIANT {

// One row's part of a span: up to 8 groups.
struct RowSpan {
    uint8_t codes[SPAN];
    uint8_t beside[SPAN_GROUPS][4];  // this lane's bytes of a group's parameters, in the order layout.h lists them
    uint8_t span[4];                 // and of the span's own
};

// `bytes` bytes, each of several fields of BITS bits. Within each run of RUN bytes the lowest fields of all bytes come
// first, then the next lowest of all, and so on. Each is moved up by `shift` and joined to what is there.
template <int BITS, int RUN> static void join_fields(const uint8_t* in, int bytes, int shift, uint8_t* out) {
    constexpr int STEP = RUN % 4 == 0 ? 4 : 1;  // bytes at a time: none has bits that reach the next
    constexpr uint32_t MASK = 0x01010101u * ((1 << BITS) - 1);
    for (int run = 0; run < bytes; run += RUN)
        for (int k = 0; k < 8 / BITS; k++)
            for (int b = 0; b < RUN; b += STEP, out += STEP) {
                uint32_t fields = 0, joined = 0;
                memcpy(&fields, in + run + b, STEP);
                memcpy(&joined, out, STEP);
                joined |= (fields >> k * BITS & MASK) << shift;
                memcpy(out, &joined, STEP);
            }
}

// A block of 32: float16 scale, perhaps float16 minimum, perhaps 32 fifth bits, and nibbles.
template <bool MINIMUM, bool FIFTH> static void unpack_nibbles(const uint8_t* block, int64_t group, RowSpan& to) {
    constexpr int HEAD = MINIMUM ? 4 : 2;
    uint8_t* codes = to.codes + group * GROUP;
    memcpy(to.beside[group], block, HEAD);
    join_fields<4, 16>(block + HEAD + (FIFTH ? 4 : 0), 16, 0, codes);
    if (FIFTH) join_fields<1, 1>(block + HEAD, 4, 4, codes);
}

static void unpack_q8_0(const uint8_t* block, int64_t group, RowSpan& to) {
    memcpy(to.beside[group], block, 2);
    uint8_t* codes = to.codes + group * GROUP;
    for (int i = 0; i < GROUP; i += 8) {
        uint64_t eight;
        memcpy(&eight, block + 2 + i, 8);
        eight ^= 0x8080808080808080u;
        memcpy(codes + i, &eight, 8);
    }
}

// Eight scales and eight minima of 6 bits in 12 bytes. Bytes 0-3 and 4-7 hold the first four of each in their low six
// bits; bytes 8-11 the low nibbles of the last four scales (low half) and minima (high half), whose top two bits are the
// top two bits of bytes 0-3 and 4-7.
static void unpack_six_bits(const uint8_t* in, RowSpan& to) {
    for (int i = 0; i < 4; i++) {
        to.beside[i][0] = in[i] & 63;
        to.beside[i][1] = in[4 + i] & 63;
        to.beside[4 + i][0] = uint8_t((in[8 + i] & 15) | in[i] >> 6 << 4);
        to.beside[4 + i][1] = uint8_t(in[8 + i] >> 4 | in[4 + i] >> 6 << 4);
    }
}

static void unpack_q2_k(const uint8_t* block, RowSpan& to) {
    for (int i = 0; i < 16; i++) to.beside[i / 2][i % 2] = block[i];
    join_fields<2, 32>(block + 16, 64, 0, to.codes);
    memcpy(to.span, block + 80, 4);
}

static void unpack_q3_k(const uint8_t* block, RowSpan& to) {
    join_fields<2, 32>(block + 32, 64, 0, to.codes);
    join_fields<1, 32>(block, 32, 2, to.codes);
    uint8_t scales[16] = {};
    join_fields<4, 8>(block + 96, 8, 0, scales);
    join_fields<2, 4>(block + 104, 4, 4, scales);
    for (int i = 0; i < 16; i++) to.beside[i / 2][i % 2] = uint8_t(scales[i] - 32);
    memcpy(to.span, block + 108, 2);
}

static void unpack_q4_k(const uint8_t* block, RowSpan& to) {
    memcpy(to.span, block, 4);
    unpack_six_bits(block + 4, to);
    join_fields<4, 32>(block + 16, 128, 0, to.codes);
}

static void unpack_q5_k(const uint8_t* block, RowSpan& to) {
    memcpy(to.span, block, 4);
    unpack_six_bits(block + 4, to);
    join_fields<4, 32>(block + 48, 128, 0, to.codes);
    join_fields<1, 32>(block + 16, 32, 4, to.codes);
}

static void unpack_q6_k(const uint8_t* block, RowSpan& to) {
    join_fields<4, 64>(block, 128, 0, to.codes);
    join_fields<2, 32>(block + 128, 64, 4, to.codes);
    for (int i = 0; i < 16; i++) to.beside[i / 2][i % 2] = block[192 + i];
    memcpy(to.span, block + 208, 2);
}

static void unpack_group(Format format, const uint8_t* block, int64_t group, RowSpan& to) {
    switch (format) {
    case Format::Q8_0: return unpack_q8_0(block, group, to);
    case Format::Q4_1: return unpack_nibbles<true, false>(block, group, to);
    case Format::Q5_0: return unpack_nibbles<false, true>(block, group, to);
    case Format::Q5_1: return unpack_nibbles<true, true>(block, group, to);
    default: return unpack_nibbles<false, false>(block, group, to);  // Q4_0, IQ4_NL
    }
}

static void unpack_super_block(Format format, const uint8_t* block, RowSpan& to) {
    switch (format) {
    case Format::Q2_K: return unpack_q2_k(block, to);
    case Format::Q3_K: return unpack_q3_k(block, to);
    case Format::Q4_K: return unpack_q4_k(block, to);
    case Format::Q5_K: return unpack_q5_k(block, to);
    default: return unpack_q6_k(block, to);
    }
}

// Weights of a block and its bytes; 0 weights for a format that is not published in ggml blocks.
struct Block {
    int64_t weights, bytes;
};

static Block block_of(Format format) {
    switch (format) {
    case Format::Q8_0: return {32, 34};
    case Format::Q4_0: return {32, 18};
    case Format::Q4_1: return {32, 20};
    case Format::Q5_0: return {32, 22};
    case Format::Q5_1: return {32, 24};
    case Format::IQ4_NL: return {32, 18};
    case Format::Q2_K: return {256, 84};
    case Format::Q3_K: return {256, 110};
    case Format::Q4_K: return {256, 144};
    case Format::Q5_K: return {256, 176};
    case Format::Q6_K: return {256, 210};
    default: return {0, 0};
    }
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
