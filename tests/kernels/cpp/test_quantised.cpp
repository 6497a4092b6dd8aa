// Tests and timings of quantised.h and pack.cpp, without Python:
//   g++ -std=c++17 -O2 -I src/paddock/kernels/cpp -DPADDOCK_VARIANT=portable tests/kernels/cpp/test_quantised.cpp
//       src/paddock/kernels/cpp/pack.cpp -o test_quantised [flags of the variant]
//   ./test_quantised            tests; exit code 1 where one fails
//   ./test_quantised FOLDER     also compares with the dequantised matrices found there (see compare_with_files)
//   ./test_quantised bench      speeds, one thread; `bench 2` for two
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "quantised.h"
#include "pack_dense.h"

namespace paddock {
int64_t packed_bytes_dense(Format, int64_t, int64_t) { return 0; }
void pack_dense(Format, const uint8_t*, int64_t, int64_t, int64_t, int64_t, int64_t, uint8_t*) {}
}  // namespace paddock

using namespace paddock;
using namespace paddock::PADDOCK_VARIANT;

static int failures = 0;

#define CHECK(condition, ...)                                        \
    do {                                                             \
        if (!(condition)) {                                          \
            failures++;                                              \
            printf("FAILED %s:%d %s: ", __FILE__, __LINE__, #condition); \
            printf(__VA_ARGS__);                                     \
            printf("\n");                                            \
        }                                                            \
    } while (0)

struct Named {
    Format format;
    const char* name;
    int64_t weights, bytes;      // of a published block; 0 for those of parts
    int half_at[2];              // places of float16 numbers in a block, -1 for none
};

static const Named FORMATS[] = {
    {Format::Q8_0, "q8_0", 32, 34, {0, -1}},       {Format::Q4_0, "q4_0", 32, 18, {0, -1}},
    {Format::Q4_1, "q4_1", 32, 20, {0, 2}},        {Format::Q5_0, "q5_0", 32, 22, {0, -1}},
    {Format::Q5_1, "q5_1", 32, 24, {0, 2}},        {Format::IQ4_NL, "iq4_nl", 32, 18, {0, -1}},
    {Format::Q2_K, "q2_k", 256, 84, {80, 82}},     {Format::Q3_K, "q3_k", 256, 110, {108, -1}},
    {Format::Q4_K, "q4_k", 256, 144, {0, 2}},      {Format::Q5_K, "q5_k", 256, 176, {0, 2}},
    {Format::Q6_K, "q6_k", 256, 210, {208, -1}},   {Format::INT4, "int4", 0, 0, {-1, -1}},
    {Format::INT8, "int8", 0, 0, {-1, -1}},        {Format::NF4, "nf4", 0, 0, {-1, -1}},
};

template <class T> struct Aligned {
    size_t count;
    std::unique_ptr<T, void (*)(void*)> memory;
    explicit Aligned(size_t n) : count(n), memory(static_cast<T*>(std::aligned_alloc(64, (n * sizeof(T) + 127) / 64 * 64)), std::free) {
        memset(static_cast<void*>(memory.get()), 0, n * sizeof(T));
    }
    T* get() const { return memory.get(); }
};

static std::mt19937 chance(7);
static uint32_t random_below(uint32_t n) { return chance() % n; }
static float random_float() { return float(int32_t(chance())) / float(1u << 31); }
// A float16 of either sign between 2^-9 and 2^-6.
static uint16_t random_half() { return uint16_t((chance() & 0x83ff) | (6 + random_below(3)) << 10); }

struct Matrix {
    Weight w;
    Aligned<uint8_t> bytes;
};

static Matrix random_matrix(const Named& f, int64_t rows, int64_t columns) {
    const int64_t size = packed_bytes(f.format, rows, columns), tiles = (rows + 15) / 16;
    Matrix m = {{f.format, rows, columns, tiles ? size / tiles : 0, nullptr}, Aligned<uint8_t>(size_t(size))};
    m.w.data = m.bytes.get();
    if (f.weights) {
        const int64_t row_bytes = columns / f.weights * f.bytes;
        std::vector<uint8_t> blocks(size_t(rows * row_bytes));
        for (auto& b : blocks) b = uint8_t(chance());
        for (int64_t b = 0; b < rows * (columns / f.weights); b++)
            for (int at : f.half_at)
                if (at >= 0) {
                    const uint16_t half = random_half();
                    memcpy(blocks.data() + b * f.bytes + at, &half, 2);
                }
        // In two parts, as two threads would.
        pack(f.format, blocks.data(), row_bytes, rows, columns, tiles / 2, tiles, m.bytes.get());
        pack(f.format, blocks.data(), row_bytes, rows, columns, 0, tiles / 2, m.bytes.get());
        return m;
    }
    std::vector<uint8_t> codes(size_t(rows * columns));
    for (auto& c : codes) c = uint8_t(chance() & (f.format == Format::INT8 ? 255 : 15));
    if (f.format == Format::NF4) {
        std::vector<float> scales(size_t(rows * ((columns + 63) / 64)));
        for (auto& s : scales) s = random_float() * 0.05f;
        pack_nf4(codes.data(), scales.data(), rows, columns, 0, tiles, m.bytes.get());
        return m;
    }
    std::vector<uint16_t> scales(size_t(rows * ((columns + 31) / 32)));
    std::vector<uint8_t> zeros(scales.size());
    for (auto& s : scales) s = random_half();
    for (auto& z : zeros) z = uint8_t(chance() & (f.format == Format::INT8 ? 255 : 15));
    pack_affine(f.format, codes.data(), scales.data(), zeros.data(), rows, columns, 0, tiles, m.bytes.get());
    return m;
}

struct Activations {
    int64_t rows, columns, stride, padded;
    std::vector<float> floats;
    std::vector<int8_t> codes;
    std::vector<float> scales;
    std::vector<int32_t> sums;
    Activations(int64_t r, int64_t c)
        : rows(r), columns(c), stride(c + 3), padded((c + 31) / 32 * 32), floats(size_t(r * stride)), codes(size_t(r * padded)),
          scales(size_t(r * padded / 32)), sums(size_t(r * padded / 16)) {
        for (auto& x : floats) x = random_float() * 3;
        for (int64_t i = 0; i < r; i++)
            for (int64_t j = c; j < stride; j++) floats[size_t(i * stride + j)] = NAN;  // must not be read
        quantise(floats.data(), stride, rows, columns, padded, codes.data(), scales.data(), sums.data());
    }
    Rows view(int64_t from) const {
        return {floats.data() + from * stride, stride, nullptr, codes.data() + from * padded, scales.data() + from * padded / 32,
                sums.data() + from * padded / 16, padded};
    }
};

static void run_linear(const Weight& w, const Rows& x, int64_t rows, int64_t first, int64_t last, const float* bias, bool add, float* y, int64_t stride) {
    if (w.format == Format::NF4) linear_nf4(w, x, rows, first, last, bias, add, y, stride);
    else linear_codes(w, x, rows, first, last, bias, add, y, stride);
}

static void test_quantise() {
    for (int64_t columns : {1, 31, 32, 33, 100, 256}) {
        Activations a(3, columns);
        for (int64_t r = 0; r < 3; r++) {
            for (int64_t g = 0; g < a.padded / 32; g++) {
                float largest = 0;
                for (int64_t i = g * 32; i < columns && i < g * 32 + 32; i++) largest = std::fmax(largest, std::fabs(a.floats[size_t(r * a.stride + i)]));
                const float scale = a.scales[size_t(r * a.padded / 32 + g)];
                CHECK(scale == largest / 127.0f, "%g %g", double(scale), double(largest));
                for (int64_t half = 0; half < 2; half++) {
                    int sum = 0;
                    for (int64_t i = g * 32 + half * 16; i < g * 32 + half * 16 + 16; i++) {
                        const int code = a.codes[size_t(r * a.padded + i)];
                        const int right = i < columns && scale > 0 ? int(std::nearbyint(a.floats[size_t(r * a.stride + i)] / scale)) : 0;
                        CHECK(code == right, "column %d: %d, not %d", int(i), code, right);
                        sum += code;
                    }
                    CHECK(a.sums[size_t(r * a.padded / 16 + g * 2 + half)] == sum, "sum");
                }
            }
        }
    }
    // Zeros, the smallest denormals, and what is not finite.
    float x[32] = {}, scale;
    int8_t codes[32];
    int32_t sums[2];
    quantise(x, 32, 1, 32, 32, codes, &scale, sums);
    CHECK(scale == 0 && codes[0] == 0 && sums[0] == 0, "zeros");
    for (float& v : x) v = 1e-45f * 180;
    quantise(x, 32, 1, 32, 32, codes, &scale, sums);
    CHECK(codes[5] == 127 && sums[0] == 127 * 16, "denormals: %d", codes[5]);
    for (float bad : {NAN, -NAN, INFINITY, -INFINITY}) {
        x[17] = bad;
        quantise(x, 32, 1, 32, 32, codes, &scale, sums);
        CHECK(!std::isfinite(scale) && codes[17] == 0 && codes[0] == 0, "%g gave scale %g code %d", double(bad), double(scale), codes[17]);
    }
}

static bool same(float a, float b) { return memcmp(&a, &b, 4) == 0; }

// The sum in double precision, and the sum of sizes, which rounding errors are measured by.
static void expected(const std::vector<float>& weights, const Activations& a, int64_t row, bool quantised, double& sum, double& size) {
    sum = size = 0;
    for (int64_t i = 0; i < a.columns; i++) {
        const double x = quantised ? double(a.codes[size_t(row * a.padded + i)]) * double(a.scales[size_t(row * a.padded / 32 + i / 32)]) : double(a.floats[size_t(row * a.stride + i)]);
        sum += double(weights[size_t(i)]) * x;
        size += std::fabs(double(weights[size_t(i)]) * x);
    }
}

static void test_linear(const Named& f, int64_t outputs, int64_t columns, int64_t rows) {
    Matrix m = random_matrix(f, outputs, columns);
    Activations a(rows, columns);
    const int64_t tiles = m.w.tiles(), stride = outputs + 5;
    std::vector<float> bias(static_cast<size_t>(outputs)), y(size_t(rows * stride), 7.0f), again(y), plain(y);
    for (auto& b : bias) b = random_float();
    // In two ranges of tiles; with a bias; added to what was there.
    const int64_t cut = tiles / 3;
    run_linear(m.w, a.view(0), rows, 0, cut, bias.data(), true, y.data(), stride);
    run_linear(m.w, a.view(0), rows, cut, tiles, bias.data(), true, y.data(), stride);
    run_linear(m.w, a.view(0), rows, 0, tiles, nullptr, false, plain.data(), stride);
    std::vector<float> weights(static_cast<size_t>(columns));
    for (int64_t o = 0; o < outputs; o++) {
        row_codes(m.w, o, weights.data());
        for (int64_t r = 0; r < rows; r++) {
            double sum, size;
            expected(weights, a, r, f.format != Format::NF4, sum, size);
            const float got = y[size_t(r * stride + o)], bare = plain[size_t(r * stride + o)];
            // Formats with minima or zero points subtract two larger sums.
            CHECK(std::fabs(double(bare) - sum) <= 2e-5 * size + 1e-6, "%s %dx%d row %d output %d: %g, not %g (%g)", f.name, int(outputs), int(columns), int(r), int(o), double(bare), sum, size);
            CHECK(same(got, (bare + bias[size_t(o)]) + 7.0f), "%s bias: %g %g", f.name, double(got), double(bare));
        }
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = outputs; o < stride; o++) CHECK(plain[size_t(r * stride + o)] == 7.0f, "%s wrote past the outputs", f.name);
    // The same bits whatever rows stand beside a row.
    for (int64_t count : {1, 2, 3, 5, 11}) {
        for (int64_t r = 0; r + count <= rows; r += count) run_linear(m.w, a.view(r), count, 0, tiles, nullptr, false, again.data() + r * stride, stride);
        const int64_t done = rows / count * count;
        for (int64_t r = 0; r < done; r++)
            for (int64_t o = 0; o < outputs; o++)
                CHECK(same(again[size_t(r * stride + o)], plain[size_t(r * stride + o)]), "%s: row %d of %d by %d differs", f.name, int(r), int(rows), int(count));
    }
    run_linear(m.w, a.view(0), 0, 0, tiles, nullptr, false, nullptr, stride);
}

static void test_sizes() {
    for (const Named& f : FORMATS) {
        CHECK(f.weights == 0 || packed_bytes(f.format, 16, f.weights + 16) == 0, "%s takes odd columns", f.name);
        CHECK(packed_bytes(f.format, 0, 256) == 0, "%s", f.name);
        CHECK(packed_bytes(f.format, 17, 512) % 128 == 0, "%s tiles are not aligned", f.name);
        if (f.weights) {
            const double ratio = double(packed_bytes(f.format, 1024, 4096)) / (1024.0 * 4096 / double(f.weights) * double(f.bytes));
            CHECK(ratio <= 1.04, "%s takes %.3f of its file", f.name, ratio);
        }
    }
}

// FOLDER/NAME.bin: int64 rows, int64 columns, the published blocks, then rows * columns float32 as the checkpoint room
// dequantises them.
static void compare_with_files(const std::string& folder) {
    for (const Named& f : FORMATS) {
        FILE* file = fopen((folder + "/" + f.name + ".bin").c_str(), "rb");
        if (!file) continue;
        int64_t size[2];
        CHECK(fread(size, 8, 2, file) == 2, "%s is short", f.name);
        const int64_t rows = size[0], columns = size[1], row_bytes = columns / f.weights * f.bytes;
        std::vector<uint8_t> blocks(size_t(rows * row_bytes));
        std::vector<float> right(size_t(rows * columns)), got(static_cast<size_t>(columns));
        CHECK(fread(blocks.data(), 1, blocks.size(), file) == blocks.size() && fread(right.data(), 4, right.size(), file) == right.size(), "%s is short", f.name);
        fclose(file);
        const int64_t tiles = (rows + 15) / 16, bytes = packed_bytes(f.format, rows, columns);
        Aligned<uint8_t> packed{size_t(bytes)};
        pack(f.format, blocks.data(), row_bytes, rows, columns, 0, tiles, packed.get());
        const Weight w = {f.format, rows, columns, bytes / tiles, packed.get()};
        int64_t wrong = 0;
        for (int64_t r = 0; r < rows; r++) {
            row_codes(w, r, got.data());
            for (int64_t c = 0; c < columns; c++) wrong += !same(got[size_t(c)], right[size_t(r * columns + c)]);
        }
        CHECK(wrong == 0, "%s: %d of %d weights differ", f.name, int(wrong), int(rows * columns));
        printf("%-7s %d x %d equal to the file\n", f.name, int(rows), int(columns));
    }
}

// A hash of outputs, to compare variants.
static void print_hash() {
    uint64_t hash = 1469598103934665603u;
    for (const Named& f : FORMATS) {
        chance.seed(11);
        Matrix m = random_matrix(f, 37, 768);
        Activations a(7, 768);
        std::vector<float> y(7 * 37);
        run_linear(m.w, a.view(0), 7, 0, m.w.tiles(), nullptr, false, y.data(), 37);
        for (float v : y) {
            uint32_t bits;
            memcpy(&bits, &v, 4);
            hash = (hash ^ bits) * 1099511628211u;
        }
    }
    printf("bits %016llx\n", static_cast<unsigned long long>(hash));
}

static double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Best seconds of a piece of `piece` tiles out of `tiles`, over all pieces: other programs take the processor meanwhile.
static double piece_seconds(int threads, int64_t tiles, int64_t piece, const std::function<void(int64_t, int64_t)>& work) {
    std::vector<double> best(size_t(threads), 1e9);
    const auto pieces = [&](int thread) {
        const int64_t end = tiles * (thread + 1) / threads;
        for (int repeat = 0; repeat < 3; repeat++)
            for (int64_t at = tiles * thread / threads; at + piece <= end; at += piece) {
                const double start = now();
                work(at, at + piece);
                best[size_t(thread)] = std::fmin(best[size_t(thread)], now() - start);
            }
    };
    std::vector<std::thread> others;
    for (int t = 1; t < threads; t++) others.emplace_back(pieces, t);
    pieces(0);
    for (auto& other : others) other.join();
    double sum = 0;
    for (double seconds : best) sum += 1 / seconds;
    return 1 / sum;
}

static void bench(int threads, const std::string& only) {
    const int64_t columns = 2048, outputs = 100000, piece = 64;  // beyond the last-level cache
    for (const Named& f : FORMATS) {
        if (!only.empty() && only != f.name) continue;
        Matrix small = random_matrix(f, 1024, columns);
        Matrix m = {{f.format, outputs, columns, small.w.tile_bytes, nullptr}, Aligned<uint8_t>(size_t(packed_bytes(f.format, outputs, columns)))};
        for (int64_t t = 0; t < m.w.tiles(); t++) memcpy(m.bytes.get() + t * m.w.tile_bytes, small.w.data + t % 64 * m.w.tile_bytes, size_t(m.w.tile_bytes));
        m.w.data = m.bytes.get();
        Activations a(96, columns);
        std::vector<float> y(size_t(96 * outputs));
        printf("%-7s", f.name);
        for (int64_t rows : {1, 4, 16, 96}) {
            Weight w = m.w;
            w.rows = rows >= 16 ? 4096 : w.rows;
            const double seconds = piece_seconds(threads, w.tiles(), rows >= 16 ? 16 : piece, [&](int64_t first, int64_t last) { run_linear(w, a.view(0), rows, first, last, nullptr, false, y.data(), w.rows); });
            const double tiles = rows >= 16 ? 16 : double(piece);
            printf(" | %2d rows %5.1f GB/s %6.1f G multiply-adds/s", int(rows), tiles * double(w.tile_bytes) / seconds * 1e-9, tiles * 16 * double(columns * rows) / seconds * 1e-9);
            fflush(stdout);
        }
        printf("\n");
    }
}

int main(int count, char** arguments) {
    if (count > 1 && std::string(arguments[1]) == "bench") {
        bench(count > 2 ? atoi(arguments[2]) : 1, count > 3 ? arguments[3] : "");
        return 0;
    }
    test_quantise();
    test_sizes();
    for (const Named& f : FORMATS) {
        const int before = failures;
        const int64_t block = f.weights ? f.weights : 32;
        test_linear(f, 16, block, 1);
        test_linear(f, 50, block * 3, 27);
        test_linear(f, 1, f.weights == 256 ? 512 : 288, 13);
        test_linear(f, 33, 1024, 14);
        if (!f.weights) {
            test_linear(f, 19, 100, 9);
            test_linear(f, 3, 1, 5);
            test_linear(f, 17, 353, 26);
        }
        if (failures != before) printf("%s failed\n", f.name);
    }
    test_linear(FORMATS[0], 37, 3328, 27);
    test_linear(FORMATS[1], 20, 4096, 150);
    if (count > 1) compare_with_files(arguments[1]);
    print_hash();
    printf(failures ? "%d failures\n" : "all passed\n", failures);
    return failures ? 1 : 0;
}
