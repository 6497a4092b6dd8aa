// Operations of training as `kernels/gradients.py` calls them: addresses of tensors that it has looked at, not arrays, for
// a small model's step is hundreds of calls, and handing an array over costs more than some of them compute.
//
// Work is cut by shapes alone, and partial sums are added in order: threads change no bit of a result.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>

#include <algorithm>
#include <array>
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

using Place = std::array<int64_t, 4>;  // address, and strides in numbers: batch, head, token

constexpr int64_t PARTS = 16;           // of a norm's rows, each with its own sums for the weight
constexpr int64_t NUMBERS = 1 << 14;    // that one task of an element-wise operation does
struct OfAttention;

template <class T>
T* at(int64_t address) { return reinterpret_cast<T*>(static_cast<intptr_t>(address)); }

const TrainingOf& of(int64_t number) {
    if (number < 0 || number > 2) refuse("a number type is 0 (float32), 1 (bfloat16) or 2 (float64)");
    const Training& all = training();
    return number == 0 ? all.f32 : number == 1 ? all.bf16 : all.f64;
}

int64_t stored_size(int64_t number) { return number == 0 ? 4 : number == 1 ? 2 : 8; }
int64_t real_size(int64_t number) { return number == 2 ? 8 : 4; }

Activation kind_of(int64_t kind) {
    if (kind < 0 || kind > static_cast<int64_t>(Activation::GELUTanh)) refuse("no such activation");
    return static_cast<Activation>(kind);
}

// f(first, last) for parts of 0 .. count - 1 of `size` each.
template <class F>
void in_parts(int64_t count, int64_t size, F f) {
    parallel((count + size - 1) / size, [&](int64_t part, int) { f(part * size, std::min(part * size + size, count)); });
}

Heads heads_at(const Place& place) { return {at<void>(place[0]), place[1], place[2], place[3]}; }

struct Shape {
    int64_t batch, heads, kv_heads, queries, keys, head_dim;
};

Shape shape_of_heads(const std::array<int64_t, 6>& shape) {
    const Shape found = {shape[0], shape[1], shape[2], shape[3], shape[4], shape[5]};
    if (*std::min_element(shape.begin(), shape.end()) < 1 || found.heads % found.kv_heads) refuse("attention over nothing, or heads that cannot share");
    return found;
}

void run_attention(int64_t number, const Shape& shape, const Attention& task, bool backward) {
    for (int64_t i = 0; task.starts && i < shape.batch * shape.queries; ++i) {
        if (task.starts[i] < 0 || task.starts[i] > i % shape.queries) refuse("a document starts after its token");
    }
    if (!(task.scale > 0)) refuse("the scale of attention must be above 0");
    if (task.causal && shape.queries != shape.keys) refuse("causal attention is over the same tokens");
    if (task.starts && !task.causal) refuse("documents' starts go with causal attention");
    const TrainingOf& native = of(number);
    Unlocked unlocked;
    const int64_t bytes = native.attention_scratch(task, backward);
    const auto run = backward ? native.attend_back : native.attend;
    parallel(shape.batch * shape.kv_heads, [&](int64_t part, int) {
        run(task, part / shape.kv_heads, part % shape.kv_heads, scratch<OfAttention>(bytes));
    });
}

void attend(int64_t number, const std::array<int64_t, 6>& sizes, const Place& q, const Place& k, const Place& v, const Place& out,
            int64_t log_sums, int64_t starts, bool causal, double scale) {
    const Shape shape = shape_of_heads(sizes);
    const Attention task = {heads_at(q), heads_at(k), heads_at(v), heads_at(out), at<void>(log_sums), {}, {}, {}, {},
                            at<const int64_t>(starts), shape.heads, shape.kv_heads, shape.queries, shape.keys, shape.head_dim, causal, scale};
    run_attention(number, shape, task, false);
}

void attend_back(int64_t number, const std::array<int64_t, 6>& sizes, const Place& q, const Place& k, const Place& v, const Place& out,
                 int64_t log_sums, int64_t starts, bool causal, double scale, const Place& out_grad, const Place& q_grad,
                 const Place& k_grad, const Place& v_grad) {
    const Shape shape = shape_of_heads(sizes);
    const Attention task = {heads_at(q), heads_at(k), heads_at(v), heads_at(out), at<void>(log_sums), heads_at(out_grad),
                            heads_at(q_grad), heads_at(k_grad), heads_at(v_grad), at<const int64_t>(starts), shape.heads,
                            shape.kv_heads, shape.queries, shape.keys, shape.head_dim, causal, scale};
    run_attention(number, shape, task, true);
}

