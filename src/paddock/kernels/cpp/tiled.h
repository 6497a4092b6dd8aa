// What a matrix unit adds to the variant below it (AMX: to avx512bf16): products of many rows, and how fast they can be.
// Everything else is that variant's own.
#pragma once
#include "kernels.h"
#include "peaks.h"

namespace paddock {

struct Tiled {
    decltype(Kernels::linear) linear;
    decltype(Peaks::int8_dots) int8_dots;
    decltype(Peaks::bfloat16_dots) bfloat16_dots;
};

// Whether it computes small products of every kind as `plain` does: codes to the bit, bfloat16 to rounding. tiled_proof.cpp
bool proved(const Tiled& tiled, const Kernels& plain);

}  // namespace paddock
