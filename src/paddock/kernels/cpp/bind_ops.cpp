// The operations one by one, as the tests call them; models run through the recorded program.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <optional>

#include "arrays.h"
#include "bind.h"
#include "choose.h"
#include "pool.h"
#include "unlocked.h"
#include "weight.h"

namespace paddock {
namespace {

using Floats32 = nb::ndarray<nb::numpy, float>;

constexpr int64_t PADDING = 32, SUMMED = 16, TILES_OF_TASK = 8;

int64_t padded_to(int64_t columns) { return (columns + PADDING - 1) / PADDING * PADDING; }

// Zeroed memory aligned as a register is.
template <class T>
class Buffer {
public:
    explicit Buffer(int64_t count) : data_(new (std::align_val_t{64}) T[static_cast<size_t>(count)]()) {}
    T* get() { return data_.get(); }

private:
    struct Free {
        void operator()(T* memory) const { ::operator delete[](memory, std::align_val_t{64}); }
    };
    std::unique_ptr<T[], Free> data_;
};

const float* bias_of(const std::optional<Array>& bias, const char* name, int64_t count) {
    return bias ? data_of<float>(*bias, name, {count}) : nullptr;
}

Floats32 linear(const Array& x, const PackedWeight& weight, const std::optional<Array>& bias, const std::optional<Array>& onto) {
    int64_t rows, columns;
    const float* floats = matrix<float>(x, "x", rows, columns);
    if (columns != weight.columns) {
        refuse("x has " + std::to_string(columns) + " columns; expected the weight's " + std::to_string(weight.columns));
    }
    const float* added = bias_of(bias, "bias", weight.rows);
    const float* held = onto ? data_of<float>(*onto, "onto", {rows, weight.rows}) : nullptr;
    Made<float> out({rows, weight.rows});
    Unlocked unlocked;
    const Kernels& native = kernels();
    const int64_t padded = padded_to(columns);
    const Input form = input_of(weight.format);
    Buffer<int8_t> codes(form == Input::Codes ? rows * padded : 1);
    Buffer<float> scales(form == Input::Codes ? rows * padded / GROUP : 1);
    Buffer<int32_t> sums(form == Input::Codes ? rows * padded / SUMMED : 1);
    Buffer<uint16_t> bfloats(form == Input::BFloats ? rows * padded : 1);
    if (form == Input::Codes) native.quantise(floats, columns, rows, columns, padded, codes.get(), scales.get(), sums.get());
    if (form == Input::BFloats) native.to_bfloat16(floats, columns, rows, columns, padded, bfloats.get());
    if (held) std::copy(held, held + rows * weight.rows, out.data);
    const Rows inputs = {floats, columns, bfloats.get(), codes.get(), scales.get(), sums.get(), padded};
    const int64_t tasks = (weight.tiles() + TILES_OF_TASK - 1) / TILES_OF_TASK;
    parallel(tasks, [&](int64_t task, int) {
        const int64_t first = task * TILES_OF_TASK, last = std::min(first + TILES_OF_TASK, weight.tiles());
        native.linear(weight, inputs, rows, first, last, added, held != nullptr, out.data, weight.rows);
    });
    return out.array;
}

auto quantise(const Array& x) {
    int64_t rows, columns;
    const float* floats = matrix<float>(x, "x", rows, columns);
    const int64_t padded = padded_to(columns);
    Made<int8_t> codes({rows, padded});
    Made<float> scales({rows, padded / GROUP});
    Made<int32_t> sums({rows, padded / SUMMED});
    Unlocked unlocked;
    kernels().quantise(floats, columns, rows, columns, padded, codes.data, scales.data, sums.data);
    return std::make_tuple(codes.array, scales.array, sums.array);
}

nb::ndarray<nb::numpy, uint16_t> to_bfloat16(const Array& x) {
    int64_t rows, columns;
    const float* floats = matrix<float>(x, "x", rows, columns);
    Made<uint16_t> out({rows, padded_to(columns)});
    Unlocked unlocked;
    kernels().to_bfloat16(floats, columns, rows, columns, padded_to(columns), out.data);
    return out.array;
}

float checked_eps(double eps) {
    if (!(eps >= 0 && std::isfinite(eps))) refuse("eps must be a number from 0 on, not " + std::to_string(eps));
    return static_cast<float>(eps);
}

Floats32 rms_norm(const Array& x, const Array& weight, double eps) {
    int64_t rows, width;
    const float* floats = matrix<float>(x, "x", rows, width);
    const float* factors = data_of<float>(weight, "weight", {width});
    const float small = checked_eps(eps);
    Made<float> out({rows, width});
    Unlocked unlocked;
    for (int64_t row = 0; row < rows; ++row) kernels().rms_norm(floats + row * width, factors, small, width, out.data + row * width);
    return out.array;
}

Floats32 layer_norm(const Array& x, const Array& weight, const std::optional<Array>& bias, double eps) {
    int64_t rows, width;
    const float* floats = matrix<float>(x, "x", rows, width);
    const float* factors = data_of<float>(weight, "weight", {width});
    const float* added = bias_of(bias, "bias", width);
    const float small = checked_eps(eps);
    Made<float> out({rows, width});
    Unlocked unlocked;
    for (int64_t row = 0; row < rows; ++row) {
        kernels().layer_norm(floats + row * width, factors, added, small, width, out.data + row * width);
    }
    return out.array;
}

Activation activation_of(const std::string& name) {
    constexpr std::pair<const char*, Activation> KNOWN[] = {
        {"relu", Activation::ReLU}, {"silu", Activation::SiLU}, {"gelu", Activation::GELU},
        {"gelu_tanh", Activation::GELUTanh}, {"tanh", Activation::Tanh}, {"sigmoid", Activation::Sigmoid},
    };
    std::string names;
    for (const auto& [known, kind] : KNOWN) {
        if (name == known) return kind;
        names += (names.empty() ? "" : ", ") + std::string(known);
    }
    refuse("no activation " + name + "; there are " + names);
}

Floats32 activate(const std::string& kind, const Array& x) {
    const Activation activation = activation_of(kind);
    int64_t rows, width;
    const float* floats = matrix<float>(x, "x", rows, width);
    Made<float> out({rows, width});
    Unlocked unlocked;
    kernels().activate(activation, floats, rows * width, out.data);
    return out.array;
}

Floats32 gate(const std::string& kind, const Array& opened, const Array& up) {
    const Activation activation = activation_of(kind);
    int64_t rows, width;
    const float* gates = matrix<float>(opened, "gate", rows, width);
    const float* values = data_of<float>(up, "up", {rows, width});
    Made<float> out({rows, width});
    Unlocked unlocked;
    kernels().gate(activation, gates, values, rows * width, out.data);
    return out.array;
}

Floats32 rotate(const Array& x, const Array& cos, const Array& sin, bool interleaved) {
    const float* floats = data_of<float>(x, "x", {ANY, ANY, ANY});
    const std::vector<int64_t> shape = shape_of(x);
    const int64_t tokens = shape[0], heads = shape[1], head_dim = shape[2];
    const float* cosines = data_of<float>(cos, "cos", {tokens, ANY});
    const int64_t half = static_cast<int64_t>(cos.shape(1));
    const float* sines = data_of<float>(sin, "sin", {tokens, half});
    if (tokens < 1 || heads < 1 || half < 1 || half > head_dim / 2) {
        refuse("cannot turn " + std::to_string(2 * half) + " features of x " + shape_text(shape));
    }
    Made<float> out(shape);
    Unlocked unlocked;
    std::copy(floats, floats + tokens * heads * head_dim, out.data);
    for (int64_t token = 0; token < tokens; ++token) {
        kernels().rotate(out.data + token * heads * head_dim, heads, head_dim, 2 * half, cosines + token * half, sines + token * half, interleaved);
    }
    return out.array;
}

auto top_k(const Array& x, int64_t k) {
    const float* floats = data_of<float>(x, "x", {ANY});
    const int64_t count = static_cast<int64_t>(x.shape(0));
    if (k < 1 || k > count || count > INT32_MAX) refuse("cannot find the largest " + std::to_string(k) + " of " + std::to_string(count));
    Made<int32_t> indices({k});
    Made<float> values({k});
    Unlocked unlocked;
    kernels().top_k(floats, count, k, indices.data, values.data);
    return std::make_pair(indices.array, values.array);
}

double mass(const Array& x, float top, double temperature) {
    const float* floats = data_of<float>(x, "x", {ANY});
    if (x.shape(0) == 0) refuse("there are no values");
    if (!std::isfinite(top) || !(temperature > 0)) refuse("cannot divide by a temperature of " + std::to_string(temperature) + " below " + std::to_string(top));
    Unlocked unlocked;
    return kernels().mass(floats, static_cast<int64_t>(x.shape(0)), top, temperature);
}

}  // namespace

void bind_ops(nb::module_& module) {
    using namespace nb::literals;
    module.def("linear", &linear, "x"_a, "weight"_a, "bias"_a = nb::none(), "onto"_a = nb::none(),
               "float32 x (n, columns) times the weight's transpose, plus bias and what `onto` holds: (n, rows).");
    module.def("quantise", &quantise, "x"_a, "int8 codes (n, padded), scales of 32 each, sums of 16 codes each.");
    module.def("to_bfloat16", &to_bfloat16, "x"_a, "Bits of x as bfloat16, columns padded to 32 with zeros.");
    module.def("rms_norm", &rms_norm, "x"_a, "weight"_a, "eps"_a);
    module.def("layer_norm", &layer_norm, "x"_a, "weight"_a, "bias"_a.none(), "eps"_a);
    module.def("activate", &activate, "kind"_a, "x"_a);
    module.def("gate", &gate, "kind"_a, "gate"_a, "up"_a, "act(gate) * up.");
    module.def("rotate", &rotate, "x"_a, "cos"_a, "sin"_a, "interleaved"_a, "x (tokens, heads, head_dim) turned by angles (tokens, width / 2).");
    module.def("top_k", &top_k, "x"_a, "k"_a, "Indices and values of the k largest of a vector, largest first.");
    module.def("mass", &mass, "x"_a, "top"_a, "temperature"_a, "The sum of e^((x - top) / temperature), where no x is above `top`.");
}

}  // namespace paddock
