// What a matrix unit must show before it is used: the products of the variant below it.
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <new>

#include "tiled.h"

namespace paddock {
namespace {

// Rows of two heights of tiles and one that overlaps, weight tiles in a pair and alone, inputs that end within a step.
constexpr int64_t ROWS = 37, OUTPUTS = 40, COLUMNS = 768, UNEVEN = 749, TILES = 3;

template <class T> class Aligned {
public:
    explicit Aligned(int64_t count) : data_(new (std::align_val_t{64}) T[static_cast<size_t>(count)]()) {}
    T* get() { return data_.get(); }

private:
    struct Free {
        void operator()(T* memory) const { ::operator delete[](memory, std::align_val_t{64}); }
    };
    std::unique_ptr<T[], Free> data_;
};

// The same numbers every time.
class Numbers {
public:
    uint32_t next() { return state_ = state_ * 1664525u + 1013904223u, state_ >> 8; }
    float between() { return static_cast<float>(next()) / static_cast<float>(1 << 23) - 1.0f; }

private:
    uint32_t state_ = 1;
};

float as_float(uint16_t bfloat) {
    const uint32_t bits = static_cast<uint32_t>(bfloat) << 16;
    float number;
    std::memcpy(&number, &bits, 4);
    return number;
}

struct Sample {
    Aligned<float> x{ROWS * COLUMNS}, scales{ROWS * COLUMNS / GROUP};
    Aligned<int8_t> codes{ROWS * COLUMNS};
    Aligned<int32_t> sums{ROWS * COLUMNS / 16};
    Aligned<uint16_t> bfloats{ROWS * COLUMNS};

    Sample(const Kernels& plain, Numbers& numbers, int64_t columns) {
        for (int64_t i = 0; i < ROWS * COLUMNS; i++) x.get()[i] = numbers.between();
        plain.quantise(x.get(), COLUMNS, ROWS, columns, COLUMNS, codes.get(), scales.get(), sums.get());
        plain.to_bfloat16(x.get(), COLUMNS, ROWS, columns, COLUMNS, bfloats.get());
    }
    Rows rows() { return {x.get(), COLUMNS, bfloats.get(), codes.get(), scales.get(), sums.get(), COLUMNS}; }
};

// Codes of any value with small scales: signed bytes (Q8_0), unsigned ones (INT8), groups of two halves (Q6_K).
bool codes_agree(const Tiled& tiled, const Kernels& plain, Numbers& numbers, Format format) {
    constexpr uint16_t SCALE = 0x2000;  // 2^-7 in float16
    const int64_t bytes = packed_bytes(format, OUTPUTS, COLUMNS);
    Aligned<uint8_t> packed(bytes), blocks(OUTPUTS * COLUMNS * 2);
    for (int64_t i = 0; i < OUTPUTS * COLUMNS * 2; i++) blocks.get()[i] = static_cast<uint8_t>(numbers.next());
    const int64_t block = format == Format::Q6_K ? 210 : 34, row_bytes = COLUMNS / (format == Format::Q6_K ? 256 : 32) * block;
    if (format == Format::INT8) {
        Aligned<uint16_t> scales(OUTPUTS * COLUMNS / GROUP);
        for (int64_t i = 0; i < OUTPUTS * COLUMNS / GROUP; i++) scales.get()[i] = SCALE;
        pack_affine(format, blocks.get(), scales.get(), blocks.get() + OUTPUTS * COLUMNS, OUTPUTS, COLUMNS, 0, TILES, packed.get());
    } else {
        for (int64_t at = format == Format::Q6_K ? 208 : 0; at < OUTPUTS * row_bytes; at += block) std::memcpy(blocks.get() + at, &SCALE, 2);
        pack(format, blocks.get(), row_bytes, OUTPUTS, COLUMNS, 0, TILES, packed.get());
    }
    const Weight weight = {format, OUTPUTS, COLUMNS, bytes / TILES, packed.get()};
    Sample sample(plain, numbers, COLUMNS);
    Aligned<float> wanted(ROWS * OUTPUTS), found(ROWS * OUTPUTS);
    plain.linear(weight, sample.rows(), ROWS, 0, TILES, nullptr, false, wanted.get(), OUTPUTS);
    tiled.linear(weight, sample.rows(), ROWS, 0, TILES, nullptr, false, found.get(), OUTPUTS);
    return std::memcmp(wanted.get(), found.get(), sizeof(float) * ROWS * OUTPUTS) == 0;
}

bool bfloats_agree(const Tiled& tiled, const Kernels& plain, Numbers& numbers) {
    constexpr double ROUNDING = 1e-5;  // of the sum of magnitudes; one product wrong is far more
    const int64_t bytes = packed_bytes(Format::BF16, OUTPUTS, UNEVEN);
    Aligned<uint8_t> packed(bytes);
    Aligned<uint16_t> matrix(OUTPUTS * COLUMNS);
    Aligned<float> drawn(OUTPUTS * UNEVEN), found(ROWS * OUTPUTS);
    for (int64_t i = 0; i < OUTPUTS * UNEVEN; i++) drawn.get()[i] = numbers.between();
    plain.to_bfloat16(drawn.get(), UNEVEN, OUTPUTS, UNEVEN, COLUMNS, matrix.get());
    pack(Format::BF16, reinterpret_cast<const uint8_t*>(matrix.get()), COLUMNS * 2, OUTPUTS, UNEVEN, 0, TILES, packed.get());
    const Weight weight = {Format::BF16, OUTPUTS, UNEVEN, bytes / TILES, packed.get()};
    Sample sample(plain, numbers, UNEVEN);
    tiled.linear(weight, sample.rows(), ROWS, 0, TILES, nullptr, false, found.get(), OUTPUTS);
    for (int64_t row = 0; row < ROWS; row++) {
        for (int64_t output = 0; output < OUTPUTS; output++) {
            double sum = 0, size = 0;
            for (int64_t i = 0; i < UNEVEN; i++) {
                const double product = double(as_float(matrix.get()[output * COLUMNS + i])) * double(as_float(sample.bfloats.get()[row * COLUMNS + i]));
                sum += product, size += std::fabs(product);
            }
            if (!(std::fabs(double(found.get()[row * OUTPUTS + output]) - sum) <= ROUNDING * size)) return false;
        }
    }
    return true;
}

}  // namespace

bool proved(const Tiled& tiled, const Kernels& plain) {
    Numbers numbers;
    for (Format format : {Format::Q8_0, Format::INT8, Format::Q6_K}) {
        if (!codes_agree(tiled, plain, numbers, format)) return false;
    }
    return bfloats_agree(tiled, plain, numbers);
}

}  // namespace paddock
