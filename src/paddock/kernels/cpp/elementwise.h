// Operations on one row: norms, activations, rotation, the largest few.
#pragma once
#include <cmath>
#include <cstring>

#include "kernels.h"
#include "simd_float.h"

namespace paddock {
namespace PADDOCK_VARIANT {

// Sum over a row of f(vector), in four chains of vectors by position; f must give 0 for lanes that are 0 past the end.
template <class F>
PADDOCK_INLINE float sum_over(int64_t width, const float* x, F f) {
    Floats sums[4] = {zeros(), zeros(), zeros(), zeros()};
    int64_t i = 0;
    for (; i + 4 * LANES <= width; i += 4 * LANES) {
        PADDOCK_UNROLL
        for (int c = 0; c < 4; c++) sums[c] = f(sums[c], load(x + i + c * LANES), LANES);
    }
    for (int c = 0; i < width; i += LANES, c++) {
        const int64_t n = width - i < LANES ? width - i : LANES;
        sums[c] = f(sums[c], load(x + i, n), n);
    }
    return reduce_add(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
}

// y = f(lanes of x at i, i, how many of them exist) over a row.
template <class F>
PADDOCK_INLINE void map(int64_t count, float* y, F f) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) store(y + i, f(i, LANES));
    if (i < count) store(y + i, f(i, count - i), count - i);
}

// The first n numbers at x, zeros behind them; without a mask where all are there.
PADDOCK_INLINE Floats lanes(const float* x, int64_t n) { return n == LANES ? load(x) : load(x, n); }

// RMSNorm (arXiv 1910.07467): x / sqrt(mean(x^2) + eps) * weight.
static inline void rms_norm(const float* x, const float* weight, float eps, int64_t width, float* y) {
    const float sum = sum_over(width, x, [](Floats sum, Floats v, int64_t) { return fma(v, v, sum); });
    const Floats factor = broadcast(1.0f / sqrtf(sum / static_cast<float>(width) + eps));
    map(width, y, [&](int64_t i, int64_t n) { return mul(mul(lanes(x + i, n), factor), lanes(weight + i, n)); });
}

// LayerNorm (arXiv 1607.06450), the variance around the mean found first; `bias` may be null.
static inline void layer_norm(const float* x, const float* weight, const float* bias, float eps, int64_t width, float* y) {
    const float count = static_cast<float>(width);
    const float mean = sum_over(width, x, [](Floats sum, Floats v, int64_t) { return add(sum, v); }) / count;
    const Floats centre = broadcast(mean);
    const float squares = sum_over(width, x, [&](Floats sum, Floats v, int64_t n) {
        Floats distance = sub(v, centre);
        if (n < LANES) distance = first_only(distance, n);
        return fma(distance, distance, sum);
    });
    const Floats factor = broadcast(1.0f / sqrtf(squares / count + eps));
    map(width, y, [&](int64_t i, int64_t n) {
        const Floats normal = mul(sub(lanes(x + i, n), centre), factor);
        return bias ? fma(normal, lanes(weight + i, n), lanes(bias + i, n)) : mul(normal, lanes(weight + i, n));
    });
}

template <Activation KIND>
PADDOCK_INLINE Floats activated(Floats x) {
    if constexpr (KIND == Activation::ReLU) return max(zeros(), x);  // NaN stays
    if constexpr (KIND == Activation::SiLU) return div(x, add(broadcast(1.0f), exp(negative(x))));
    if constexpr (KIND == Activation::GELU) return mul(x, normal_below(x));
    if constexpr (KIND == Activation::GELUTanh) {
        // x (1 + tanh u) / 2 = x / (1 + e^-2u), u = sqrt(2 / pi) (x + 0.044715 x^3).
        const Floats cube = mul(mul(x, x), x), u = fma(cube, broadcast(0.044715f), x);
        return div(x, add(broadcast(1.0f), exp(mul(u, broadcast(-2.0f * 0.79788456080286536f)))));
    }
    if constexpr (KIND == Activation::Tanh) return tanh(x);
    return sigmoid(x);
}

// y = activation(x), times `up` unless that is null.
template <Activation KIND>
static inline void activate_row(const float* x, const float* up, int64_t count, float* y) {
    if (up)
        map(count, y, [&](int64_t i, int64_t n) { return mul(activated<KIND>(lanes(x + i, n)), lanes(up + i, n)); });
    else
        map(count, y, [&](int64_t i, int64_t n) { return activated<KIND>(lanes(x + i, n)); });
}

static inline void activate_any(Activation kind, const float* x, const float* up, int64_t count, float* y) {
    switch (kind) {
        case Activation::ReLU: return activate_row<Activation::ReLU>(x, up, count, y);
        case Activation::SiLU: return activate_row<Activation::SiLU>(x, up, count, y);
        case Activation::GELU: return activate_row<Activation::GELU>(x, up, count, y);
        case Activation::GELUTanh: return activate_row<Activation::GELUTanh>(x, up, count, y);
        case Activation::Tanh: return activate_row<Activation::Tanh>(x, up, count, y);
        case Activation::Sigmoid: return activate_row<Activation::Sigmoid>(x, up, count, y);
    }
}

static inline void activate(Activation kind, const float* x, int64_t count, float* y) {
    activate_any(kind, x, nullptr, count, y);
}

static inline void gate(Activation kind, const float* gate, const float* up, int64_t count, float* y) {
    activate_any(kind, gate, up, count, y);
}

// RoPE (arXiv 2104.09864): pairs are (i, i + width / 2), or (2i, 2i + 1) where interleaved.
static inline void rotate(float* x, int64_t heads, int64_t head_dim, int64_t width, const float* cos, const float* sin,
                          bool interleaved) {
    const int64_t half = width / 2;
    for (int64_t head = 0; head < heads; head++, x += head_dim) {
        if (interleaved) {
            for (int64_t i = 0; i < half; i++) {
                const float first = x[2 * i], second = x[2 * i + 1];
                x[2 * i] = first * cos[i] - second * sin[i];
                x[2 * i + 1] = second * cos[i] + first * sin[i];
            }
            continue;
        }
        for (int64_t i = 0; i < half; i += LANES) {
            const int64_t n = half - i < LANES ? half - i : LANES;
            const Floats c = lanes(cos + i, n), s = lanes(sin + i, n), a = lanes(x + i, n), b = lanes(x + half + i, n);
            store(x + i, fma(a, c, negative(mul(b, s))), n);
            store(x + half + i, fma(b, c, mul(a, s)), n);
        }
    }
}

// True where a is to stand behind b among the largest: smaller, or equal and later; NaN is smallest.
PADDOCK_INLINE bool behind(float a, int32_t a_index, float b, int32_t b_index) {
    const bool a_nan = a != a, b_nan = b != b;
    if (a_nan || b_nan) return a_nan && b_nan ? a_index > b_index : a_nan;
    return a < b || (a == b && a_index > b_index);
}

// Puts (value, index) in place of the heap's root and restores the heap: the entry furthest behind is the root.
PADDOCK_INLINE void replace_root(float* values, int32_t* indices, int64_t size, float value, int32_t index) {
    int64_t hole = 0;
    for (;;) {
        int64_t child = 2 * hole + 1;
        if (child >= size) break;
        if (child + 1 < size && behind(values[child + 1], indices[child + 1], values[child], indices[child])) child++;
        if (!behind(values[child], indices[child], value, index)) break;
        values[hole] = values[child];
        indices[hole] = indices[child];
        hole = child;
    }
    values[hole] = value;
    indices[hole] = index;
}

static inline void add_to_heap(float* values, int32_t* indices, int64_t size, float value, int32_t index) {
    int64_t hole = size;
    while (hole > 0) {
        const int64_t parent = (hole - 1) / 2;
        if (!behind(value, index, values[parent], indices[parent])) break;
        values[hole] = values[parent];
        indices[hole] = indices[parent];
        hole = parent;
    }
    values[hole] = value;
    indices[hole] = index;
}

// The outputs are the heap: the k best so far, the worst of them on top. Most vectors hold nothing better and are passed
// over with one comparison; a later equal never counts as better.
static inline void top_k(const float* x, int64_t n, int64_t k, int32_t* indices, float* values) {
    if (k <= 0) return;
    int64_t i = 0;
    for (; i < k; i++) add_to_heap(values, indices, i, x[i], static_cast<int32_t>(i));
    while (i < n) {
        if (i + LANES <= n && values[0] == values[0] && !any_less(broadcast(values[0]), load(x + i))) {
            i += LANES;
            continue;
        }
        const int64_t end = i + LANES < n ? i + LANES : n;
        for (; i < end; i++) {
            const int32_t index = static_cast<int32_t>(i);
            if (behind(values[0], indices[0], x[i], index)) replace_root(values, indices, k, x[i], index);
        }
    }
    for (int64_t size = k - 1; size > 0; size--) {
        const float value = values[0], last = values[size];
        const int32_t index = indices[0], last_index = indices[size];
        replace_root(values, indices, size, last, last_index);
        values[size] = value;
        indices[size] = index;
    }
}

constexpr double INVERSE_FACTORIALS[12] = {1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040,
                                           1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800};

// e^v for v in [-708, 0], within 1 ulp, in arithmetic that compilers turn into vectors: 2^k times a polynomial in what is
// left, |r| <= ln 2 / 2. Adding 1.5 * 2^52 rounds to a whole number, which then stands in the low bits.
PADDOCK_INLINE double exp_of_negative(double v) {
    const double shift = 6755399441055744.0, shifted = v * 1.4426950408889634 + shift, k = shifted - shift;
    const double r = (v - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10;
    double sum = 1.0 / 479001600;  // 1 / 12!
    PADDOCK_UNROLL
    for (int factor = 12; factor > 0; factor--) sum = sum * r + INVERSE_FACTORIALS[factor - 1];
    int64_t bits;
    std::memcpy(&bits, &shifted, 8);
    bits = (bits + 1023) << 52;
    double power;
    std::memcpy(&power, &bits, 8);
    return sum * power;
}

// The sum of e^((x - top) / temperature), which no x is above, in float64: eight chains by position.
static inline double mass(const float* x, int64_t n, float top, double temperature) {
    constexpr int CHAINS = 8;
    const double inverse = 1 / temperature;
    double sums[CHAINS] = {};
    for (int64_t i = 0; i < n; i += CHAINS) {
        float part[CHAINS];
        const int64_t there = n - i < CHAINS ? n - i : CHAINS;
        for (int c = 0; c < CHAINS; c++) part[c] = c < there ? x[i + c] : -INFINITY;
        for (int c = 0; c < CHAINS; c++) {
            const double v = (static_cast<double>(part[c]) - top) * inverse, bounded = v < -708 ? -708 : v;
            sums[c] += v < -708 ? 0 : exp_of_negative(bounded);
        }
    }
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
