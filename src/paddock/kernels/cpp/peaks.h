// How fast one core can go at most: loops over registers and over memory, for `paddock bench` to divide by.
#pragma once
#include <cstdint>

namespace paddock {

struct Peaks {
    // Run `rounds` rounds and give the multiply-adds done. Null where the variant has no such instruction; its kernels
    // then widen to the next type.
    int64_t (*int8_dots)(int64_t rounds);
    int64_t (*bfloat16_dots)(int64_t rounds);
    int64_t (*float_fmas)(int64_t rounds);
    // Reads every byte (a multiple of 256, aligned to 64); the sum of what was read keeps the loop from vanishing.
    uint64_t (*read)(const uint8_t* data, int64_t bytes);
};

}  // namespace paddock
