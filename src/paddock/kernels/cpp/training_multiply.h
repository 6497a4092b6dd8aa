// Small matrix products in one core's caches, which attention is made of.
#pragma once
#include "training_numbers.h"

namespace paddock {
namespace PADDOCK_VARIANT {

// A block of results is held in registers: this many rows of this many vectors.
#if defined(PADDOCK_FLOATS_AVX512)
constexpr int BLOCK_ROWS = 8, BLOCK_VECTORS = 3;
#else
constexpr int BLOCK_ROWS = 4, BLOCK_VECTORS = 1;
#endif

// (rows, depth) by strides, so that a matrix can be read transposed.
template <class Real>
struct Left {
    const Real* data;
    int64_t row, column;
};

template <class Real>
struct Right {
    const Real* data;
    int64_t row;
};

template <int R, int T, class Real>
PADDOCK_INLINE void multiply_block(Left<Real> a, Right<Real> b, Real* c, int64_t c_row, int64_t depth, bool onto) {
    using Vector = decltype(broadcast(Real()));
    Vector sums[R][T];
    PADDOCK_UNROLL
    for (int r = 0; r < R; r++) {
        PADDOCK_UNROLL
        for (int t = 0; t < T; t++) sums[r][t] = onto ? load(c + r * c_row + t * LANES) : broadcast(Real());
    }
    for (int64_t p = 0; p < depth; p++) {
        Vector row[T];
        PADDOCK_UNROLL
        for (int t = 0; t < T; t++) row[t] = load(b.data + p * b.row + t * LANES);
        PADDOCK_UNROLL
        for (int r = 0; r < R; r++) {
            const Vector x = broadcast(a.data[r * a.row + p * a.column]);
            PADDOCK_UNROLL
            for (int t = 0; t < T; t++) sums[r][t] = fma(x, row[t], sums[r][t]);
        }
    }
    PADDOCK_UNROLL
    for (int r = 0; r < R; r++) {
        PADDOCK_UNROLL
        for (int t = 0; t < T; t++) store(c + r * c_row + t * LANES, sums[r][t]);
    }
}

template <int R, int T, class Real>
static void multiply_columns(Left<Real> a, Right<Real> b, Real* c, int64_t c_row, int64_t rows, int64_t depth, bool onto) {
    int64_t row = 0;
    for (; row + R <= rows; row += R) {
        multiply_block<R, T>({a.data + row * a.row, a.row, a.column}, b, c + row * c_row, c_row, depth, onto);
    }
    if constexpr (R > 1) {
        if (row < rows) multiply_columns<R / 2, T>({a.data + row * a.row, a.row, a.column}, b, c + row * c_row, c_row, rows - row, depth, onto);
    }
}

template <int T, class Real>
static void multiply_from(Left<Real> a, Right<Real> b, Real* c, int64_t c_row, int64_t rows, int64_t columns, int64_t depth, bool onto) {
    int64_t column = 0;
    for (; column + T * LANES <= columns; column += T * LANES) {
        multiply_columns<BLOCK_ROWS, T>(a, {b.data + column, b.row}, c + column, c_row, rows, depth, onto);
    }
    if constexpr (T > 1) {
        if (column < columns) multiply_from<T - 1>(a, {b.data + column, b.row}, c + column, c_row, rows, columns - column, depth, onto);
    }
}

// c (rows, columns) = a b, or += where `onto`; columns is a multiple of LANES. An element's products are added in the
// order of depth, one chain each, whatever block it lies in.
template <class Real>
static void multiply(Left<Real> a, Right<Real> b, Real* c, int64_t c_row, int64_t rows, int64_t columns, int64_t depth, bool onto = false) {
    multiply_from<BLOCK_VECTORS>(a, b, c, c_row, rows, columns, depth, onto);
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
