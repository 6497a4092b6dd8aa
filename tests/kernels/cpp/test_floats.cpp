// The float kernels of one variant against plain double-precision computation. Build it for any variant, for instance
//   g++ -std=c++17 -O2 -ffp-contract=off -mavx2 -mfma -mf16c -DPADDOCK_VARIANT=avx2 -Isrc/paddock/kernels/cpp
//       tests/kernels/cpp/test_floats.cpp src/paddock/kernels/cpp/pack_dense.cpp src/paddock/kernels/cpp/attention.cpp
// with -fsanitize=address,undefined too; it prints what failed and exits with 1 if anything did.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "checking.h"
#include "attention.h"
#include "dense.h"
#include "elementwise.h"
#include "pack_dense.h"

using namespace paddock;
namespace kernels = paddock::PADDOCK_VARIANT;

static std::mt19937 generator(7);
static float normal() { return std::normal_distribution<float>()(generator); }
static int64_t below(int64_t n) { return std::uniform_int_distribution<int64_t>(0, n - 1)(generator); }

static std::vector<float> normals(int64_t n, float scale = 1) {
    std::vector<float> x(static_cast<size_t>(n));
    for (float& v : x) v = normal() * scale;
    return x;
}

static bool same(const float* a, const float* b, int64_t n) { return n == 0 || std::memcmp(a, b, static_cast<size_t>(n) * 4) == 0; }

// --- linears ---

struct Matrix {
    Format format;
    int64_t rows, columns;
    std::vector<double> values;
    std::vector<uint8_t> published, room;
    Weight weight;
};

static Matrix matrix(Format format, int64_t rows, int64_t columns) {
    Matrix m{format, rows, columns, {}, {}, {}, {}};
    const int64_t bytes = format == Format::F32 ? 4 : 2;
    m.published.resize(static_cast<size_t>(rows * columns * bytes));
    for (int64_t i = 0; i < rows * columns; i++) {
        const float x = normal();
        uint8_t* at = m.published.data() + i * bytes;
        if (format == Format::F32) {
            m.values.push_back(x);
            std::memcpy(at, &x, 4);
        } else {
            const uint16_t half = format == Format::F16 ? kernels::to_f16(x) : kernels::to_bf16(x);
            m.values.push_back(format == Format::F16 ? kernels::from_f16(half) : kernels::from_bf16(half));
            std::memcpy(at, &half, 2);
        }
    }
    const int64_t packed = packed_bytes_dense(format, rows, columns), tiles = (rows + LANES - 1) / LANES;
    m.room.assign(static_cast<size_t>(packed + 64), 0xff);
    uint8_t* data = m.room.data() + (64 - reinterpret_cast<uintptr_t>(m.room.data()) % 64) % 64;
    for (int64_t tile = 0; tile < tiles; tile++)
        pack_dense(format, m.published.data(), columns * bytes, rows, columns, tile, tile + 1, data);
    m.weight = {format, rows, columns, tiles ? packed / tiles : 0, data};
    check(m.weight.tile_bytes % 64 == 0, "tiles begin at multiples of 64 bytes", rows, columns);
    return m;
}

static void multiply(const Matrix& m, const Rows& x, int64_t rows, int64_t first, int64_t last, const float* bias, bool add, float* y, int64_t stride) {
    if (m.format == Format::BF16)
        kernels::linear_bfloats(m.weight, x, rows, first, last, bias, add, y, stride);
    else
        kernels::linear_floats(m.weight, x, rows, first, last, bias, add, y, stride);
}

