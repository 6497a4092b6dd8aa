// One variant's operations for training, through the table that Python calls, against plain computation in double:
// attention, norms, rotation, gates, cross-entropy and NF4's levels, forward and backward, in every number type.
//   g++ -std=c++17 -O1 -ffp-contract=off -DPADDOCK_VARIANT=portable -Isrc/paddock/kernels/cpp
//       tests/kernels/cpp/test_training.cpp src/paddock/kernels/cpp/training_variant.cpp
// with -fsanitize=address,undefined too: every array has exactly the numbers that the contract promises.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "checking.h"
#include "training.h"

using namespace paddock;

namespace paddock {
namespace PADDOCK_VARIANT {
extern const Training training;
}
}  // namespace paddock
static const Training& native = PADDOCK_VARIANT::training;

static std::mt19937 generator(13);

static double normal() { return std::normal_distribution<double>()(generator); }
static int64_t below(int64_t n) { return std::uniform_int_distribution<int64_t>(0, n - 1)(generator); }

// --- numbers of each type ---

static float from_bits(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

// Numbers as memory holds them, at the end of their room: a sanitizer sees a step beyond. They begin one number behind an
// address that vectors like, so that an aligned store, which is nowhere promised, faults.
struct Numbers {
    Number type;
    std::vector<uint8_t> room;

    Numbers(Number kind, int64_t count) : type(kind), room(static_cast<size_t>((count + 1) * size())) {}
    int64_t size() const { return type == Number::F64 ? 8 : type == Number::F32 ? 4 : 2; }
    int64_t count() const { return static_cast<int64_t>(room.size()) / size() - 1; }
    void* data() { return room.data() + size(); }

    double get(int64_t i) const {
        const uint8_t* at = room.data() + (i + 1) * size();
        double wide;
        float single;
        uint16_t half;
        if (type == Number::F64) return std::memcpy(&wide, at, 8), wide;
        if (type == Number::F32) return std::memcpy(&single, at, 4), single;
        std::memcpy(&half, at, 2);
        return from_bits(static_cast<uint32_t>(half) << 16);
    }
    void set(int64_t i, double x) {
        uint8_t* at = room.data() + (i + 1) * size();
        const float single = static_cast<float>(x);
        if (type == Number::F64) std::memcpy(at, &x, 8);
        if (type == Number::F32) std::memcpy(at, &single, 4);
        if (type != Number::BF16) return;
        uint32_t bits;
        std::memcpy(&bits, &single, 4);
        if (!std::isnan(single)) bits += 0x7fff + (bits >> 16 & 1);
        const uint16_t half = static_cast<uint16_t>(bits >> 16);
        std::memcpy(at, &half, 2);
    }
    void fill(double x) {
        for (int64_t i = 0; i < count(); i++) set(i, x);
    }
};

static Numbers normals(Number type, int64_t count) {
    Numbers x(type, count);
    for (int64_t i = 0; i < count; i++) x.set(i, normal());
    return x;
}

static Number real(Number type) { return type == Number::F64 ? Number::F64 : Number::F32; }
static const TrainingOf& of(Number type) { return type == Number::F64 ? native.f64 : type == Number::F32 ? native.f32 : native.bf16; }
// What one number's rounding costs, and what a sum's roundings cost in units of its terms' sizes.
static double last_place(Number type) { return type == Number::F64 ? 1e-15 : type == Number::F32 ? 1.2e-7 : 1.0 / 256; }
static double rounding(Number type) { return type == Number::F64 ? 1e-13 : type == Number::F32 ? 4e-6 : 2.0 / 256; }

constexpr double NOBODY = 7;  // what lies between rows, and must stay

// (batch, heads, tokens, head_dim) with gaps between tokens, texts and heads.
struct Cube {
    int64_t batch, heads, tokens, dim, text, token;
    Numbers numbers;

    Cube(Number type, int64_t b, int64_t h, int64_t t, int64_t d, bool random)
        : batch(b), heads(h), tokens(t), dim(d), text(0), token(h * (d + 1) + below(4)), numbers(type, 0) {
        text = t * token + below(6);
        numbers = Numbers(type, (b - 1) * text + (t - 1) * token + (h - 1) * (d + 1) + d);
        numbers.fill(NOBODY);
        for_each([&](int64_t at) { numbers.set(at, random ? normal() : NAN); });
    }
    int64_t at(int64_t b, int64_t h, int64_t t, int64_t i) const { return b * text + t * token + h * (dim + 1) + i; }
    double get(int64_t b, int64_t h, int64_t t, int64_t i) const { return numbers.get(at(b, h, t, i)); }
    Heads view() { return {numbers.data(), text, dim + 1, token}; }
    template <class F>
    void for_each(F f) const {
        for (int64_t b = 0; b < batch; b++)
            for (int64_t t = 0; t < tokens; t++)
                for (int64_t h = 0; h < heads; h++)
                    for (int64_t i = 0; i < dim; i++) f(at(b, h, t, i));
    }
    // Nothing was written between the rows.
    void check_gaps(const char* what) const {
        std::vector<bool> own(static_cast<size_t>(numbers.count()));
        for_each([&](int64_t at) { own[static_cast<size_t>(at)] = true; });
        for (int64_t i = 0; i < numbers.count(); i++)
            if (!own[static_cast<size_t>(i)]) near(numbers.get(i), NOBODY, 1e-9, what, i);
    }
};

// --- attention ---

struct Case {
    int64_t batch, heads, kv_heads, queries, keys, head_dim;
    bool causal, documents;
};

// Sums with the sizes of their terms, which rounding errors are measured by.
struct Sums {
    std::vector<double> value, size;
    explicit Sums(int64_t count) : value(static_cast<size_t>(count)), size(static_cast<size_t>(count)) {}
    void add(int64_t at, double x, double most) {
        value[static_cast<size_t>(at)] += x;
        size[static_cast<size_t>(at)] += most;
    }
};

struct Attending {
    Number type;
    Case c;
    Cube q, k, v, out, out_grad, q_grad, k_grad, v_grad;
    Numbers log_sums;
    std::vector<int64_t> starts;
    double scale;

    Attending(Number kind, const Case& shape)
        : type(kind), c(shape), q(cube(c.heads, c.queries, true)), k(cube(c.kv_heads, c.keys, true)), v(cube(c.kv_heads, c.keys, true)),
          out(cube(c.heads, c.queries, false)), out_grad(cube(c.heads, c.queries, true)), q_grad(cube(c.heads, c.queries, false)),
          k_grad(cube(c.kv_heads, c.keys, false)), v_grad(cube(c.kv_heads, c.keys, false)),
          log_sums(real(kind), c.batch * c.heads * c.queries), scale(1 / std::sqrt(static_cast<double>(c.head_dim))) {
        for (int64_t i = 0; c.documents && i < c.batch * c.queries; i++) {
            const int64_t token = i % c.queries;
            starts.push_back(token && below(9) ? starts.back() : token);
        }
    }
    Cube cube(int64_t heads, int64_t tokens, bool random) const { return Cube(type, c.batch, heads, tokens, c.head_dim, random); }

    Attention task() {
        return {q.view(), k.view(), v.view(), out.view(), log_sums.data(), out_grad.view(), q_grad.view(), k_grad.view(), v_grad.view(),
                c.documents ? starts.data() : nullptr, c.heads, c.kv_heads, c.queries, c.keys, c.head_dim, c.causal, scale};
    }
    void run(bool backward) {
        const TrainingOf& native = of(type);
        const Attention all = task();
        const int64_t bytes = native.attention_scratch(all, backward);
        for (int64_t part = 0; part < c.batch * c.kv_heads; part++) {
            // Exactly as much as was asked for, full of what is not a number.
            std::unique_ptr<void, void (*)(void*)> scratch(std::aligned_alloc(64, static_cast<size_t>((bytes + 63) / 64 * 64)), std::free);
            std::memset(scratch.get(), 0xff, static_cast<size_t>(bytes));
            (backward ? native.attend_back : native.attend)(all, part / c.kv_heads, part % c.kv_heads, scratch.get());
        }
    }
    int64_t first(int64_t b, int64_t query) const { return c.documents ? starts[static_cast<size_t>(b * c.queries + query)] : 0; }
    int64_t last(int64_t query) const { return c.causal ? query + 1 : c.keys; }

    void compare(int64_t b, int64_t h) {
        const int64_t d = c.head_dim, kv = h / (c.heads / c.kv_heads);
        for (int64_t query = 0; query < c.queries; query++) {
            std::vector<double> scores;
            double most = -INFINITY, total = 0;
            for (int64_t key = first(b, query); key < last(query); key++) {
                double dot = 0;
                for (int64_t i = 0; i < d; i++) dot += q.get(b, h, query, i) * k.get(b, kv, key, i);
                scores.push_back(dot * scale);
                most = std::max(most, scores.back());
            }
            for (double& score : scores) total += score = std::exp(score - most);
            const int64_t row = (b * c.heads + h) * c.queries + query;
            near(log_sums.get(row), most + std::log(total), (1 + std::fabs(most)) * (type == Number::F64 ? 1e-13 : 2e-6), "log sum", query, c.head_dim);
            for (int64_t i = 0; i < d; i++) {
                double sum = 0, size = 0;
                for (size_t j = 0; j < scores.size(); j++) {
                    const double term = scores[j] / total * v.get(b, kv, first(b, query) + static_cast<int64_t>(j), i);
                    sum += term, size += std::fabs(term);
                }
                near(out.get(b, h, query, i), sum, rounding(type) * size + 1e-30, "attention", query, i);
            }
        }
    }

    // By the formulas of the gradient, from the stored result, as the backward pass promises.
    void compare_back(int64_t b, int64_t kv) {
        const int64_t d = c.head_dim, sharing = c.heads / c.kv_heads;
        Sums k_sums(c.keys * d), v_sums(c.keys * d);
        for (int64_t h = kv * sharing; h < (kv + 1) * sharing; h++) {
            for (int64_t query = 0; query < c.queries; query++) {
                Sums q_sums(d);
                double along = 0, along_size = 0;
                for (int64_t i = 0; i < d; i++) {
                    const double term = out.get(b, h, query, i) * out_grad.get(b, h, query, i);
                    along += term, along_size += std::fabs(term);
                }
                const double log_sum = log_sums.get((b * c.heads + h) * c.queries + query);
                for (int64_t key = first(b, query); key < last(query); key++) {
                    double dot = 0, grad = 0, grad_size = along_size;
                    for (int64_t i = 0; i < d; i++) {
                        const double term = out_grad.get(b, h, query, i) * v.get(b, kv, key, i);
                        dot += q.get(b, h, query, i) * k.get(b, kv, key, i), grad += term, grad_size += std::fabs(term);
                    }
                    const double weight = std::exp(dot * scale - log_sum), score = weight * (grad - along) * scale, size = weight * grad_size * scale;
                    for (int64_t i = 0; i < d; i++) {
                        const double from = out_grad.get(b, h, query, i), by_key = k.get(b, kv, key, i), by_query = q.get(b, h, query, i);
                        v_sums.add(key * d + i, weight * from, std::fabs(weight * from));
                        q_sums.add(i, score * by_key, std::fabs(size * by_key));
                        k_sums.add(key * d + i, score * by_query, std::fabs(size * by_query));
                    }
                }
                check(q_grad, b, h, query, q_sums, 0, "query's gradient");
            }
        }
        for (int64_t key = 0; key < c.keys; key++) {
            check(k_grad, b, kv, key, k_sums, key * d, "key's gradient");
            check(v_grad, b, kv, key, v_sums, key * d, "value's gradient");
        }
    }
    void check(const Cube& found, int64_t b, int64_t h, int64_t t, const Sums& sums, int64_t from, const char* what) const {
        for (int64_t i = 0; i < c.head_dim; i++) {
            const size_t at = static_cast<size_t>(from + i);
            near(found.get(b, h, t, i), sums.value[at], rounding(type) * sums.size[at] + 1e-30, what, t, i);
        }
    }
};

static void test_attention(Number type) {
    // More queries than a block's 64, fewer keys than a vector's 16, heads of one feature, and all in between.
    for (const Case& c : {Case{1, 1, 1, 1, 1, 1, true, false}, Case{2, 2, 1, 3, 3, 5, true, true}, Case{1, 3, 3, 17, 17, 16, true, false},
                          Case{2, 4, 2, 66, 66, 20, true, true}, Case{1, 2, 1, 131, 131, 33, true, true}, Case{1, 2, 2, 5, 19, 8, false, false},
                          Case{1, 2, 1, 70, 65, 17, false, false}, Case{1, 1, 1, 1, 130, 40, false, false}, Case{1, 1, 1, 64, 64, 64, true, false}}) {
        Attending a(type, c);
        a.run(false);
        for (int64_t b = 0; b < c.batch; b++)
            for (int64_t h = 0; h < c.heads; h++) a.compare(b, h);
        a.run(true);
        for (int64_t b = 0; b < c.batch; b++)
            for (int64_t kv = 0; kv < c.kv_heads; kv++) a.compare_back(b, kv);
        for (const Cube* each : {&a.out, &a.q_grad, &a.k_grad, &a.v_grad}) each->check_gaps("attention wrote between rows");
    }
    report("attention");
}

// --- norms ---

struct Norming {
    Number x_type, y_type;
    int64_t rows, width;
    bool layer, with_bias, with_sums;
    Numbers x, weight, bias, y, mean, factor, y_grad, x_grad, weight_grad, bias_grad;

    Norming(Number from, Number to, int64_t r, int64_t w, bool is_layer, bool bias_too, bool sums)
        : x_type(from), y_type(to), rows(r), width(w), layer(is_layer), with_bias(bias_too), with_sums(sums), x(normals(from, r * w)),
          weight(normals(real(from), w)), bias(normals(real(from), w)), y(to, r * w), mean(real(from), r), factor(real(from), r),
          y_grad(normals(to, r * w)), x_grad(from, r * w), weight_grad(normals(real(from), w)), bias_grad(normals(real(from), w)) {}

    void run() {
        const Numbers weights_before = weight_grad, biases_before = bias_grad;
        const Normed task = {x.data(), weight.data(), with_bias ? bias.data() : nullptr, y.data(), layer ? mean.data() : nullptr, factor.data(),
                             y_grad.data(), x_grad.data(), with_sums ? weight_grad.data() : nullptr, with_sums && with_bias ? bias_grad.data() : nullptr,
                             width, 1e-5};
        const bool narrow = x_type != y_type;
        const int64_t cut = below(rows + 1);
        for (const auto& part : {std::pair<int64_t, int64_t>{0, cut}, {cut, rows}}) (narrow ? native.norm_narrow : of(x_type).norm)(task, part.first, part.second);
        for (const auto& part : {std::pair<int64_t, int64_t>{0, cut}, {cut, rows}}) (narrow ? native.norm_narrow_back : of(x_type).norm_back)(task, part.first, part.second);
        Sums weights(width), biases(width);
        for (int64_t r = 0; r < rows; r++) compare(r, weights, biases);
        for (int64_t i = 0; i < width; i++) {
            const size_t at = static_cast<size_t>(i);
            const double old = weights_before.get(i), old_bias = biases_before.get(i), error = rounding(real(x_type));
            if (!with_sums) weights.value[at] = 0;
            if (!with_sums || !with_bias) biases.value[at] = 0;
            near(weight_grad.get(i), old + weights.value[at], error * (std::fabs(old) + weights.size[at]), "weight's gradient", i, width);
            near(bias_grad.get(i), old_bias + biases.value[at], error * (std::fabs(old_bias) + biases.size[at]), "bias's gradient", i, width);
        }
    }

    void compare(int64_t r, Sums& weights, Sums& biases) {
        const double n = static_cast<double>(width), error = 5 * rounding(real(x_type));
        double middle = 0, squares = 0, lean = 0, shift = 0, size = 0;
        for (int64_t i = 0; layer && i < width; i++) middle += x.get(r * width + i) / n;
        for (int64_t i = 0; i < width; i++) squares += (x.get(r * width + i) - middle) * (x.get(r * width + i) - middle) / n;
        const double times = 1 / std::sqrt(squares + 1e-5);
        near(factor.get(r), times, error * times * (1 + middle * middle * times * times), "factor", r, width);
        const auto normal_form = [&](int64_t i) { return (x.get(r * width + i) - middle) * times; };
        for (int64_t i = 0; i < width; i++) {
            const double grad = y_grad.get(r * width + i), weighted = grad * weight.get(i), y_here = normal_form(i) * weight.get(i) + (with_bias ? bias.get(i) : 0);
            const double scale = (std::fabs(normal_form(i)) + std::fabs(middle) * times) * std::fabs(weight.get(i)) + std::fabs(bias.get(i));
            near(y.get(r * width + i), y_here, (error + last_place(y_type)) * scale + 1e-30, "norm", i, width);
            weights.add(i, grad * normal_form(i), std::fabs(grad) * (std::fabs(normal_form(i)) + std::fabs(middle) * times));
            biases.add(i, grad, std::fabs(grad));
            lean += weighted * normal_form(i) / n, shift += layer ? weighted / n : 0;
            size += std::fabs(weighted) * (1 + std::fabs(normal_form(i))) / n;
        }
        for (int64_t i = 0; i < width; i++) {
            const double weighted = y_grad.get(r * width + i) * weight.get(i), expected = times * (weighted - shift - normal_form(i) * lean);
            // With one feature LayerNorm's slopes cancel to nothing: a rounding of x - mean is then times the factor.
            const double allowed = times * (std::fabs(weighted) + size * (1 + std::fabs(normal_form(i)))) * (1 + std::fabs(middle) * times);
            near(x_grad.get(r * width + i), expected, (error + last_place(x_type)) * allowed, "norm's gradient", i, width);
        }
    }
};

static void test_norms(Number from, Number to) {
    for (int64_t width : {1, 3, 16, 33, 100})
        for (int64_t rows : {0, 1, 5})
            for (int kind = 0; kind < 8; kind++) Norming(from, to, rows, width, kind & 1, kind & 2, kind & 4).run();
    report("norms");
}

// --- rotation, gates, cross-entropy ---

static void test_rotate(Number type) {
    for (int64_t head_dim : {2, 7, 20, 64}) {
        for (int64_t width : {int64_t{0}, int64_t{2}, head_dim / 4 * 2, head_dim / 2 * 2}) {
            for (int kind = 0; kind < 4; kind++) {
                const bool interleaved = kind & 1, back = kind & 2;
                const int64_t heads = 3, x_step = head_dim + 2, y_step = head_dim + 1, half = width / 2;
                Numbers x = normals(type, (heads - 1) * x_step + head_dim), y(type, (heads - 1) * y_step + head_dim);
                Numbers cos = normals(real(type), half), sin = normals(real(type), half);
                y.fill(NOBODY);
                of(type).rotate({x.data(), y.data(), heads, x_step, y_step, head_dim, width, cos.data(), sin.data(), interleaved, back});
                for (int64_t h = 0; h < heads; h++) {
                    for (int64_t i = 0; i < head_dim; i++) {
                        const double found = y.get(h * y_step + i), own = x.get(h * x_step + i);
                        if (i >= width) {
                            near(found, own, 1e-30, "features past the width", i, width);
                            continue;
                        }
                        const bool second = interleaved ? i % 2 : i >= half;
                        const int64_t pair = interleaved ? i / 2 : i % half, other = interleaved ? (i ^ 1) : second ? i - half : i + half;
                        const double left = own * cos.get(pair), right = x.get(h * x_step + other) * sin.get(pair) * (second == back ? -1 : 1);
                        near(found, left + right, (std::fabs(left) + std::fabs(right)) * 4 * last_place(type) + 1e-30, "rotation", i, width);
                    }
                    if (h + 1 < heads) near(y.get(h * y_step + head_dim), NOBODY, 1e-9, "rotation wrote between heads", h);
                }
            }
        }
    }
    report("rotation");
}

struct Curve {
    double value, slope;
};

static Curve curve(Activation kind, double x) {
    const double s = 1 / (1 + std::exp(-x));
    if (kind == Activation::ReLU) return {x > 0 ? x : 0, x > 0 ? 1.0 : 0.0};
    if (kind == Activation::SiLU) return {x * s, s + x * s * (1 - s)};
    if (kind == Activation::GELU) {
        const double below_x = std::erfc(-x / std::sqrt(2.0)) / 2;
        return {x * below_x, below_x + x * std::exp(-x * x / 2) / std::sqrt(2 * M_PI)};
    }
    const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x), t = std::tanh(u);
    return {x * (1 + t) / 2, (1 + t) / 2 + x / 2 * (1 - t * t) * std::sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x)};
}

