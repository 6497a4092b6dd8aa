// Linears whose matrices stay, with low-rank matrices beside them, as `kernels/gradients_pairs.py` calls them: addresses of
// tensors that it has looked at. Work is cut by shapes alone, and every sum has one order: threads change no bit.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "arrays.h"
#include "bind.h"
#include "choose.h"
#include "pool.h"
#include "scratch.h"
#include "training.h"
#include "unlocked.h"

namespace paddock {
namespace {

constexpr int64_t ROWS_AT_ONCE = 512, ROWS_OF_TASK = 64, WIDE = PANEL_VECTORS * VECTOR;
struct OfPanel;
struct OfLeft;

template <class T>
T* at(int64_t address) { return reinterpret_cast<T*>(static_cast<intptr_t>(address)); }

int64_t up(int64_t count, int64_t to) { return (count + to - 1) / to * to; }
int64_t panels(int64_t columns) { return (columns + WIDE - 1) / WIDE; }

uint16_t narrow(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x40);
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// A (rank, width) float32, its gradient or 0.
using GivenLow = std::array<int64_t, 3>;
// Of a linear: W (out, width) bfloat16; out; its bias (out,) bfloat16 or 0; y or its gradient (rows, out) bfloat16, and how
// many numbers its rows are apart; the number of its A or -1; B (out, rank) float32 and its gradient or 0.
using GivenPart = std::array<int64_t, 8>;

struct Low {
    const float* a;
    int64_t rank, at;  // its first column among all
    float* a_grad;
};

struct Part {
    const uint16_t *weight, *bias;
    int64_t out;
    uint16_t* y;
    int64_t y_row, own;
    const float* b;
    float* b_grad;
    int64_t from;                 // backward: the step of the joined gradients where its own begin
    std::vector<uint16_t> low;    // B (out, its rank in whole vectors)
    std::vector<uint16_t> biases;  // (out, 2): the bias, and 0
};

struct Linears {
    std::vector<Part> parts;
    std::vector<Low> lows;
    std::vector<uint16_t> a;      // all A's, (width_low, width)
    int64_t rows, width, low_width = 0, outs = 0;
    float scale;
    bool biased = false;