static void test_linear(Format format, int64_t rows, int64_t outputs, int64_t columns, bool add, bool with_bias) {
    const Matrix m = matrix(format, outputs, columns);
    const int64_t x_stride = columns + below(3), y_stride = outputs + 5, padded = (columns + 31) / 32 * 32;
    // Exactly as many numbers as the contract promises, so that a sanitizer sees a read beyond them.
    const std::vector<float> x = normals(rows ? (rows - 1) * x_stride + columns : 0), bias = normals(outputs);
    std::vector<uint16_t> bfloats(static_cast<size_t>(rows * padded), 0xffff);
    kernels::to_bfloat16(x.data(), x_stride, rows, columns, padded, bfloats.data());
    const Rows inputs = {x.data(), x_stride, bfloats.data(), nullptr, nullptr, nullptr, padded};
    const std::vector<float> before = normals(rows * y_stride);
    std::vector<float> y = before;
    const int64_t tiles = (outputs + LANES - 1) / LANES, cut = tiles ? below(tiles + 1) : 0;
    const float* b = with_bias ? bias.data() : nullptr;
    multiply(m, inputs, rows, 0, cut, b, add, y.data(), y_stride);
    multiply(m, inputs, rows, cut, tiles, b, add, y.data(), y_stride);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = columns; i < padded; i++) check(bfloats[static_cast<size_t>(r * padded + i)] == 0, "padding is zero", r, i);
        for (int64_t o = 0; o < y_stride; o++) {
            const float found = y[static_cast<size_t>(r * y_stride + o)], old = before[static_cast<size_t>(r * y_stride + o)];
            if (o >= outputs) {
                check(found == old, "linear writes only its outputs", r, o, columns);
                continue;
            }
            double sum = 0, size = 1e-6;
            for (int64_t i = 0; i < columns; i++) {
                const double input = format == Format::BF16 ? kernels::from_bf16(bfloats[static_cast<size_t>(r * padded + i)]) : x[static_cast<size_t>(r * x_stride + i)];
                sum += input * m.values[static_cast<size_t>(o * columns + i)];
                size += std::fabs(input * m.values[static_cast<size_t>(o * columns + i)]);
            }
            if (with_bias) sum += bias[static_cast<size_t>(o)], size += std::fabs(bias[static_cast<size_t>(o)]);
            if (add) sum += old, size += std::fabs(old);
            near(found, sum, size * 1e-6, "linear", r, o);
        }
    }
    // Each row by itself has the same bits.
    for (int64_t r = 0; r < rows; r++) {
        std::vector<float> alone(before.begin() + r * y_stride, before.begin() + (r + 1) * y_stride);
        const Rows one = {x.data() + r * x_stride, x_stride, bfloats.data() + r * padded, nullptr, nullptr, nullptr, padded};
        multiply(m, one, 1, 0, tiles, b, add, alone.data(), y_stride);
        check(same(alone.data(), y.data() + r * y_stride, y_stride), "a row alone", rows, outputs, columns);
    }
    std::vector<float> row(static_cast<size_t>(columns));
    for (int64_t o = 0; o < outputs; o++) {
        kernels::row_dense(m.weight, o, row.data());
        for (int64_t i = 0; i < columns; i++) check(row[static_cast<size_t>(i)] == m.values[static_cast<size_t>(o * columns + i)], "a row of weights", o, i);
    }
}

static void test_linears() {
    for (Format format : {Format::F32, Format::F16, Format::BF16}) {
        for (int64_t columns : {1, 3, 33, 100, 1100}) {
            for (int64_t outputs : {1, 16, 37, 100}) {
                for (int64_t rows : {0, 1, 2, 7, 13}) test_linear(format, rows, outputs, columns, below(2), below(2));
            }
        }
        test_linear(format, 205, 80, 600, true, true);
        test_linear(format, 3, 20, 0, true, true);
    }
    report("linear");
}

// --- numbers of 16 bits ---

static void test_conversions() {
    std::vector<uint16_t> back(16);
    std::vector<float> wide(16);
    for (uint32_t h = 0; h < 65536; h += 16) {
        uint16_t bits[16];
        for (uint32_t i = 0; i < 16; i++) bits[i] = static_cast<uint16_t>(h + i);
        kernels::store(wide.data(), kernels::load_f16(bits));
        kernels::store_f16(back.data(), kernels::load_f16(bits));
        for (uint32_t i = 0; i < 16; i++) {
            const int exponent = bits[i] >> 10 & 31, mantissa = bits[i] & 1023;
            double value = exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24);
            if (exponent == 31) value = mantissa ? NAN : INFINITY;
            if (bits[i] & 0x8000) value = -value;
            check(std::isnan(value) ? std::isnan(wide[i]) : wide[i] == value, "float16 widens", h + i);
            check(std::isnan(value) ? (back[i] & 0x7fff) > 0x7c00 : back[i] == bits[i], "float16 comes back", h + i);
        }
        kernels::store_bf16(back.data(), kernels::load_bf16(bits));
        for (uint32_t i = 0; i < 16; i++) {
            const bool nan = (bits[i] & 0x7fff) > 0x7f80;
            check(nan ? (back[i] & 0x7fff) > 0x7f80 : back[i] == bits[i], "bfloat16 comes back", h + i);
        }
    }
    for (int i = 0; i < 100000; i++) {
        const float x = normal() * std::ldexp(1.0f, static_cast<int>(below(44)) - 26);
        uint16_t half = kernels::to_f16(x);
        const double step = std::max(std::ldexp(1.0, std::ilogb(x) - 10), std::ldexp(1.0, -24));
        const double ties = std::nearbyint(x / step) * step;
        check(kernels::from_f16(half) == (std::fabs(ties) >= 65520 ? std::copysign(INFINITY, x) : ties), "float16 to nearest", half);
        const double wide_step = std::ldexp(1.0, std::ilogb(x) - 7);
        check(kernels::from_bf16(kernels::to_bf16(x)) == std::nearbyint(x / wide_step) * wide_step, "bfloat16 to nearest", i);
    }
}

