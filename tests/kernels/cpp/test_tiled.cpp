// Tests of the matrix unit's kernels (tiled_*.h) and of its proof, without Python: with the instructions themselves on a
// machine that has them (or a simulator that knows them), or with those computed by others:
//   g++ -std=c++17 -O2 -ffp-contract=off -I src/paddock/kernels/cpp -DPADDOCK_VARIANT=amx tests/kernels/cpp/test_tiled.cpp
//       src/paddock/kernels/cpp/{pack,pack_dense,tiled_proof}.cpp -o test_tiled [flags of the variant]
//   ./test_tiled                exit code 1 where one fails
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "dense.h"
#include "quantised.h"
#include "tiled.h"
#include "tiled_bfloats.h"
#include "tiled_codes.h"

#if defined(PADDOCK_AMX)
#include <sys/syscall.h>
#include <unistd.h>
#endif

using namespace paddock;
using namespace paddock::PADDOCK_VARIANT;

static int failures = 0, checks = 0;

#define CHECK(condition, ...)                                            \
    do {                                                                 \
        checks++;                                                        \
        if (!(condition)) {                                              \
            failures++;                                                  \
            printf("FAILED %s:%d %s: ", __FILE__, __LINE__, #condition); \
            printf(__VA_ARGS__);                                         \
            printf("\n");                                                \
        }                                                                \
    } while (0)

// Exactly as large as asked for, so that the address sanitizer sees what is read beside it.
template <class T> struct Aligned {
    std::unique_ptr<T, void (*)(void*)> memory;
    explicit Aligned(int64_t count) : memory(nullptr, std::free) {
        void* room = nullptr;
        if (posix_memalign(&room, 64, size_t(count) * sizeof(T) + (count == 0))) abort();
        memset(room, 0, size_t(count) * sizeof(T));
        memory.reset(static_cast<T*>(room));
    }
    T* get() const { return memory.get(); }
};

static std::mt19937 chance(5);
static float random_float() { return float(int32_t(chance())) / float(1u << 31); }

struct Matrix {
    Weight w;
    Aligned<uint8_t> bytes;
};

static Matrix room_for(Format format, int64_t rows, int64_t columns) {
    const int64_t size = packed_bytes(format, rows, columns), tiles = (rows + 15) / 16;
    Matrix m = {{format, rows, columns, size / tiles, nullptr}, Aligned<uint8_t>(size)};
    m.w.data = m.bytes.get();
    return m;
}

// Any bits in place of codes and sub-scales, small scales: what the bytes mean does not matter here.
static Matrix random_codes(Format format, int64_t rows, int64_t columns) {
    Matrix m = room_for(format, rows, columns);
    const Layout layout = layout_of(format);
    const int64_t groups = (columns + GROUP - 1) / GROUP;
    for (int64_t i = 0; i < m.w.tiles() * m.w.tile_bytes; i++) m.bytes.get()[i] = uint8_t(chance());
    const auto halves = [](uint8_t* at, int64_t count) {
        for (int64_t i = 0; i < count; i++) {
            const uint16_t half = uint16_t((chance() & 0x83ff) | (6 + chance() % 3) << 10);
            memcpy(at + 2 * i, &half, 2);
        }
    };
    for (int64_t tile = 0; tile < m.w.tiles(); tile++) {
        uint8_t* span = m.bytes.get() + tile * m.w.tile_bytes;
        for (int64_t first = 0; first < groups; first += SPAN_GROUPS) {
            const int64_t count = lesser(groups - first, SPAN_GROUPS);
            uint8_t* beside = span + count * layout.code_bytes();
            for (int64_t g = 0; g < count; g++) {
                uint8_t* own = beside + g * layout.group_bytes();
                if (layout.beside == Beside::Scale || layout.beside == Beside::ScaleZero) halves(own, LANES);
                if (layout.beside == Beside::ScaleMinimum) halves(own, 2 * LANES);
            }
            halves(beside + count * layout.group_bytes(), layout.span_bytes() / 2);
            span += span_size(layout, count);
        }
    }
    return m;
}

struct Inputs {
    int64_t rows, columns, padded;
    Aligned<float> floats, scales;
    Aligned<int8_t> codes;
    Aligned<int32_t> sums;
    Aligned<uint16_t> bfloats;
    Inputs(int64_t r, int64_t c)
        : rows(r), columns(c), padded((c + 31) / 32 * 32), floats(r * c), scales(r * padded / 32), codes(r * padded), sums(r * padded / 16), bfloats(r * padded) {
        for (int64_t i = 0; i < r * c; i++) floats.get()[i] = random_float() * 3;
        quantise(floats.get(), c, r, c, padded, codes.get(), scales.get(), sums.get());
        to_bfloat16(floats.get(), c, r, c, padded, bfloats.get());
    }
    Rows from(int64_t row) const {
        return {floats.get() + row * columns, columns, bfloats.get() + row * padded, codes.get() + row * padded, scales.get() + row * padded / 32,
                sums.get() + row * padded / 16, padded};
    }
};

static void test_codes(Format format, int64_t outputs, int64_t columns, int64_t rows) {
    const Matrix m = random_codes(format, outputs, columns);
    const Inputs x(rows, columns);
    const int64_t tiles = m.w.tiles(), cut = tiles / 3, stride = outputs + 3;
    std::vector<float> bias(size_t(outputs), 0.5f), wanted(size_t(rows * stride), 7.0f), found(wanted);
    for (auto& b : bias) b = random_float();
    linear_codes(m.w, x.from(0), rows, 0, tiles, bias.data(), true, wanted.data(), stride);
    const Rows all = x.from(0);
    const Linear task = {m.w, all, bias.data(), true, found.data(), stride};
    linear_codes_tiled(task, rows, 0, cut);
    linear_codes_tiled(task, rows, cut, tiles);
    CHECK(memcmp(wanted.data(), found.data(), wanted.size() * 4) == 0, "format %d: %d x %d, %d rows", int(format), int(outputs), int(columns), int(rows));
}

static void test_bfloats(int64_t outputs, int64_t columns, int64_t rows) {
    Matrix m = room_for(Format::BF16, outputs, columns);
    std::vector<uint16_t> numbers(size_t(outputs * columns));
    for (auto& n : numbers) n = to_bf16(random_float());
    pack(Format::BF16, reinterpret_cast<const uint8_t*>(numbers.data()), columns * 2, outputs, columns, 0, m.w.tiles(), m.bytes.get());
    const Inputs x(rows, columns);
    std::vector<float> found(size_t(rows * outputs), 7.0f), again(found);
    const Rows all = x.from(0);
    linear_bfloats_tiled({m.w, all, nullptr, true, found.data(), outputs}, rows, 0, m.w.tiles());
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < outputs; o++) {
            double sum = 7, size = 7;
            for (int64_t i = 0; i < columns; i++) {
                const double product = double(from_bf16(numbers[size_t(o * columns + i)])) * double(from_bf16(x.bfloats.get()[r * x.padded + i]));
                sum += product, size += std::fabs(product);
            }
            const double got = double(found[size_t(r * outputs + o)]);
            CHECK(std::fabs(got - sum) <= 2e-6 * size, "%d x %d row %d output %d: %g, not %g", int(outputs), int(columns), int(r), int(o), got, sum);
        }
    for (int64_t count : {1, 3, 16, 21}) {
        for (int64_t r = 0; r < rows; r += count) {
            const Rows some = x.from(r);
            linear_bfloats_tiled({m.w, some, nullptr, true, again.data() + r * outputs, outputs}, lesser(count, rows - r), 0, m.w.tiles());
        }
        CHECK(memcmp(found.data(), again.data(), found.size() * 4) == 0, "%d rows by %d differ", int(rows), int(count));
        for (auto& y : again) y = 7;
    }
}