    int64_t low_row(const Part& part) const { return up(lows[static_cast<size_t>(part.own)].rank, VECTOR); }
};

Linears linears_of(int64_t rows, int64_t width, const std::vector<GivenLow>& lows, const std::vector<GivenPart>& parts, double scale) {
    if (!training().products.product) refuse("this processor multiplies no pairs of bfloat16");
    if (rows < 1 || width < VECTOR || width % VECTOR) refuse("linears of whole vectors of 16 numbers are expected");
    if (parts.empty() || parts.size() + 2 > static_cast<size_t>(MOST_RUNS)) refuse("too many linears of one input, or none");
    Linears all;
    all.rows = rows, all.width = width;
    all.scale = static_cast<float>(scale);
    for (const auto& [a, rank, a_grad] : lows) {
        if (rank < 1) refuse("a rank below 1");
        all.lows.push_back({at<const float>(a), rank, all.low_width, at<float>(a_grad)});
        all.low_width += up(rank, 2);
    }
    all.low_width = up(all.low_width, VECTOR);
    all.a.resize(static_cast<size_t>(all.low_width * width));
    for (const Low& low : all.lows) std::transform(low.a, low.a + low.rank * width, all.a.data() + low.at * width, narrow);
    for (const auto& [weight, out, bias, y, y_row, own, b, b_grad] : parts) {
        if (out < VECTOR || out % VECTOR || own >= static_cast<int64_t>(lows.size())) refuse("linears of whole vectors of 16 numbers are expected");
        Part part = {at<const uint16_t>(weight), at<const uint16_t>(bias), out, at<uint16_t>(y), y_row, own, at<const float>(b), at<float>(b_grad), all.outs / 2, {}, {}};
        if (own >= 0) {
            const int64_t rank = all.lows[static_cast<size_t>(own)].rank, row = up(rank, VECTOR);
            part.low.resize(static_cast<size_t>(out * row));
            for (int64_t i = 0; i < out; ++i) std::transform(part.b + i * rank, part.b + (i + 1) * rank, part.low.data() + i * row, narrow);
        }
        if (part.bias) {
            part.biases.resize(static_cast<size_t>(out * 2));
            for (int64_t i = 0; i < out; ++i) part.biases[static_cast<size_t>(2 * i)] = part.bias[i];
        }
        all.biased = all.biased || part.bias;
        all.outs += out;
        all.parts.push_back(std::move(part));
    }
    return all;
}

// f(first, count) for blocks of rows of nearly one size.
template <class F>
void in_blocks(int64_t rows, F f) {
    const int64_t blocks = (rows + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE, size = up((rows + blocks - 1) / blocks, LEFT_ROWS);
    for (int64_t first = 0; first < rows; first += size) f(first, std::min(size, rows - first));
}

void run(const Product& task, int64_t column) {
    const Products& products = training().products;
    products.product(task, column, scratch<OfPanel>(products.scratch(task)));
}

// The left side's rows [first, first + count) of a block.
uint32_t* group_of(uint32_t* left, int64_t first, int64_t steps) { return left + first * steps; }

void forward_block(const Linears& all, const uint16_t* x, uint16_t* low, int64_t first, int64_t rows) {
    const Products& products = training().products;
    const int64_t width = all.width / 2, lows = all.low_width / 2, steps = width + lows + all.biased;
    uint32_t* left = static_cast<uint32_t*>(scratch<OfLeft>(up(rows, LEFT_ROWS) * steps * 4));
    x += first * all.width, low += first * all.low_width;
    const Run across = {all.a.data(), all.width, 0, width, true};
    parallel((rows + ROWS_OF_TASK - 1) / ROWS_OF_TASK, [&](int64_t task, int) {
        const int64_t begin = task * ROWS_OF_TASK, count = std::min(ROWS_OF_TASK, rows - begin);
        uint32_t* own = group_of(left, begin, steps);
        products.lay_left(x + begin * all.width, all.width, count, width, own, steps);
        const Product lowered = {own, steps, count, &across, 1, all.low_width, low + begin * all.low_width, all.low_width, all.scale};
        for (int64_t column = 0; column < all.low_width; column += WIDE) run(lowered, column);
        products.lay_left(low + begin * all.low_width, all.low_width, count, lows, own + width * LEFT_ROWS, steps);
        for (int64_t i = 0; all.biased && i < up(count, LEFT_ROWS); ++i) own[(i / LEFT_ROWS * steps + steps - 1) * LEFT_ROWS + i % LEFT_ROWS] = 0x3f80;  // 1, 0
    });
    int64_t tasks = 0;
    for (const Part& part : all.parts) tasks += panels(part.out);
    parallel(tasks, [&](int64_t task, int) {
        const Part* part = all.parts.data();
        for (; task >= panels(part->out); ++part) task -= panels(part->out);
        Run runs[3] = {{part->weight, all.width, 0, width, true}};
        int count = 1;
        if (part->own >= 0) {
            const Low& own = all.lows[static_cast<size_t>(part->own)];
            runs[count++] = {part->low.data(), all.low_row(*part), width + own.at / 2, up(own.rank, 2) / 2, true};
        }
        if (part->bias) runs[count++] = {part->biases.data(), 2, steps - 1, 1, true};
        run({left, steps, rows, runs, count, part->out, part->y + first * part->y_row, part->y_row, 1.0f}, task * WIDE);
    });
}

// The gradients of all x A^T in a block, scaled, beside those of all y on the left side.
void lower_grads(const Linears& all, uint32_t* left, int64_t steps, uint16_t* low_grads, int64_t first, int64_t rows) {
    const Products& products = training().products;
    parallel((rows + ROWS_OF_TASK - 1) / ROWS_OF_TASK, [&](int64_t task, int) {
        const int64_t begin = task * ROWS_OF_TASK, count = std::min(ROWS_OF_TASK, rows - begin);
        uint32_t* own = group_of(left, begin, steps);
        uint16_t* lowered = low_grads + begin * all.low_width;
        std::fill(lowered, lowered + count * all.low_width, uint16_t{0});
        for (const Part& part : all.parts) products.lay_left(part.y + (first + begin) * part.y_row, part.y_row, count, part.out / 2, own + part.from * LEFT_ROWS, steps);
        for (size_t number = 0; number < all.lows.size(); ++number) {
            const Low& low = all.lows[number];
            Run runs[MOST_RUNS];
            int users = 0;
            for (const Part& part : all.parts) {
                if (part.own == static_cast<int64_t>(number)) runs[users++] = {part.low.data(), all.low_row(part), part.from, part.out / 2, false};
            }
            const Product product = {own, steps, count, runs, users, low.rank, lowered + low.at, all.low_width, all.scale};
            for (int64_t column = 0; column < low.rank; column += WIDE) run(product, column);
        }
        products.lay_left(lowered, all.low_width, count, all.low_width / 2, own + all.outs / 2 * LEFT_ROWS, steps);
    });
}

void backward_block(const Linears& all, const uint16_t* x, const uint16_t* low, uint16_t* x_grad, int64_t first, int64_t rows) {
    const Products& products = training().products;
    const int64_t width = all.low_width, steps = (all.outs + width) / 2, pairs = up(rows, 2) / 2 * width + LEFT_ROWS;
    const int64_t whole = up(rows, LEFT_ROWS) * steps;
    uint32_t* left = static_cast<uint32_t*>(scratch<OfLeft>((whole + 2 * pairs + rows * width) * 4));
    uint32_t *grads_of = left + whole, *lows_of = grads_of + pairs;
    uint16_t* low_grads = reinterpret_cast<uint16_t*>(lows_of + pairs);
    lower_grads(all, left, steps, low_grads, first, rows);
    products.lay_pairs(low_grads, rows, width, grads_of);
    products.lay_pairs(low + first * width, rows, width, lows_of);
    Run runs[MOST_RUNS];
    int count = 0;
    for (const Part& part : all.parts) runs[count++] = {part.weight, all.width, part.from, part.out / 2, false};
    if (width) runs[count++] = {all.a.data(), all.width, all.outs / 2, width / 2, false};
    const int64_t back = x_grad ? panels(all.width) : 0, inner = x ? panels(all.width) : 0;
    int64_t tasks = back + inner;
    for (const Part& part : all.parts) tasks += part.b_grad ? panels(part.out) : 0;
    parallel(tasks, [&](int64_t task, int) {
        if (task < back) {
            run({left, steps, rows, runs, count, all.width, x_grad + first * all.width, all.width, 1.0f}, task * WIDE);
            return;
        }
        task -= back;
        if (task < inner) {
            for (const Low& each : all.lows) {
                if (each.a_grad) products.reduce({grads_of + each.at, width, each.rank, x + first * all.width, all.width, rows, all.width, each.a_grad, all.width, 1, first > 0}, task * WIDE);
            }
            return;
        }
        task -= inner;
        for (const Part& part : all.parts) {
            const int64_t own = part.b_grad ? panels(part.out) : 0;
            if (task < own) {
                const Low& each = all.lows[static_cast<size_t>(part.own)];
                products.reduce({lows_of + each.at, width, each.rank, part.y + first * part.y_row, part.y_row, rows, part.out, part.b_grad, 1, each.rank, first > 0}, task * WIDE);
                return;
            }
            task -= own;
        }
    });
}

int64_t low_width(const std::vector<int64_t>& ranks) {
    int64_t width = 0;
    for (const int64_t rank : ranks) width += up(rank, 2);
    return up(width, VECTOR);
}

// y = x W^T + bias + low B^T of every part, and low (rows, low_width) = scale x A^T, all bfloat16.
void adapted(int64_t rows, int64_t width, int64_t x, const std::vector<GivenLow>& lows, const std::vector<GivenPart>& parts, double scale, int64_t low) {
    const Linears all = linears_of(rows, width, lows, parts, scale);
    Unlocked unlocked;
    in_blocks(rows, [&](int64_t first, int64_t count) { forward_block(all, at<const uint16_t>(x), at<uint16_t>(low), first, count); });
}

// x: 0 where no A asks for a gradient; x_grad: 0 where x does not.
void adapted_back(int64_t rows, int64_t width, int64_t x, const std::vector<GivenLow>& lows, const std::vector<GivenPart>& parts, double scale, int64_t low, int64_t x_grad) {
    const Linears all = linears_of(rows, width, lows, parts, scale);
    Unlocked unlocked;
    in_blocks(rows, [&](int64_t first, int64_t count) { backward_block(all, at<const uint16_t>(x), at<const uint16_t>(low), at<uint16_t>(x_grad), first, count); });
}

}  // namespace

void bind_products(nb::module_& module) {
    module.def("train_pairs", [] { return training().products.product != nullptr; });
    module.def("train_low_width", &low_width);
    module.def("train_adapted", &adapted);
    module.def("train_adapted_back", &adapted_back);
}

}  // namespace paddock
