// Operations on rows, forward and backward: norms, rotation, gated activations, cross-entropy.
#pragma once
#include "training_numbers.h"

namespace paddock {
namespace PADDOCK_VARIANT {

// Lanes past the end are zero in what is loaded, but not in x - mean.
PADDOCK_INLINE Floats within(Floats x, int64_t left) { return left < LANES ? first_only(x, left) : x; }
PADDOCK_INLINE Doubles within(Doubles x, int64_t left) {
    for (int64_t i = left; i < LANES; i++) x.v[i] = 0;
    return x;
}

// RMSNorm (arXiv 1910.07467), or with `mean` LayerNorm (arXiv 1607.06450), its variance around the mean found first.
// X: type of x; Y: type of y.
template <class X, class Y>
static void norm(const Normed& task, int64_t first, int64_t last) {
    using Real = typename X::Real;
    const int64_t width = task.width;
    const Real *weight = static_cast<const Real*>(task.weight), *bias = static_cast<const Real*>(task.bias);
    for (int64_t row = first; row < last; row++) {
        const auto* x = static_cast<const typename X::Stored*>(task.x) + row * width;
        auto* y = static_cast<typename Y::Stored*>(task.y) + row * width;
        Real mean = 0;
        if (task.mean) {
            auto sum = broadcast(Real());
            for (int64_t i = 0; i < width; i += LANES) sum = add(sum, X::get(x + i, width - i));
            mean = reduce_add(sum) / static_cast<Real>(width);
            static_cast<Real*>(task.mean)[row] = mean;
        }
        const auto centre = broadcast(mean);
        auto squares = broadcast(Real());
        for (int64_t i = 0; i < width; i += LANES) {
            const auto distance = within(sub(X::get(x + i, width - i), centre), width - i);
            squares = fma(distance, distance, squares);
        }
        const Real factor = Real(1) / square_root(reduce_add(squares) / static_cast<Real>(width) + static_cast<Real>(task.eps));
        static_cast<Real*>(task.factor)[row] = factor;
        const auto times = broadcast(factor);
        for (int64_t i = 0; i < width; i += LANES) {
            const int64_t left = width - i;
            auto result = mul(mul(sub(X::get(x + i, left), centre), times), load(weight + i, left));
            if (bias) result = add(result, load(bias + i, left));
            Y::put(y + i, result, left);
        }
    }
}

// With n the normal form and g = y_grad * weight: x_grad = factor (g - mean(g) - n mean(g n)), without mean(g) for RMSNorm.
template <class X, class Y>
static void norm_back(const Normed& task, int64_t first, int64_t last) {
    using Real = typename X::Real;
    const int64_t width = task.width;
    const Real* weight = static_cast<const Real*>(task.weight);
    Real *weight_grad = static_cast<Real*>(task.weight_grad), *bias_grad = static_cast<Real*>(task.bias_grad);
    for (int64_t row = first; row < last; row++) {
        const auto* x = static_cast<const typename X::Stored*>(task.x) + row * width;
        const auto* y_grad = static_cast<const typename Y::Stored*>(task.y_grad) + row * width;
        auto* x_grad = static_cast<typename X::Stored*>(task.x_grad) + row * width;
        const auto centre = broadcast(task.mean ? static_cast<const Real*>(task.mean)[row] : Real());
        const auto times = broadcast(static_cast<const Real*>(task.factor)[row]);
        auto along = broadcast(Real()), sum = broadcast(Real());
        for (int64_t i = 0; i < width; i += LANES) {
            const int64_t left = width - i;
            const auto normal = mul(sub(X::get(x + i, left), centre), times), grad = Y::get(y_grad + i, left);
            const auto weighted = mul(grad, load(weight + i, left));
            along = fma(weighted, normal, along);
            sum = add(sum, weighted);
            if (weight_grad) store(weight_grad + i, fma(grad, normal, load(weight_grad + i, left)), left);
            if (bias_grad) store(bias_grad + i, add(grad, load(bias_grad + i, left)), left);
        }
        const auto lean = broadcast(reduce_add(along) / static_cast<Real>(width));
        const auto shift = broadcast(task.mean ? reduce_add(sum) / static_cast<Real>(width) : Real());
        for (int64_t i = 0; i < width; i += LANES) {
            const int64_t left = width - i;
            const auto normal = mul(sub(X::get(x + i, left), centre), times);
            const auto weighted = mul(Y::get(y_grad + i, left), load(weight + i, left));
            X::put(x_grad + i, mul(times, sub(sub(weighted, shift), mul(normal, lean))), left);
        }
    }
}

template <class N>
static void rotate_pairs(const typename N::Stored* x, typename N::Stored* y, const Turned& token) {
    using Real = typename N::Real;
    const Real *cos = static_cast<const Real*>(token.cos), *sin = static_cast<const Real*>(token.sin);
    for (int64_t i = 0; i < token.width / 2; i++) {
        const Real even = N::get_one(x + 2 * i), odd = N::get_one(x + 2 * i + 1), s = token.back ? -sin[i] : sin[i];
        N::put_one(y + 2 * i, even * cos[i] - odd * s);
        N::put_one(y + 2 * i + 1, odd * cos[i] + even * s);
    }
}

template <class N>
static void rotate_halves(const typename N::Stored* x, typename N::Stored* y, const Turned& token) {
    using Real = typename N::Real;
    const int64_t half = token.width / 2;
    const Real *cos = static_cast<const Real*>(token.cos), *sin = static_cast<const Real*>(token.sin);
    const auto sign = broadcast(token.back ? Real(-1) : Real(1));
    for (int64_t i = 0; i < half; i += LANES) {
        const int64_t n = half - i;
        const auto first = N::get(x + i, n), second = N::get(x + half + i, n);
        const auto c = load(cos + i, n), s = mul(sign, load(sin + i, n));
        N::put(y + i, sub(mul(first, c), mul(second, s)), n);
        N::put(y + half + i, add(mul(second, c), mul(first, s)), n);
    }
}

template <class N>
static void rotate(const Turned& token) {
    for (int64_t head = 0; head < token.heads; head++) {
        const auto* x = static_cast<const typename N::Stored*>(token.x) + head * token.x_head;
        auto* y = static_cast<typename N::Stored*>(token.y) + head * token.y_head;
        token.interleaved ? rotate_pairs<N>(x, y, token) : rotate_halves<N>(x, y, token);
        for (int64_t i = token.width; i < token.head_dim; i++) y[i] = x[i];
    }
}

// An activation and its slope.
template <class Vector>
struct Curve {
    Vector value, slope;
};

template <Activation KIND, class Real, class Vector>
PADDOCK_INLINE Curve<Vector> curve(Vector x) {
    const Vector one = broadcast(Real(1)), zero = broadcast(Real(0));
    if constexpr (KIND == Activation::ReLU) return {max(zero, x), select_less(zero, x, one, zero)};
    if constexpr (KIND == Activation::SiLU) {
        const Vector s = div(one, add(one, exp(sub(zero, x)))), value = mul(x, s);
        return {value, add(s, mul(value, sub(one, s)))};
    }
    if constexpr (KIND == Activation::GELU) {
        const Vector below = normal_below(x), square = mul(mul(x, x), broadcast(Real(-0.5)));
        const Vector density = mul(exp(square), broadcast(Real(0.39894228040143267794)));
        return {mul(x, below), fma(x, density, below)};
    }
    // GELUTanh: x s(2u) with s the sigmoid, u = sqrt(2 / pi) (x + 0.044715 x^3).
    const Vector twice = broadcast(Real(2 * 0.79788456080286535588)), square = mul(x, x);
    const Vector u = mul(twice, fma(mul(square, x), broadcast(Real(0.044715)), x));
    const Vector s = div(one, add(one, exp(sub(zero, u)))), value = mul(x, s);
    const Vector inner = mul(twice, fma(square, broadcast(Real(3 * 0.044715)), one));
    return {value, fma(mul(value, sub(one, s)), inner, s)};
}

template <class N, class F>
static void with_curve(Activation kind, F f) {
    using Real = typename N::Real;
    using Vector = typename N::Vector;
    switch (kind) {
    case Activation::ReLU: return f([](Vector x) { return curve<Activation::ReLU, Real>(x); });
    case Activation::SiLU: return f([](Vector x) { return curve<Activation::SiLU, Real>(x); });
    case Activation::GELU: return f([](Vector x) { return curve<Activation::GELU, Real>(x); });
    default: return f([](Vector x) { return curve<Activation::GELUTanh, Real>(x); });
    }
}

template <class N>
static void gate(Activation kind, const void* gate, const void* up, int64_t count, void* out) {
    using Stored = typename N::Stored;
    const Stored *x = static_cast<const Stored*>(gate), *other = static_cast<const Stored*>(up);
    Stored* y = static_cast<Stored*>(out);
    with_curve<N>(kind, [&](auto curve) {
        for (int64_t i = 0; i < count; i += LANES) {
            auto value = curve(N::get(x + i, count - i)).value;
            if (other) value = mul(value, N::get(other + i, count - i));
            N::put(y + i, value, count - i);
        }
    });
}

template <class N>
static void gate_back(Activation kind, const void* gate, const void* up, const void* out_grad, int64_t count, void* gate_grad, void* up_grad) {
    using Stored = typename N::Stored;
    const Stored *x = static_cast<const Stored*>(gate), *other = static_cast<const Stored*>(up);
    const Stored* y_grad = static_cast<const Stored*>(out_grad);
    Stored *x_grad = static_cast<Stored*>(gate_grad), *other_grad = static_cast<Stored*>(up_grad);
    with_curve<N>(kind, [&](auto curve) {
        for (int64_t i = 0; i < count; i += LANES) {
            const int64_t n = count - i;
            const auto at = curve(N::get(x + i, n));
            auto grad = N::get(y_grad + i, n);
            if (other) {
                N::put(other_grad + i, mul(grad, at.value), n);
                grad = mul(grad, N::get(other + i, n));
            }
            N::put(x_grad + i, mul(grad, at.slope), n);
        }
    });
}

template <class N>
static void entropy(void* logits, int64_t count, int64_t target, bool grad, double loss_scale, double sum_scale, void* loss, void* log_sum) {
    using Real = typename N::Real;
    auto* x = static_cast<typename N::Stored*>(logits);
    const int64_t whole = count / LANES * LANES;
    Real most = static_cast<Real>(-INFINITY);
    auto high = broadcast(most);
    for (int64_t i = 0; i < whole; i += LANES) high = max(N::get(x + i, LANES), high);
    most = reduce_max(high);
    for (int64_t i = whole; i < count; i++) {
        const Real one = N::get_one(x + i);
        most = one > most ? one : most;
    }
    const auto top = broadcast(most);
    auto sums = broadcast(Real());
    for (int64_t i = 0; i < count; i += LANES) sums = add(sums, within(exp(sub(N::get(x + i, count - i), top)), count - i));
    const Real log_total = most + logarithm(reduce_add(sums));
    *static_cast<Real*>(loss) = log_total - N::get_one(x + target);
    *static_cast<Real*>(log_sum) = log_total;
    if (!grad) return;
    const auto total = broadcast(log_total), times = broadcast(static_cast<Real>(loss_scale + sum_scale));
    const Real own = (Real)::exp((double)(N::get_one(x + target) - log_total));
    for (int64_t i = 0; i < count; i += LANES) N::put(x + i, mul(times, exp(sub(N::get(x + i, count - i), total))), count - i);
    N::put_one(x + target, static_cast<Real>(loss_scale + sum_scale) * own - static_cast<Real>(loss_scale));
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
