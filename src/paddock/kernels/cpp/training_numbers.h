// The number types of training: how each is read and written sixteen at a time, and what it is computed in.
#pragma once
#include <cmath>

#include "simd_float.h"
#include "training.h"

namespace paddock {
namespace PADDOCK_VARIANT {

// Sixteen doubles, for checking gradients only: plain loops.
struct Doubles {
    double v[LANES];
};

template <class F>
PADDOCK_INLINE Doubles each(F f) {
    Doubles y;
    for (int64_t i = 0; i < LANES; i++) y.v[i] = f(i);
    return y;
}

PADDOCK_INLINE Doubles broadcast(double x) { return each([&](int64_t) { return x; }); }
PADDOCK_INLINE Doubles load(const double* p) { return each([&](int64_t i) { return p[i]; }); }
PADDOCK_INLINE Doubles load(const double* p, int64_t n) { return each([&](int64_t i) { return i < n ? p[i] : 0.0; }); }
PADDOCK_INLINE void store(double* p, const Doubles& x, int64_t n) {
    for (int64_t i = 0; i < n && i < LANES; i++) p[i] = x.v[i];
}
PADDOCK_INLINE void store(double* p, const Doubles& x) { store(p, x, LANES); }
PADDOCK_INLINE Doubles add(const Doubles& a, const Doubles& b) { return each([&](int64_t i) { return a.v[i] + b.v[i]; }); }
PADDOCK_INLINE Doubles sub(const Doubles& a, const Doubles& b) { return each([&](int64_t i) { return a.v[i] - b.v[i]; }); }
PADDOCK_INLINE Doubles mul(const Doubles& a, const Doubles& b) { return each([&](int64_t i) { return a.v[i] * b.v[i]; }); }
PADDOCK_INLINE Doubles div(const Doubles& a, const Doubles& b) { return each([&](int64_t i) { return a.v[i] / b.v[i]; }); }
PADDOCK_INLINE Doubles fma(const Doubles& a, const Doubles& b, const Doubles& c) {
    return each([&](int64_t i) { return a.v[i] * b.v[i] + c.v[i]; });
}
PADDOCK_INLINE Doubles max(const Doubles& a, const Doubles& b) {
    return each([&](int64_t i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
PADDOCK_INLINE Doubles select_less(const Doubles& a, const Doubles& b, const Doubles& yes, const Doubles& no) {
    return each([&](int64_t i) { return a.v[i] < b.v[i] ? yes.v[i] : no.v[i]; });
}
PADDOCK_INLINE Doubles exp(const Doubles& a) { return each([&](int64_t i) { return ::exp(a.v[i]); }); }
PADDOCK_INLINE Doubles normal_below(const Doubles& a) {
    return each([&](int64_t i) { return 0.5 * ::erfc(-a.v[i] * 0.70710678118654752440); });
}
PADDOCK_INLINE double reduce_add(const Doubles& x) {
    double sum = 0;
    for (double each : x.v) sum += each;
    return sum;
}
PADDOCK_INLINE double reduce_max(const Doubles& x) {
    double most = x.v[0];
    for (double each : x.v) most = each > most ? each : most;
    return most;
}

PADDOCK_INLINE float square_root(float x) { return sqrtf(x); }
PADDOCK_INLINE double square_root(double x) { return sqrt(x); }
PADDOCK_INLINE float logarithm(float x) { return logf(x); }
PADDOCK_INLINE double logarithm(double x) { return log(x); }

struct InFloats {
    using Stored = float;
    using Real = float;
    using Vector = Floats;
    static PADDOCK_FORCED Floats get(const float* p, int64_t n) { return n >= LANES ? load(p) : load(p, n); }
    static PADDOCK_FORCED void put(float* p, Floats x, int64_t n) { n >= LANES ? store(p, x) : store(p, x, n); }
    static PADDOCK_FORCED float get_one(const float* p) { return *p; }
    static PADDOCK_FORCED void put_one(float* p, float x) { *p = x; }
};

struct InBfloats {
    using Stored = uint16_t;
    using Real = float;
    using Vector = Floats;
    static PADDOCK_FORCED Floats get(const uint16_t* p, int64_t n) { return n >= LANES ? load_bf16(p) : load_bf16(p, n); }
    static PADDOCK_FORCED void put(uint16_t* p, Floats x, int64_t n) {
        if (n >= LANES) return store_bf16(p, x);
        alignas(64) uint16_t room[LANES];
        store_bf16(room, x);
        for (int64_t i = 0; i < n; i++) p[i] = room[i];
    }
    static PADDOCK_FORCED float get_one(const uint16_t* p) { return from_bf16(*p); }
    static PADDOCK_FORCED void put_one(uint16_t* p, float x) { *p = to_bf16(x); }
};

struct InDoubles {
    using Stored = double;
    using Real = double;
    using Vector = Doubles;
    static PADDOCK_FORCED Doubles get(const double* p, int64_t n) { return load(p, n); }
    static PADDOCK_FORCED void put(double* p, const Doubles& x, int64_t n) { store(p, x, n); }
    static PADDOCK_FORCED double get_one(const double* p) { return *p; }
    static PADDOCK_FORCED void put_one(double* p, double x) { *p = x; }
};

PADDOCK_INLINE int64_t in_lanes(int64_t count) { return (count + LANES - 1) / LANES * LANES; }

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