using NormLoop = void (*)(const Normed&, int64_t, int64_t);

void norm(int64_t number, bool narrow, int64_t rows, int64_t width, double eps, int64_t x, int64_t weight, int64_t bias, int64_t y,
          int64_t mean, int64_t factor) {
    const Normed task = {at<const void>(x), at<const void>(weight), at<const void>(bias), at<void>(y), at<void>(mean), at<void>(factor),
                         nullptr, nullptr, nullptr, nullptr, width, eps};
    const NormLoop run = narrow ? training().norm_narrow : of(number).norm;
    Unlocked unlocked;
    in_parts(rows, std::max<int64_t>(1, NUMBERS / width), [&](int64_t first, int64_t last) { run(task, first, last); });
}

template <class Real>
void norm_back_in(const NormLoop run, const Normed& task, int64_t rows) {
    const int64_t width = task.width, parts = std::min(PARTS, rows), size = (rows + parts - 1) / parts;
    Real *weight_grad = static_cast<Real*>(task.weight_grad), *bias_grad = static_cast<Real*>(task.bias_grad);
    if (!weight_grad) {  // a norm that stays as it is
        in_parts(rows, size, [&](int64_t first, int64_t last) { run(task, first, last); });
        return;
    }
    std::vector<Real> sums(static_cast<size_t>(parts * width * 2));
    in_parts(rows, size, [&](int64_t first, int64_t last) {
        Normed own = task;
        own.weight_grad = sums.data() + first / size * width * 2;
        own.bias_grad = bias_grad ? sums.data() + (first / size * 2 + 1) * width : nullptr;
        run(own, first, last);
    });
    for (int64_t part = 0; part < parts; ++part) {
        const Real* own = sums.data() + part * width * 2;
        for (int64_t i = 0; i < width; ++i) weight_grad[i] += own[i];
        for (int64_t i = 0; bias_grad && i < width; ++i) bias_grad[i] += own[width + i];
    }
}

void norm_back(int64_t number, bool narrow, int64_t rows, int64_t width, int64_t x, int64_t weight, int64_t mean, int64_t factor,
               int64_t y_grad, int64_t x_grad, int64_t weight_grad, int64_t bias_grad) {
    const Normed task = {at<const void>(x), at<const void>(weight), nullptr, nullptr, at<void>(mean), at<void>(factor),
                         at<const void>(y_grad), at<void>(x_grad), at<void>(weight_grad), at<void>(bias_grad), width, 0.0};
    const NormLoop run = narrow ? training().norm_narrow_back : of(number).norm_back;
    Unlocked unlocked;
    if (rows < 1) return;
    number == 2 ? norm_back_in<double>(run, task, rows) : norm_back_in<float>(run, task, rows);
}

void rotate(int64_t number, const std::array<int64_t, 5>& sizes, const Place& x, const Place& y, int64_t cos, int64_t sin,
            int64_t wave_batch, bool interleaved, bool back) {
    const int64_t batch = sizes[0], heads = sizes[1], tokens = sizes[2], head_dim = sizes[3], width = sizes[4];
    const TrainingOf& native = of(number);
    const int64_t stored = stored_size(number), real = real_size(number), wide = width / 2;
    Unlocked unlocked;
    in_parts(batch * tokens, std::max<int64_t>(1, NUMBERS / (heads * head_dim)), [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) {
            const int64_t text = i / tokens, token = i % tokens, angle = (text * wave_batch + token * wide) * real;
            native.rotate({at<const void>(x[0] + (text * x[1] + token * x[3]) * stored), at<void>(y[0] + (text * y[1] + token * y[3]) * stored),
                           heads, x[2], y[2], head_dim, width, at<const void>(cos + angle), at<const void>(sin + angle), interleaved, back});
        }
    });
}

// (rows, width) each, rows `step` numbers apart.
struct Strip {
    int64_t address, step;
    int64_t row(int64_t number, int64_t size) const { return address ? address + number * step * size : 0; }
};
using Pair = std::array<int64_t, 2>;