static void test_gates(Number type) {
    for (Activation kind : {Activation::ReLU, Activation::SiLU, Activation::GELU, Activation::GELUTanh}) {
        for (int64_t count : {0, 1, 15, 16, 17, 33, 100}) {
            for (bool with_up : {false, true}) {
                Numbers x = normals(type, count), up = normals(type, with_up ? count : 0), grad = normals(type, count);
                Numbers y(type, count), x_grad(type, count), up_grad(type, with_up ? count : 0);
                for (int64_t i = 0; i < count; i += 5) x.set(i, x.get(i) * 10);
                void* other = with_up ? up.data() : nullptr;
                of(type).gate(kind, x.data(), other, count, y.data());
                of(type).gate_back(kind, x.data(), other, grad.data(), count, x_grad.data(), with_up ? up_grad.data() : nullptr);
                for (int64_t i = 0; i < count; i++) {
                    const Curve at = curve(kind, x.get(i));
                    const double factor = with_up ? up.get(i) : 1, from = grad.get(i), error = 3 * last_place(type), size = std::fabs(x.get(i)) + 1;
                    near(y.get(i), at.value * factor, error * std::fabs(factor) * size + 1e-30, "gate", i, count);
                    near(x_grad.get(i), from * factor * at.slope, error * std::fabs(from * factor) * size + 1e-30, "gate's gradient", i, count);
                    if (with_up) near(up_grad.get(i), from * at.value, error * std::fabs(from) * size + 1e-30, "up's gradient", i, count);
                }
            }
        }
    }
    report("gates");
}

