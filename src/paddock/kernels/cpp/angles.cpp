// Cosines and sines of positions.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "program.h"

namespace paddock {

namespace {

// To float16 and back, ties to even.
float narrowed(float x) {
    const float size = std::fabs(x);
    if (size < 0x1p-14F) return std::nearbyint(x * 0x1p24F) * 0x1p-24F;
    if (size >= 65520.0F) return std::copysign(HUGE_VALF, x);
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0xfffU + ((bits >> 13) & 1U)) & ~0x1fffU;
    std::memcpy(&x, &bits, sizeof bits);
    return x;
}

}  // namespace

// In float32, or float16, as published models do.
void Angles::set(size_t at, int64_t position, float frequency) {
    const float place = static_cast<float>(position + start);
    if (narrow) {
        const double angle = narrowed(narrowed(place) * frequency);
        cos[at] = narrowed(static_cast<float>(std::cos(angle)));
        sin[at] = narrowed(static_cast<float>(std::sin(angle)));
        return;
    }
    const double angle = place * frequency;
    cos[at] = static_cast<float>(std::cos(angle)) * gain;
    sin[at] = static_cast<float>(std::sin(angle)) * gain;
}

void Angles::reach(int64_t count) {
    if (count <= positions) return;
    count = std::max(count, std::min<int64_t>(2 * positions, positions + 4096));
    const size_t width = frequencies.size();
    cos.resize(static_cast<size_t>(count) * width);
    sin.resize(cos.size());
    for (int64_t position = positions; position < count; ++position) {
        for (size_t i = 0; i < width; ++i) set(static_cast<size_t>(position) * width + i, position, frequencies[i]);
    }
    positions = count;
}

void Angles::compute(const BatchView& batch, int64_t streams) {
    if (!own) {
        int32_t furthest = 0;
        for (int64_t row = 0; row < batch.rows; ++row) furthest = std::max(furthest, batch.positions[row * streams + stream]);
        reach(int64_t{furthest} + 1);
        return;
    }
    const size_t width = frequencies.size();
    cos.resize(std::max(cos.size(), static_cast<size_t>(batch.rows) * width));
    sin.resize(cos.size());
    for (int64_t sequence = 0; sequence < batch.sequences; ++sequence) {
        const int64_t* span = batch.spans + 4 * sequence;
        const float* rates = batch.rates + static_cast<size_t>(sequence) * width;
        for (int64_t row = span[0]; row < span[0] + span[1]; ++row) {
            for (size_t i = 0; i < width; ++i) set(static_cast<size_t>(row) * width + i, batch.positions[row * streams + stream], rates[i]);
        }
    }
}

}  // namespace paddock
