// Products of bfloat16 matrices laid out on their way (training_products.h), through the table that bind_products.cpp calls,
// against plain computation in double: depths of one step and of several panels, joined of runs either way round, columns
// and rows that fill no register, rows with gaps, reductions of ranks from 1.
//   g++ -std=c++17 -O1 -ffp-contract=off -DPADDOCK_VARIANT=avx512bf16 (its flags) -Isrc/paddock/kernels/cpp
//       tests/kernels/cpp/test_products.cpp src/paddock/kernels/cpp/training_variant.cpp
// with -fsanitize=address,undefined too: every array has exactly the numbers that the contract promises. Sanitizers look
// into no masked load or store: what those reach ends where a page begins that nobody may touch.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "checking.h"
#include "training.h"

using namespace paddock;

namespace paddock {
namespace PADDOCK_VARIANT {
extern const Training training;
}
}  // namespace paddock
static const Products& native = PADDOCK_VARIANT::training.products;

static std::mt19937 generator(31);

static float normal() { return std::normal_distribution<float>()(generator); }
static int64_t below(int64_t n) { return std::uniform_int_distribution<int64_t>(0, n - 1)(generator); }
static int64_t up(int64_t count, int64_t to) { return (count + to - 1) / to * to; }

static double wide(uint16_t half) {
    const uint32_t bits = static_cast<uint32_t>(half) << 16;
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

static uint16_t brain(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

constexpr uint16_t NOBODY = 0x7fc0;  // NaN: what lies between rows, and what nobody may read

// Numbers right before a page that nobody may touch.
class Numbers {
public:
    explicit Numbers(int64_t count) : count_(count) {
        const int64_t page = sysconf(_SC_PAGESIZE), room = up(std::max<int64_t>(count, 1) * 2, page);
        bytes_ = static_cast<size_t>(room + page);
        void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED || mprotect(static_cast<uint8_t*>(memory) + room, static_cast<size_t>(page), PROT_NONE)) std::abort();
        memory_ = static_cast<uint8_t*>(memory);
        data_ = reinterpret_cast<uint16_t*>(memory_ + room) - count;
        std::fill(data_, data_ + count, NOBODY);
    }
    ~Numbers() { if (memory_) munmap(memory_, bytes_); }
    Numbers(Numbers&& other) noexcept : count_(other.count_), bytes_(other.bytes_), memory_(other.memory_), data_(other.data_) { other.memory_ = nullptr; }
    Numbers(const Numbers&) = delete;
    Numbers& operator=(const Numbers&) = delete;

    int64_t count() const { return count_; }
    uint16_t* data() { return data_; }
    const uint16_t* data() const { return data_; }
    uint16_t& operator[](int64_t i) { return data_[i]; }
    uint16_t operator[](int64_t i) const { return data_[i]; }

private:
    int64_t count_;
    size_t bytes_ = 0;
    uint8_t* memory_ = nullptr;
    uint16_t* data_ = nullptr;
};

// (rows, columns) of bfloat16, `row` numbers apart, that end with the last row's last number.
struct Sheet {
    int64_t rows, columns, row;
    Numbers x;

    Sheet(int64_t height, int64_t width, int64_t gap) : rows(height), columns(width), row(width + gap), x((height - 1) * (width + gap) + width) {
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t i = 0; i < columns; i++) x[r * row + i] = brain(normal());
        }
    }
    double at(int64_t r, int64_t i) const { return wide(x[r * row + i]); }
};

struct Freed {
    void operator()(void* memory) const { std::free(memory); }
};

static std::unique_ptr<void, Freed> scratch(const Product& task) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, static_cast<size_t>(native.scratch(task)))) std::abort();
    return std::unique_ptr<void, Freed>(memory);
}

// One stretch of depth: its left side, its right side, and how many steps of both are asked for.
struct Depth {
    int64_t steps;
    bool across;
};

// y = scale times joined left sides times joined right sides. Steps of the left side lie in another order than the runs.
static void test_product(int64_t rows, int64_t columns, const std::vector<Depth>& depths, float scale) {
    const int64_t vectors = up(columns, VECTOR);
    std::vector<Sheet> lefts, rights;
    std::vector<Run> runs;
    int64_t left_steps = below(3);  // steps of the left side that no run asks for
    for (const Depth& each : depths) {
        lefts.emplace_back(rows, 2 * each.steps, 2 * below(3));
        each.across ? rights.emplace_back(vectors, 2 * each.steps, 2 * below(4)) : rights.emplace_back(2 * each.steps, vectors, below(5));
        left_steps += each.steps;
    }
    std::vector<uint32_t> left(static_cast<size_t>(up(rows, LEFT_ROWS) * left_steps), 0x7fc07fc0);
    int64_t from = left_steps;
    for (size_t i = 0; i < depths.size(); i++) {
        from -= depths[i].steps;
        native.lay_left(lefts[i].x.data(), lefts[i].row, rows, depths[i].steps, left.data() + from * LEFT_ROWS, left_steps);
        runs.push_back({rights[i].x.data(), rights[i].row, from, depths[i].steps, depths[i].across});
    }
    const int64_t y_row = columns + below(4);
    Numbers y((rows - 1) * y_row + columns);
    const Product task = {left.data(), left_steps, rows, runs.data(), static_cast<int>(runs.size()), columns, y.data(), y_row, scale};
    const auto room = scratch(task);
    for (int64_t column = 0; column < columns; column += PANEL_VECTORS * VECTOR) native.product(task, column, room.get());
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < y_row && r * y_row + i < y.count(); i++) {
            const uint16_t found = y[r * y_row + i];
            if (i >= columns) {
                check(found == NOBODY, "a product writes only its columns", r, i);
                continue;
            }
            double sum = 0, size = 1e-6;
            for (size_t d = 0; d < depths.size(); d++) {
                for (int64_t p = 0; p < 2 * depths[d].steps; p++) {
                    const double term = lefts[d].at(r, p) * (depths[d].across ? rights[d].at(i, p) : rights[d].at(p, i));
                    sum += term, size += std::fabs(term);
                }
            }
            near(wide(found), sum * scale, std::fabs(sum * scale) / 256 + size * std::fabs(scale) * 1e-6, "product", r, i);
        }
    }
    // Whichever panel comes first, and whichever rows stand beside, a result has the same bits.
    const int64_t fewer = std::min(rows, LEFT_ROWS);
    Numbers again((fewer - 1) * y_row + columns);
    for (int64_t column = (columns - 1) / (PANEL_VECTORS * VECTOR) * PANEL_VECTORS * VECTOR; column >= 0; column -= PANEL_VECTORS * VECTOR) {
        Product one = task;
        one.rows = fewer, one.y = again.data();
        const auto less = scratch(one);
        native.product(one, column, less.get());
    }
    for (int64_t r = 0; r < fewer; r++) {
        check(std::memcmp(again.data() + r * y_row, y.data() + r * y_row, static_cast<size_t>(columns) * 2) == 0, "fewer rows", r, rows);
    }
}