Strip strip_at(const Pair& pair) { return {pair[0], pair[1]}; }

void gate(int64_t number, int64_t kind, int64_t rows, int64_t width, const Pair& x, const Pair& up, const Pair& y) {
    const TrainingOf& native = of(number);
    const Activation known = kind_of(kind);
    const int64_t size = stored_size(number);
    const Strip from = strip_at(x), other = strip_at(up), to = strip_at(y);
    Unlocked unlocked;
    in_parts(rows, std::max<int64_t>(1, NUMBERS / width), [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) {
            native.gate(known, at<const void>(from.row(i, size)), at<const void>(other.row(i, size)), width, at<void>(to.row(i, size)));
        }
    });
}

void gate_back(int64_t number, int64_t kind, int64_t rows, int64_t width, const Pair& x, const Pair& up, const Pair& y_grad,
               const Pair& x_grad, const Pair& up_grad) {
    const TrainingOf& native = of(number);
    const Activation known = kind_of(kind);
    const int64_t size = stored_size(number);
    const Strip from = strip_at(x), other = strip_at(up), grad = strip_at(y_grad), to = strip_at(x_grad), to_other = strip_at(up_grad);
    Unlocked unlocked;
    in_parts(rows, std::max<int64_t>(1, NUMBERS / width), [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) {
            native.gate_back(known, at<const void>(from.row(i, size)), at<const void>(other.row(i, size)), at<const void>(grad.row(i, size)),
                             width, at<void>(to.row(i, size)), at<void>(to_other.row(i, size)));
        }
    });
}

void level(int64_t number, int64_t count, int64_t block, int64_t codes, int64_t scales, int64_t scale_codes, int64_t scale_levels,
           double offset, int64_t y) {
    if (number != 0 && number != 1) refuse("levels become float32 (0) or bfloat16 (1)");
    if (block < 16 || block % 16) refuse("a block of " + std::to_string(block) + " weights; expected a multiple of 16");
    const Levelled task = {at<const uint8_t>(codes), at<const uint8_t>(scale_codes), at<const float>(scales), at<const float>(scale_levels),
                           static_cast<float>(offset), block};
    const Training& native = training();
    Unlocked unlocked;
    in_parts(count, (NUMBERS + block - 1) / block * block, [&](int64_t first, int64_t last) {
        number == 0 ? native.level(task, first, last, at<float>(y)) : native.level_narrow(task, first, last, at<uint16_t>(y));
    });
}

void entropy(int64_t number, int64_t rows, int64_t count, int64_t logits, int64_t targets, int64_t losses, int64_t log_sums, bool grad,
             int64_t loss_scales, int64_t sum_scales) {
    const TrainingOf& native = of(number);
    const int64_t stored = stored_size(number), real = real_size(number);
    const auto scale = [&](int64_t scales, int64_t row, double without) {
        return !scales ? without : number == 2 ? at<const double>(scales)[row] : static_cast<double>(at<const float>(scales)[row]);
    };
    for (int64_t row = 0; row < rows; ++row) {
        const int64_t target = at<const int64_t>(targets)[row];
        if (target < 0 || target >= count) refuse("target " + std::to_string(target) + " of row " + std::to_string(row) + "; expected 0 to " + std::to_string(count - 1));
    }
    Unlocked unlocked;
    in_parts(rows, std::max<int64_t>(1, NUMBERS / count), [&](int64_t first, int64_t last) {
        for (int64_t row = first; row < last; ++row) {
            native.entropy(at<void>(logits + row * count * stored), count, at<const int64_t>(targets)[row], grad, scale(loss_scales, row, 1.0),
                           scale(sum_scales, row, 0.0), at<void>(losses + row * real), at<void>(log_sums + row * real));
        }
    });
}

}  // namespace

void bind_training(nb::module_& module) {
    module.def("train_attend", &attend);
    module.def("train_attend_back", &attend_back);
    module.def("train_norm", &norm);
    module.def("train_norm_back", &norm_back);
    module.def("train_rotate", &rotate);
    module.def("train_gate", &gate);
    module.def("train_gate_back", &gate_back);
    module.def("train_entropy", &entropy);
    module.def("train_level", &level);
}

}  // namespace paddock
