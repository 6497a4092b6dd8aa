// Scales that are not numbers, found before a matrix is packed: whatever they multiply would be lost silently.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "pool.h"
#include "program.h"

namespace paddock {

namespace {

struct HalfPlaces {
    int count;
    int64_t at[2];
};

// Where a published block keeps its float16 scales.
HalfPlaces half_places(Format format) {
    switch (format) {
        case Format::Q4_1: case Format::Q5_1: case Format::Q4_K: case Format::Q5_K: return {2, {0, 2}};
        case Format::Q4_0: case Format::Q5_0: case Format::Q8_0: case Format::IQ4_NL: return {1, {0, 0}};
        case Format::Q2_K: return {2, {80, 82}};
        case Format::Q3_K: return {1, {108, 0}};
        case Format::Q6_K: return {1, {208, 0}};
        default: return {0, {0, 0}};
    }
}

}  // namespace

bool finite_scales(Format format, const uint8_t* blocks, int64_t bytes) {
    const HalfPlaces places = half_places(format);
    const int64_t size = facts(format).block_bytes;
    if (places.count == 0 || size == 0) return true;
    constexpr int64_t STEP = 1 << 14;
    const int64_t count = bytes / size;
    std::atomic<bool> finite{true};
    parallel((count + STEP - 1) / STEP, [&](int64_t task, int) {
        bool mine = true;
        for (int64_t block = task * STEP; block < std::min(count, (task + 1) * STEP); ++block) {
            for (int i = 0; i < places.count; ++i) {
                uint16_t half;
                std::memcpy(&half, blocks + block * size + places.at[i], 2);
                mine &= (half & 0x7c00U) != 0x7c00U;
            }
        }
        if (!mine) finite.store(false, std::memory_order_relaxed);
    });
    return finite.load();
}

}  // namespace paddock
