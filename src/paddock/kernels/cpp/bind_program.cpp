// Python's side of recording programs. Everything a caller can get wrong is refused here.
#include "bind_program.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>

#include "unlocked.h"

namespace paddock {

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

std::vector<float> copied(const Floats& values) { return {values.data(), values.data() + values.size()}; }

Activation activation_named(const std::string& name) {
    if (name == "relu") return Activation::ReLU;
    if (name == "silu") return Activation::SiLU;
    if (name == "gelu") return Activation::GELU;
    if (name == "gelu_tanh") return Activation::GELUTanh;
    if (name == "tanh") return Activation::Tanh;
    throw std::invalid_argument("unknown activation " + name);
}

CacheType cache_type_named(const std::string& name) {
    if (name == "float32") return CacheType::F32;
    if (name == "float16") return CacheType::F16;
    if (name == "bfloat16") return CacheType::BF16;
    if (name == "int8") return CacheType::INT8;
    throw std::invalid_argument("unknown cache type " + name);
}

Format plain_format(const std::string& name) {
    if (name == "float32") return Format::F32;
    if (name == "float16") return Format::F16;
    if (name == "bfloat16") return Format::BF16;
    throw std::invalid_argument("unknown number type " + name);
}

void check_room(int64_t blocks, const Shapes& shapes) {
    require(blocks > 0 && blocks < (int64_t{1} << 31), "a cache needs blocks");
    int64_t room = 0;
    for (const auto& [heads, dim] : shapes) {
        require(heads > 0 && dim > 0 && heads < (1 << 24) && dim < (1 << 24) && heads * dim < (1 << 24), "a layer without heads");
        room += heads * dim;
        require(room <= (int64_t{1} << 52) / blocks, "a cache larger than any memory");  // no product wraps
    }
}

int checked(const Program& program, int reg) {
    require(!program.finished(), "the program is finished");
    require(reg >= 0 && reg < static_cast<int>(program.widths.size()), "no such register");
    return reg;
}

RowKind kind_of(const Program& program, int reg) { return program.kinds[static_cast<size_t>(checked(program, reg))]; }
int64_t width_of(const Program& program, int reg) { return program.widths[static_cast<size_t>(checked(program, reg))]; }

// A new register for what `op` gives, of the same kind of rows as its input.
int emit(Program& program, Instruction op, int64_t width) {
    op.out = program.make_register(width, kind_of(program, op.a));
    program.instructions.push_back(std::move(op));
    return program.instructions.back().out;
}

Instruction unary(Op kind, int a) {
    Instruction op{};
    op.op = kind;
    op.a = a;
    return op;
}

int binary(Program& program, Op kind, int a, int b, Activation activation = Activation::SiLU) {
    require(width_of(program, a) == width_of(program, b) && kind_of(program, a) == kind_of(program, b), "two values of different shapes");
    Instruction op = unary(kind, a);
    op.b = b;
    op.activation = activation;
    return emit(program, std::move(op), width_of(program, a));
}

int linear(Program& program, int a, std::shared_ptr<PackedWeight> weight, const std::optional<Floats>& bias) {
    require(width_of(program, a) == weight->columns, "a matrix of other columns than its input's width");
    require(!bias || static_cast<int64_t>(bias->size()) == weight->rows, "a bias of another length than the matrix has rows");
    Instruction op = unary(Op::Linear, a);
    if (bias) op.vector = copied(*bias);
    const int64_t rows = weight->rows;
    op.weight = std::move(weight);
    return emit(program, std::move(op), rows);
}

int norm(Program& program, int a, const Floats& weight, const std::optional<Floats>& bias, float eps, bool rms) {
    const size_t width = static_cast<size_t>(width_of(program, a));
    require(weight.size() == width && (!bias || bias->size() == width), "a norm of another width than its input");
    Instruction op = unary(Op::Norm, a);
    op.vector = copied(weight);
    if (bias) op.vector2 = copied(*bias);
    op.x = eps;
    op.flag = rms;
    return emit(program, std::move(op), static_cast<int64_t>(width));
}

int embed(Program& program, Table table, bool by_position) {
    require(!program.finished(), "the program is finished");
    Instruction op = unary(Op::Embed, -1);
    op.flag = by_position;
    op.table = static_cast<int>(program.tables.size());
    op.out = program.make_register(table.columns, RowKind::Tokens);
    program.tables.push_back(std::move(table));
    program.instructions.push_back(std::move(op));
    return program.instructions.back().out;
}

// `own`: a run gives the frequencies, each sequence's own; these only say how many.
int angles(Program& program, const Floats& frequencies, float gain, int64_t start, int64_t stream, bool narrow, bool own) {
    const int64_t count = static_cast<int64_t>(frequencies.size());
    require(!program.finished() && count > 0, "no frequencies");
    require(start >= 0 && start < (int64_t{1} << 31), "positions below 0, or beyond all");
    require(stream >= 0 && stream < 2, "tokens have one position or two");
    require(!own || program.rates == 0 || program.rates == count, "other frequencies of each sequence than before");
    Angles made;
    made.frequencies = copied(frequencies);
    made.gain = gain;
    made.start = start;
    made.stream = stream;
    made.narrow = narrow;
    made.own = own;
    program.angles.push_back(std::move(made));
    program.streams = std::max(program.streams, stream + 1);
    if (own) program.rates = count;
    return static_cast<int>(program.angles.size()) - 1;
}

int rotate(Program& program, int a, int angles, int64_t heads, int64_t head_dim, bool interleaved, int64_t first) {
    require(kind_of(program, a) == RowKind::Tokens && heads > 0 && heads <= width_of(program, a) && head_dim <= width_of(program, a) &&
                width_of(program, a) == heads * head_dim, "heads that do not fill their register");
    require(angles >= 0 && angles < static_cast<int>(program.angles.size()), "no such angles");
    const int64_t turned = 2 * static_cast<int64_t>(program.angles[static_cast<size_t>(angles)].frequencies.size());
    require(first >= 0 && first <= head_dim && turned <= head_dim - first, "more features turn than a head has");
    Instruction op = unary(Op::Rotate, a);
    op.table = angles;
    op.heads = heads;
    op.head_dim = head_dim;
    op.first = first;
    op.flag = interleaved;
    return emit(program, std::move(op), heads * head_dim);
}

const CacheLayer& layer_of(const Program& program, int64_t layer) {
    require(program.cache != nullptr, "the program has no cache");
    require(layer >= 0 && layer < program.cache->layers(), "no such layer");
    return program.cache->layer(layer);
}

// Key-value heads of a layer, of the program's cache or of its sources, and their width.
std::pair<int64_t, int64_t> shape_of(const Program& program, int64_t layer, bool crossed) {
    if (!crossed) {
        const CacheLayer& found = layer_of(program, layer);
        return {found.kv_heads, found.head_dim};
    }
    require(layer >= 0 && layer < static_cast<int64_t>(program.crossed.size()), "no such layer of a source");
    return program.crossed[static_cast<size_t>(layer)];
}

void store(Program& program, int k, int v, int64_t layer, bool crossed) {
    const auto [kv_heads, head_dim] = shape_of(program, layer, crossed);
    const int64_t width = kv_heads * head_dim;
    require(width_of(program, k) == width && width_of(program, v) == width, "keys or values of another width than the cache's");
    require(kind_of(program, k) == RowKind::Tokens && kind_of(program, v) == RowKind::Tokens, "keys of selected rows");
    Instruction op = unary(Op::Store, k);
    op.b = v;
    op.layer = layer;
    op.crossed = crossed;
    program.fills |= crossed;
    program.instructions.push_back(std::move(op));
}

// Values by distance, (heads, 2 * farthest + 1), with the ends repeated as kernels.h has them.
void set_near(Instruction& op, const Matrix& near) {
    const int64_t columns = static_cast<int64_t>(near.shape(1)), heads = static_cast<int64_t>(near.shape(0));
    require(heads == op.heads && columns % 2 == 1 && columns < (1 << 24), "values by distance of other heads, or without a middle");
    op.farthest = columns / 2;
    for (int64_t head = 0; head < heads; ++head) {
        const float* row = near.data() + head * columns;
        op.vector2.insert(op.vector2.end(), LANES, row[0]);
        op.vector2.insert(op.vector2.end(), row, row + columns);
        op.vector2.insert(op.vector2.end(), LANES, row[columns - 1]);
    }
}

int attend(Program& program, int q, int64_t layer, int64_t heads, float scale, bool causal, int64_t window, const std::optional<Floats>& slopes,
           const std::optional<Matrix>& near, bool rounded, float factor, bool crossed) {
    const auto [kv_heads, head_dim] = shape_of(program, layer, crossed);
    require(heads > 0 && heads <= width_of(program, q) && heads % kv_heads == 0, "query heads that cannot share the cache's heads");
    require(width_of(program, q) == heads * head_dim && kind_of(program, q) == RowKind::Tokens, "queries of another width than their heads");
    require(window >= 0, "a window below 0");
    require(!slopes || static_cast<int64_t>(slopes->size()) == heads, "slopes for another number of heads");
    Instruction op = unary(Op::Attend, q);
    require(!crossed || (!causal && window == 0 && !slopes && !near), "places of other texts' tokens");
    op.layer = layer;
    op.heads = heads;
    op.kv_heads = kv_heads;
    op.head_dim = head_dim;
    op.x = scale;
    op.y = factor;
    op.flag = causal;
    op.window = window;
    op.rounded = rounded;
    op.crossed = crossed;
    if (slopes) op.vector = copied(*slopes);
    if (near) set_near(op, *near);
    return emit(program, std::move(op), heads * head_dim);
}

int waves(Program& program, int angles, bool interleaved) {
    require(!program.finished() && angles >= 0 && angles < static_cast<int>(program.angles.size()), "no such angles");
    Instruction op{};
    op.op = Op::Waves;
    op.table = angles;
    op.flag = interleaved;
    op.out = program.make_register(2 * static_cast<int64_t>(program.angles[static_cast<size_t>(angles)].frequencies.size()), RowKind::Tokens);
    program.instructions.push_back(op);
    return op.out;
}

int mixture(Program& program, int x, int scores, int active, std::vector<std::shared_ptr<Program>> experts) {
    require(kind_of(program, x) == kind_of(program, scores), "scores of other rows");
    require(width_of(program, scores) == static_cast<int64_t>(experts.size()), "another number of experts than scores");
    require(active > 0 && active <= static_cast<int>(experts.size()), "more active experts than there are");
    for (const auto& expert : experts) {
        require(expert && expert->finished() && expert->input >= 0, "an expert that is not finished");
        for (RowKind kind : expert->kinds) require(kind == RowKind::Expert, "an expert that looks at more than its rows");
        require(expert->widths[static_cast<size_t>(expert->input)] == width_of(program, x), "an expert of another width");
        require(expert->widths[static_cast<size_t>(expert->output)] == width_of(program, x), "an expert of another width");
    }
    for (const auto& expert : experts) program.adapters = std::max(program.adapters, expert->adapters);
    Instruction op = unary(Op::Mixture, x);
    op.b = scores;
    op.active = active;
    op.experts = std::move(experts);
    return emit(program, std::move(op), width_of(program, x));
}

using Ranks = std::vector<std::tuple<int, std::shared_ptr<PackedWeight>, std::shared_ptr<PackedWeight>, float>>;

// Onto y, which a linear of x has just given and nothing has read.
void adapt(Program& program, int y, int x, const Ranks& ranks) {
    require(kind_of(program, x) == kind_of(program, y), "an adapter of other rows");
    require(!program.instructions.empty() && program.instructions.back().op == Op::Linear && program.instructions.back().out == y &&
                program.instructions.back().a == x, "an adapter of what is no linear");
    Instruction op = unary(Op::Adapt, x);
    op.out = y;
    for (const auto& [number, a, b, scale] : ranks) {
        require(number > 0 && a && b && a->columns == width_of(program, x) && b->columns == a->rows && b->rows == width_of(program, y),
                "an adapter of another shape than its linear");
        require(input_of(a->format) != Input::Codes && input_of(b->format) != Input::Codes, "an adapter of codes");
        for (const LowRank& other : op.ranks) require(other.number != number, "two adapters of one number");
        op.ranks.push_back({number, a, b, scale});
        program.adapters = std::max(program.adapters, number);
    }
    program.instructions.push_back(std::move(op));
}

}  // namespace