// The gradient of one low-rank matrix among several: columns [first, first + count) of the narrow side.
static void test_reduce(int64_t rows, int64_t columns, int64_t left_width, int64_t first, int64_t count, bool turned, bool onto) {
    const Sheet narrow(rows, left_width, 0), x(rows, columns, below(5));
    std::vector<uint32_t> left(static_cast<size_t>(up(rows, 2) / 2 * left_width + LEFT_ROWS), 0x7fc07fc0);
    native.lay_pairs(narrow.x.data(), rows, left_width, left.data());
    const int64_t gap = below(3), y_row = turned ? 1 : columns + gap, y_column = turned ? count + gap : 1;
    std::vector<float> before(static_cast<size_t>((count - 1) * y_row + (columns - 1) * y_column + 1));
    for (float& value : before) value = onto ? normal() : NAN;
    std::vector<float> y = before;
    std::vector<bool> own(y.size());
    const Reduced task = {left.data() + first, left_width, count, x.x.data(), x.row, rows, columns, y.data(), y_row, y_column, onto};
    for (int64_t column = 0; column < columns; column += PANEL_VECTORS * VECTOR) native.reduce(task, column);
    for (int64_t r = 0; r < count; r++) {
        for (int64_t i = 0; i < columns; i++) {
            const size_t place = static_cast<size_t>(r * y_row + i * y_column);
            double sum = onto ? before[place] : 0, size = 1e-6 + std::fabs(sum);
            for (int64_t p = 0; p < rows; p++) sum += narrow.at(p, first + r) * x.at(p, i), size += std::fabs(narrow.at(p, first + r) * x.at(p, i));
            near(y[place], sum, size * 2e-6, "reduced", r, i);
            own[place] = true;
        }
    }
    for (size_t i = 0; i < y.size(); i++) check(own[i] || std::memcmp(&y[i], &before[i], 4) == 0, "a reduction writes only its own", static_cast<int64_t>(i), count);
}

int main() {
    if (!native.product) {
        check(!native.lay_left && !native.scratch && !native.lay_pairs && !native.reduce, "all of them or none");
        std::printf(failures ? "a table filled in part\n" : "no pairs of bfloat16 here: nothing to test\n");
        return failures ? 1 : 0;
    }
    for (int64_t rows : {1, 2, 7, 8, 9, 21}) {
        for (int64_t columns : {1, 15, 16, 17, 32, 33, 48, 49, 64, 95, 97, 113}) {
            const int64_t steps = 1 + below(40);
            test_product(rows, columns, {{steps, rows % 2 == 0}}, rows == 7 ? 0.37f : 1.0f);
        }
    }
    for (int64_t steps : {1, 7, 15, 16, 17, 31, 32, 33}) {
        test_product(5, 19, {{steps, true}}, 1), test_product(5, 19, {{steps, false}}, -2.5f);
        test_product(9, 50, {{steps, true}, {1, true}, {1, false}}, 1);
        test_product(3, 16, {{2, false}, {steps, true}, {steps, false}, {3, true}}, 0.5f);
    }
    test_product(10, 20, std::vector<Depth>(MOST_RUNS, {2, true}), 1);
    report("products");
    // A panel holds 2048 steps: one that is just filled, one more, runs that are cut in the middle.
    for (bool across : {true, false}) {
        test_product(3, 20, {{2047, across}}, 1), test_product(9, 1, {{2048, across}}, 1), test_product(2, 33, {{2049, across}}, 1);
        test_product(9, 50, {{2040, across}, {20, !across}, {1, true}}, 0.25f), test_product(1, 17, {{1000, across}, {3100, !across}, {60, across}}, 1);
    }
    report("panels");
    for (bool onto : {false, true}) {
        for (bool turned : {false, true}) {
            for (int64_t rows : {1, 2, 3, 16, 33}) {
                for (int64_t columns : {16, 32, 48, 64, 112}) test_reduce(rows, columns, 48, 2 * below(8), 1 + below(32), turned, onto);
            }
            for (int64_t rank : {1, 2, 7, 8, 9, 16, 17, 64}) test_reduce(5, 32, up(rank, 2), 0, rank, turned, onto);
        }
    }
    report("reductions");
    std::printf(failures ? "%d checks failed\n" : "all good\n", failures);
    return failures ? 1 : 0;
}
