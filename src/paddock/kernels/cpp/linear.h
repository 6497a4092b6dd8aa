// What every linear over tiles of 16 outputs begins with and ends with.
#pragma once
#include "kernels.h"
#include "simd_float.h"

namespace paddock {
namespace PADDOCK_VARIANT {

// A linear's arguments, but for the rows and tiles of the moment.
struct Linear {
    const Weight& w;
    const Rows& x;
    const float* bias;
    bool keep;
    float* y;
    int64_t stride;
};

// One row of a finished tile to its place, with what is to be added.
static inline void put(const float* sums, int64_t lanes, const float* bias, bool keep, float* y) {
    if (lanes == LANES) {
        Floats out = load(sums);
        if (bias) out = add(out, load(bias));
        if (keep) out = add(out, load(y));
        return store(y, out);
    }
    for (int64_t l = 0; l < lanes; l++) {
        float out = sums[l];
        if (bias) out += bias[l];
        if (keep) out += y[l];
        y[l] = out;
    }
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