void bind_program(nb::module_& module) {
    module.def("finite_scales", [](const std::string& format, const Bytes& blocks) {
        const FormatFacts* found = format_named(format.c_str());
        require(found != nullptr, "no such format");
        Unlocked unlocked;
        return finite_scales(found->format, blocks.data(), static_cast<int64_t>(blocks.size()));
    });

    nb::class_<Cache>(module, "Cache")
        .def("__init__", [](Cache* self, const std::string& type, int64_t blocks, const Shapes& shapes) {
            check_room(blocks, shapes);
            new (self) Cache(cache_type_named(type), blocks, shapes);
        }, nb::arg("type"), nb::arg("blocks"), nb::arg("heads_and_dims"))
        .def_prop_ro("blocks", &Cache::blocks)
        .def_prop_ro("nbytes", &Cache::bytes);

    nb::class_<Source>(module, "Source")
        .def("__init__", [](Source* self, const std::string& type, int64_t slots, const Shapes& shapes) {
            require(slots > 0 && slots < (int64_t{1} << 31), "a source needs slots");
            check_room((slots + LANES - 1) / LANES, shapes);
            new (self) Source(cache_type_named(type), slots, shapes);
        }, nb::arg("type"), nb::arg("slots"), nb::arg("heads_and_dims"))
        .def_ro("filled", &Source::filled);

    nb::class_<Program>(module, "Program")
        .def("__init__", [](Program* self, std::shared_ptr<Cache> cache, const Shapes& crossed) {
            if (!crossed.empty()) check_room(1, crossed);
            new (self) Program();
            self->cache = std::move(cache);
            self->crossed = crossed;
        }, nb::arg("cache").none(), nb::arg("crossed") = Shapes())
        .def("enter", [](Program& self, int64_t width) {
            require(!self.finished() && self.input < 0 && width > 0, "a program has one input");
            return self.input = self.make_register(width, RowKind::Expert);
        }, nb::arg("width"))
        .def("embed_plain", [](Program& self, const std::string& type, int64_t rows, int64_t columns, uintptr_t data, bool by_position, nb::handle) {
            require(rows > 0 && columns > 0 && data != 0, "an empty table");
            return embed(self, {plain_format(type), rows, columns, reinterpret_cast<const uint8_t*>(data), nullptr}, by_position);
        }, nb::arg("type"), nb::arg("rows"), nb::arg("columns"), nb::arg("data"), nb::arg("by_position"), nb::arg("owner"), nb::keep_alive<1, 7>(),
           "The program reads the table where it lies, and keeps its owner alive.")
        .def("embed_packed", [](Program& self, std::shared_ptr<PackedWeight> table, bool by_position) {
            const Table whole{table->format, table->rows, table->columns, nullptr, table};
            return embed(self, whole, by_position);
        })
        .def("linear", &linear, nb::arg("x"), nb::arg("weight"), nb::arg("bias").none())
        .def("adapt", &adapt, nb::arg("y"), nb::arg("x"), nb::arg("ranks"))
        .def("norm", &norm, nb::arg("x"), nb::arg("weight"), nb::arg("bias").none(), nb::arg("eps"), nb::arg("rms"))
        .def("activate", [](Program& self, const std::string& kind, int a) {
            Instruction op = unary(Op::Activate, a);
            op.activation = activation_named(kind);
            return emit(self, std::move(op), width_of(self, a));
        })
        .def("gate", [](Program& self, const std::string& kind, int gate, int up) { return binary(self, Op::Gate, gate, up, activation_named(kind)); })
        .def("multiply", [](Program& self, int a, int b) { return binary(self, Op::Multiply, a, b); })
        .def("add", [](Program& self, int a, int b) { return binary(self, Op::Add, a, b); })
        .def("add_vector", [](Program& self, int a, const Floats& vector) {
            require(static_cast<int64_t>(vector.size()) == width_of(self, a), "a vector of another width");
            Instruction op = unary(Op::AddVector, a);
            op.vector = copied(vector);
            return emit(self, std::move(op), width_of(self, a));
        })
        .def("scale", [](Program& self, int a, float factor) {
            Instruction op = unary(Op::Scale, a);
            op.x = factor;
            return emit(self, std::move(op), width_of(self, a));
        })
        .def("clamp", [](Program& self, int a, float low, float high) {
            Instruction op = unary(Op::Clamp, a);
            op.x = low;
            op.y = high;
            return emit(self, std::move(op), width_of(self, a));
        })
        .def("angles", &angles, nb::arg("frequencies"), nb::arg("gain"), nb::arg("start") = 0, nb::arg("stream") = 0, nb::arg("narrow") = false,
             nb::arg("own") = false)
        .def("waves", &waves, nb::arg("angles"), nb::arg("interleaved"))
        .def("rotate", &rotate, nb::arg("x"), nb::arg("angles"), nb::arg("heads"), nb::arg("head_dim"), nb::arg("interleaved"), nb::arg("first") = 0)
        .def("store", &store, nb::arg("k"), nb::arg("v"), nb::arg("layer"), nb::arg("crossed") = false)
        .def("attend", &attend, nb::arg("q"), nb::arg("layer"), nb::arg("heads"), nb::arg("scale"), nb::arg("causal"), nb::arg("window"), nb::arg("slopes").none(),
             nb::arg("near").none() = nb::none(), nb::arg("rounded") = false, nb::arg("factor") = 1.0F, nb::arg("crossed") = false)
        .def("select", [](Program& self, int a) {
            require(kind_of(self, a) == RowKind::Tokens, "rows are selected once");
            Instruction op = unary(Op::Select, a);
            op.out = self.make_register(width_of(self, a), RowKind::Wanted);
            self.instructions.push_back(op);
            return op.out;
        })
        .def("mixture", &mixture, nb::arg("x"), nb::arg("scores"), nb::arg("active"), nb::arg("experts"))
        .def("finish", [](Program& self, int output) {
            require(!self.instructions.empty(), "an empty program");
            bool given = false;
            for (const Instruction& op : self.instructions) given |= op.out == checked(self, output);
            require(given, "an output that no operation gives");
            self.finish(output);
        })
        .def("width", &width_of)
        .def_prop_ro("operations", [](const Program& self) { return self.instructions.size(); })
        .def("run", &run_program, nb::arg("ids"), nb::arg("positions"), nb::arg("spans"), nb::arg("tables"), nb::arg("wanted"), nb::arg("out"),
             nb::arg("sources") = Sources(),
             nb::arg("rates").none() = nb::none(),
             nb::arg("adapters").none() = nb::none());
}

}  // namespace paddock