static void good(const Weight& w, const Rows& x, int64_t rows, int64_t first, int64_t last, const float* bias, bool add, float* y, int64_t stride) {
    const Linear task = {w, x, bias, add, y, stride};
    if (w.format == Format::BF16) linear_bfloats_tiled(task, rows, first, last);
    else linear_codes_tiled(task, rows, first, last);
}
template <Format FORMAT> static void bad(const Weight& w, const Rows& x, int64_t rows, int64_t first, int64_t last, const float* bias, bool add, float* y, int64_t stride) {
    good(w, x, rows, first, last, bias, add, y, stride);
    if (w.format == FORMAT) y[stride * (rows - 1)] += 0.01f;
}
static void codes_only(const Weight& w, const Rows& x, int64_t rows, int64_t first, int64_t last, const float* bias, bool add, float* y, int64_t stride) {
    linear_codes(w, x, rows, first, last, bias, add, y, stride);
}

static void test_proof() {
    Kernels plain = {};
    plain.quantise = quantise, plain.to_bfloat16 = to_bfloat16, plain.linear = codes_only;
    CHECK(proved({good, nullptr, nullptr}, plain), "right products are not taken");
    CHECK(!proved({bad<Format::Q8_0>, nullptr, nullptr}, plain), "wrong products of signed codes are taken");
    CHECK(!proved({bad<Format::INT8>, nullptr, nullptr}, plain), "wrong products of unsigned codes are taken");
    CHECK(!proved({bad<Format::Q6_K>, nullptr, nullptr}, plain), "wrong products of half groups are taken");
    CHECK(!proved({bad<Format::BF16>, nullptr, nullptr}, plain), "wrong products of bfloat16 are taken");
}

int main() {
#if defined(PADDOCK_AMX)
    if (syscall(SYS_arch_prctl, 0x1023L, 18L) != 0) return printf("the system grants no tile registers\n"), 1;
#endif
#define CODED(NAME) Format::NAME,
    for (Format format : {PADDOCK_CODED_FORMATS(CODED)}) {
        const bool parts = format == Format::INT4 || format == Format::INT8;
        const int64_t block = format >= Format::Q2_K && format <= Format::Q6_K ? 256 : 32;
        test_codes(format, 16, block, 16);
        test_codes(format, 50, block == 256 ? 768 : 13 * 32, 37);
        test_codes(format, 150, block == 256 ? 1280 : 32 * 33, 33);
        test_codes(format, 1, parts ? 353 : 512, 150);
    }
    for (int64_t columns : {1, 31, 32, 33, 300, 1100}) test_bfloats(columns == 1100 ? 150 : 35, columns, columns == 300 ? 150 : 37);
    test_bfloats(1, 17000, 1);
    test_proof();
    printf("%d checks, %d failed\n", checks, failures);
    return failures ? 1 : 0;
}