static void test_entropy(Number type) {
    for (int64_t count : {1, 2, 15, 16, 17, 100, 1003}) {
        for (int round = 0; round < 6; round++) {
            const bool grad = round % 2;
            const double loss_scale = round < 2 ? 1 : normal(), sum_scale = round < 4 ? 0 : normal();
            Numbers logits = normals(type, count), loss(real(type), 1), log_sum(real(type), 1);
            for (int64_t i = 0; i < count; i++) logits.set(i, logits.get(i) * 4);
            const Numbers before = logits;
            const int64_t target = round == 0 ? count - 1 : below(count);
            of(type).entropy(logits.data(), count, target, grad, loss_scale, sum_scale, loss.data(), log_sum.data());
            double total = 0, most = 0;
            for (int64_t i = 0; i < count; i++) total += std::exp(before.get(i)), most = std::max(most, std::fabs(before.get(i)));
            const double allowed = 4 * last_place(real(type)) * (1 + most);
            near(log_sum.get(0), std::log(total), allowed, "log of the sum", count);
            near(loss.get(0), std::log(total) - before.get(target), 2 * allowed, "loss", count, target);
            for (int64_t i = 0; i < count; i++) {
                const double share = std::exp(before.get(i)) / total, size = std::fabs(loss_scale) + std::fabs(sum_scale);
                const double expected = grad ? share * (loss_scale + sum_scale) - (i == target ? loss_scale : 0) : before.get(i);
                near(logits.get(i), expected, grad ? (2 * allowed + last_place(type)) * size * (share + (i == target ? 1 : 0)) + 1e-30 : 1e-30, "loss's gradient", i, count);
            }
        }
    }
    report("entropy");
}