// --- functions of one number ---

static double expected(Activation kind, double x) {
    switch (kind) {
        case Activation::ReLU: return x > 0 ? x : 0;
        case Activation::SiLU: return x / (1 + std::exp(-x));
        case Activation::GELU: return x * std::erfc(-x / std::sqrt(2.0)) / 2;
        case Activation::GELUTanh: return x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))) / 2;
        case Activation::Tanh: return std::tanh(x);
        case Activation::Sigmoid: return 1 / (1 + std::exp(-x));
    }
    return 0;
}

static void test_exp() {
    for (double x = -104; x < 90; x += 1.0 / 1024 + 1e-5) {
        float in[16], out[16];
        for (int i = 0; i < 16; i++) in[i] = static_cast<float>(x);
        kernels::store(out, kernels::exp(kernels::load(in)));
        const double value = std::exp(static_cast<double>(in[0]));
        if (value > 3.4028234e38)
            check(std::isinf(out[0]), "exp overflows", static_cast<int64_t>(x));
        else
            near(out[0], value, std::max(value * 1.2e-7, 3e-45), "exp", static_cast<int64_t>(x * 1000));
    }
    report("exp (2 ulp)");
    float in[16] = {0, -INFINITY, INFINITY, NAN, -200, 200, -0.0f, 1}, out[16];
    kernels::store(out, kernels::exp(kernels::load(in)));
    check(out[0] == 1 && out[1] == 0 && std::isinf(out[2]) && std::isnan(out[3]) && out[4] == 0 && std::isinf(out[5]) && out[6] == 1, "exp at the ends");
}

static void test_activations() {
    const char* names[] = {"relu", "silu", "gelu", "gelu_tanh", "tanh", "sigmoid"};
    for (int k = 0; k < 6; k++) {
        const Activation kind = static_cast<Activation>(k);
        for (int64_t count : {0, 1, 15, 16, 17, 33, 100000}) {
            std::vector<float> x = normals(count, 3), up = normals(count);
            for (size_t i = 0; i < x.size(); i += 7) x[i] *= 10;
            for (size_t i = 3; i < x.size(); i += 11) x[i] *= 1e-3f;
            if (count > 3) x[3] = NAN;
            std::vector<float> y(x.size()), gated(x.size());
            kernels::activate(kind, x.data(), count, y.data());
            kernels::gate(kind, x.data(), up.data(), count, gated.data());
            for (size_t i = 0; i < x.size(); i++) {
                const double value = expected(kind, x[i]);
                if (std::isnan(x[i])) {
                    check(std::isnan(y[i]) && std::isnan(gated[i]), "NaN stays", k);
                    continue;
                }
                near(y[i], value, 2e-7 * std::max(std::fabs(value), 1.0), names[k], static_cast<int64_t>(i));
                near(gated[i], value * up[i], 3e-7 * std::max<double>(std::fabs(value * up[i]), std::fabs(up[i])), names[k], static_cast<int64_t>(i));
                if (kind == Activation::Tanh) near(y[i], value, 2e-7 * std::fabs(value) + 1e-40, "tanh, relative", static_cast<int64_t>(i));
            }
            kernels::activate(kind, x.data(), count, x.data());
            check(count > 3 || same(x.data(), y.data(), count), "in place", k);
        }
        report(names[k]);
    }
}

// --- rows ---

static void test_norms() {
    for (int64_t width : {1, 3, 16, 33, 64, 100, 4096}) {
        const std::vector<float> x = normals(width, 2), weight = normals(width), bias = normals(width);
        std::vector<float> y(x.size());
        double mean = 0, square = 0, variance = 0;
        for (float v : x) mean += v / static_cast<double>(width), square += static_cast<double>(v) * v / static_cast<double>(width);
        for (float v : x) variance += (v - mean) * (v - mean) / static_cast<double>(width);
        kernels::rms_norm(x.data(), weight.data(), 1e-5f, width, y.data());
        for (size_t i = 0; i < x.size(); i++) {
            const double value = x[i] / std::sqrt(square + 1e-5f) * weight[i];
            near(y[i], value, 5e-7 * std::max(1e-3, std::fabs(value)), "rms_norm", width);
        }
        for (const float* b : {static_cast<const float*>(nullptr), bias.data()}) {
            kernels::layer_norm(x.data(), weight.data(), b, 1e-5f, width, y.data());
            for (size_t i = 0; i < x.size(); i++) {
                const double value = (x[i] - mean) / std::sqrt(variance + 1e-5f) * weight[i] + (b ? b[i] : 0);
                near(y[i], value, 2e-6, "layer_norm", width, static_cast<int64_t>(i));
            }
        }
    }
    report("norms");
}

static void test_rotate() {
    for (int64_t head_dim : {2, 8, 20, 64, 80, 128}) {
        for (int64_t width : {int64_t{0}, int64_t{2}, head_dim / 4 * 2, head_dim}) {
            for (bool interleaved : {false, true}) {
                const std::vector<float> x = normals(3 * head_dim), cos = normals(width / 2), sin = normals(width / 2);
                std::vector<float> y = x;
                kernels::rotate(y.data(), 3, head_dim, width, cos.data(), sin.data(), interleaved);
                for (int64_t i = 0; i < 3 * head_dim; i++) {
                    const int64_t d = i % head_dim, half = width / 2, pair = interleaved ? d / 2 : d % std::max<int64_t>(half, 1);
                    if (d >= width) {
                        check(y[static_cast<size_t>(i)] == x[static_cast<size_t>(i)], "features past the width stay", d);
                        continue;
                    }
                    const bool second = interleaved ? d % 2 : d >= half;
                    const int64_t other = interleaved ? i + (second ? -1 : 1) : i + (second ? -half : half);
                    const double c = cos[static_cast<size_t>(pair)], s = sin[static_cast<size_t>(pair)];
                    near(y[static_cast<size_t>(i)], x[static_cast<size_t>(i)] * c + (second ? s : -s) * x[static_cast<size_t>(other)], 1e-6, "rotate", head_dim, d);
                }
            }
        }
    }
    report("rotate");
}

static void test_top_k() {
    for (int round = 0; round < 400; round++) {
        const int64_t n = 1 + below(round < 350 ? 200 : 40000), k = 1 + below(std::min<int64_t>(n, 60));
        std::vector<float> x = normals(n);
        if (round % 2) for (float& v : x) v = std::round(v);  // many ties
        if (round % 3 == 0) for (float& v : x) if (below(round % 5 == 0 ? 1 + 40 : 2) == 0) v = NAN;
        if (round % 7 == 0) for (float& v : x) if (below(3) == 0) v = below(2) ? INFINITY : -INFINITY;
        std::vector<int32_t> order(x.size()), found(static_cast<size_t>(k), -1);
        for (size_t i = 0; i < order.size(); i++) order[i] = static_cast<int32_t>(i);
        std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
            const float p = x[static_cast<size_t>(a)], q = x[static_cast<size_t>(b)];
            if (std::isnan(p) || std::isnan(q)) return !std::isnan(p) && std::isnan(q);
            return p > q;
        });
        std::vector<float> values(static_cast<size_t>(k));
        kernels::top_k(x.data(), n, k, found.data(), values.data());
        for (size_t i = 0; i < found.size(); i++) {
            check(found[i] == order[i], "top_k", n, k, static_cast<int64_t>(i));
            check(same(&values[i], &x[static_cast<size_t>(order[i])], 1), "values of top_k", n, k);
        }
    }
}

static void test_partial() {
    for (int64_t n = 1; n <= 16; n++) {
        const std::vector<float> x = normals(n);
        std::vector<float> y(static_cast<size_t>(n) + 4, 5.0f);
        kernels::Floats v = kernels::load(x.data(), n);
        kernels::store(y.data(), v, n);
        float all[16];
        kernels::store(all, v);
        for (int64_t i = 0; i < 16; i++) check(all[i] == (i < n ? x[static_cast<size_t>(i)] : 0), "partial load", n, i);
        for (int64_t i = 0; i < n + 4; i++) check(y[static_cast<size_t>(i)] == (i < n ? x[static_cast<size_t>(i)] : 5.0f), "partial store", n, i);
        const std::vector<uint16_t> halves(static_cast<size_t>(n), 0x3c00);
        const std::vector<int8_t> codes(static_cast<size_t>(n), -3);
        check(kernels::reduce_add(kernels::load_f16(halves.data(), n)) == static_cast<float>(n), "partial float16", n);
        check(kernels::reduce_add(kernels::load_int8(codes.data(), n)) == static_cast<float>(-3 * n), "partial int8", n);
    }
}

int main() {
    test_partial();
    test_conversions();
    test_exp();
    test_activations();
    test_norms();
    test_rotate();
    test_top_k();
    test_linears();
    std::printf(failures ? "%d checks failed\n" : "all good\n", failures);
    return failures ? 1 : 0;
}