// --- NF4 ---

// arXiv 2305.14314: quantiles of the normal distribution, as its authors publish them.
static const float LEVELS[16] = {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f,
                                 -0.18477343022823334f, -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f,
                                 0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f,
                                 0.7229568362236023f, 1.0f};

static void test_levels() {
    for (int64_t block : {16, 64, 112}) {
        for (int64_t count : {int64_t{0}, int64_t{1}, int64_t{15}, int64_t{16}, int64_t{33}, int64_t{1000}, 300 * block + 7}) {
            for (bool nested : {false, true}) {
                const int64_t blocks = (count + block - 1) / block;
                std::vector<uint8_t> codes(static_cast<size_t>((count + 1) / 2)), scale_codes(static_cast<size_t>(nested ? blocks : 0));
                for (uint8_t& code : codes) code = static_cast<uint8_t>(below(256));
                for (uint8_t& code : scale_codes) code = static_cast<uint8_t>(below(256));
                std::vector<float> scales(static_cast<size_t>(nested ? (blocks + 255) / 256 : blocks)), levels(nested ? 256 : 0);
                for (float& x : scales) x = static_cast<float>(normal());
                for (float& x : levels) x = static_cast<float>(normal());
                const float offset = nested ? 0.25f : 0.0f;
                const Levelled task = {codes.data(), nested ? scale_codes.data() : nullptr, scales.data(), levels.data(), offset, block};
                Numbers wide(Number::F32, count), narrow(Number::BF16, count);
                const int64_t cut = below(blocks + 1) * block, middle = std::min(cut, count);
                for (const auto& part : {std::pair<int64_t, int64_t>{0, middle}, {middle, count}}) {
                    native.level(task, part.first, part.second, static_cast<float*>(wide.data()));
                    native.level_narrow(task, part.first, part.second, static_cast<uint16_t*>(narrow.data()));
                }
                for (int64_t i = 0; i < count; i++) {
                    const size_t at = static_cast<size_t>(i / block), byte = codes[static_cast<size_t>(i / 2)];
                    const double scale = nested ? static_cast<double>(levels[scale_codes[at]]) * scales[at / 256] + 0.25 : scales[at];
                    const double size = nested ? std::fabs(static_cast<double>(levels[scale_codes[at]]) * scales[at / 256]) + 0.25 : std::fabs(scale);
                    const double expected = static_cast<double>(LEVELS[i % 2 ? byte & 15 : byte >> 4]) * scale;
                    near(wide.get(i), expected, 4e-7 * size + 1e-30, "level", i, count);
                    near(narrow.get(i), wide.get(i), std::fabs(wide.get(i)) / 256 + 1e-30, "level in bfloat16", i, count);
                }
            }
        }
    }
    report("levels");
}

int main() {
    const char* names[] = {"float32", "bfloat16", "float64"};
    for (int type = 0; type < 3; type++) {
        std::printf("%s\n", names[type]);
        const Number number = static_cast<Number>(type);
        test_attention(number);
        test_norms(number, number);
        test_rotate(number);
        test_gates(number);
        test_entropy(number);
    }
    std::printf("float32 to bfloat16\n");
    test_norms(Number::F32, Number::BF16);
    test_levels();
    std::printf(failures ? "%d checks failed\n" : "all good\n", failures);
    return failures ? 1 : 0;
}
