// What adapters add to the rows that have one, as the executor runs it, against plain computation in double: any number of
// adapters in one batch, rows without, ranks from 1 to more than the width, every type their matrices may have, experts.
// What a row has no adapter for must keep every bit, and a row with one must get the bits it gets alone.
//   g++ -std=c++17 -O1 -ffp-contract=off -DPADDOCK_VARIANT=portable -Isrc/paddock/kernels/cpp tests/kernels/cpp/test_adapt.cpp
//       (cd src/paddock/kernels/cpp: variant.cpp and what programs.py names beside it) -pthread
// with -fsanitize=address,undefined too: results, tables and numbers have exactly the room that the contract promises.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <stdexcept>
#include <vector>

#include "checking.h"
#include "choose.h"
#include "pool.h"
#include "program.h"

using namespace paddock;

namespace paddock {
namespace PADDOCK_VARIANT {
extern const Kernels table;
}
// The variant under test is the one in use.
const Kernels& kernels() { return PADDOCK_VARIANT::table; }
}  // namespace paddock

static std::mt19937 generator(29);

static double normal() { return std::normal_distribution<double>()(generator); }
static int64_t below(int64_t n) { return std::uniform_int_distribution<int64_t>(0, n - 1)(generator); }

// --- matrices ---

// Of numbers that float16 and bfloat16 hold as they are: 7 bits of fraction, from 1/16 to 2.
static float plain_number() {
    const float x = static_cast<float>(128 + below(128)) / 128 * static_cast<float>(1 << below(5)) / 16;
    return below(2) ? x : -x;
}

struct Matrix {
    int64_t rows, columns;
    std::vector<float> values;
    std::shared_ptr<PackedWeight> packed;
};

static Matrix matrix(Format format, int64_t rows, int64_t columns) {
    Matrix m{rows, columns, {}, {}};
    std::vector<uint8_t> published;
    for (int64_t i = 0; i < rows * columns; i++) {
        const float x = plain_number();
        uint32_t bits;
        std::memcpy(&bits, &x, 4);
        m.values.push_back(x);
        // Not beyond normal numbers: float16's exponent is the same less 112.
        const uint16_t half = static_cast<uint16_t>((bits >> 16 & 0x8000) | (((bits >> 13 & 0x3ffff) - (112 << 10)) & 0x7fff)), brain = static_cast<uint16_t>(bits >> 16);
        const uint8_t* from = reinterpret_cast<const uint8_t*>(format == Format::F32 ? static_cast<const void*>(&bits) : format == Format::F16 ? &half : &brain);
        published.insert(published.end(), from, from + (format == Format::F32 ? 4 : 2));
    }
    m.packed = pack_weight(format, published.data(), columns * (format == Format::F32 ? 4 : 2), rows, columns);
    return m;
}

// --- programs ---

struct Adapter {
    int number;
    Matrix a, b;  // (rank, width), (out, rank)
    float scale;
};

struct Linear {
    Matrix weight;
    std::vector<Adapter> adapters;
    int x = -1;  // the register it reads
};

static const Format FORMATS_OF_ADAPTERS[] = {Format::F32, Format::F16, Format::BF16};

static Linear linear(Format format, int64_t width, int64_t out, const std::vector<std::pair<int, int64_t>>& ranks) {
    Linear made{matrix(format, out, width), {}, -1};
    for (const auto& [number, rank] : ranks) {
        made.adapters.push_back({number, matrix(FORMATS_OF_ADAPTERS[below(3)], rank, width), matrix(FORMATS_OF_ADAPTERS[below(3)], out, rank), static_cast<float>(normal())});
    }
    return made;
}

static int emit(Program& program, Linear& own, int x) {
    Instruction op;
    op.op = Op::Linear, op.a = x, op.weight = own.weight.packed;
    op.out = program.make_register(own.weight.rows, program.kinds[static_cast<size_t>(x)]);
    program.instructions.push_back(op);
    Instruction more;
    more.op = Op::Adapt, more.a = x, more.out = op.out;
    for (const Adapter& each : own.adapters) more.ranks.push_back({each.number, each.a.packed, each.b.packed, each.scale});
    own.x = x;
    program.instructions.push_back(more);
    return op.out;
}

static int emit(Program& program, Op kind, int a, int b, int64_t width, RowKind rows) {
    Instruction op;
    op.op = kind, op.a = a, op.b = b;
    op.out = program.make_register(width, rows);
    program.instructions.push_back(op);
    return op.out;
}

// x W^T of a row, and what its adapter adds; `allowed` grows by what the roundings on the way may cost.
static double plain(const Linear& of, const float* x, int32_t number, int64_t column, double& allowed) {
    const auto rounds = [](const Matrix& m) { return input_of(m.packed->format) == Input::BFloats ? 1.0 / 256 : 1e-6; };
    double sum = 0;
    for (int64_t i = 0; i < of.weight.columns; i++) {
        const double term = static_cast<double>(x[i]) * of.weight.values[static_cast<size_t>(column * of.weight.columns + i)];
        sum += term, allowed += std::fabs(term) * 1e-6;
    }
    for (const Adapter& each : of.adapters) {
        if (each.number != number) continue;
        for (int64_t r = 0; r < each.a.rows; r++) {
            double low = 0, size = 0;
            for (int64_t i = 0; i < each.a.columns; i++) {
                const double term = static_cast<double>(x[i]) * each.a.values[static_cast<size_t>(r * each.a.columns + i)];
                low += term, size += std::fabs(term) * 1e-6;
            }
            const double factor = each.scale * static_cast<double>(each.b.values[static_cast<size_t>(column * each.a.rows + r)]);
            sum += factor * low, allowed += std::fabs(factor) * (size + std::fabs(low) * rounds(each.b));
        }
    }
    return sum;
}

// --- batches ---

struct Batch {
    std::vector<int32_t> ids, positions, numbers, wanted;

    std::vector<float> run(Program& program, int64_t width, bool adapted = true) const {
        BatchView view{};
        view.rows = static_cast<int64_t>(ids.size());
        view.ids = ids.data(), view.positions = positions.data();
        view.wanted = static_cast<int64_t>(wanted.size()), view.wanted_rows = wanted.data();
        view.adapters = adapted ? numbers.data() : nullptr;
        const bool selected = program.kinds[static_cast<size_t>(program.output)] == RowKind::Wanted;
        std::vector<float> out(static_cast<size_t>((selected ? view.wanted : view.rows) * width), NAN);
        program.run(view, out.data());
        return out;
    }
    Batch row(int64_t at) const {
        const size_t one = static_cast<size_t>(at);
        return {{ids[one]}, {0}, {numbers[one]}, {0}};
    }
};

// Runs of one number and single rows in turns; `numbers` may name what no linear has.
static Batch batch(int64_t rows, int64_t vocabulary, const std::vector<int32_t>& numbers, bool all_wanted) {
    Batch made;
    while (static_cast<int64_t>(made.ids.size()) < rows) {
        const int32_t number = numbers[static_cast<size_t>(below(static_cast<int64_t>(numbers.size())))];
        for (int64_t run = 1 + (below(2) ? below(7) : 0); run > 0 && static_cast<int64_t>(made.ids.size()) < rows; run--) {
            made.ids.push_back(static_cast<int32_t>(below(vocabulary)));
            made.numbers.push_back(number);
        }
    }
    made.positions.assign(made.ids.size(), 0);
    for (int64_t row = 0; row < rows; row++) {
        if (all_wanted || below(2)) made.wanted.push_back(static_cast<int32_t>(all_wanted ? row : below(rows)));
    }
    return made;
}

static Table table_of(const std::vector<float>& x, int64_t width) {
    return {Format::F32, static_cast<int64_t>(x.size()) / width, width, reinterpret_cast<const uint8_t*>(x.data()), nullptr};
}

static int embed(Program& program, const Table& table) {
    program.tables.push_back(table);
    Instruction op;
    op.op = Op::Embed, op.table = 0;
    op.out = program.make_register(table.columns, RowKind::Tokens);
    program.instructions.push_back(op);
    return op.out;
}

static std::vector<float> inputs(int64_t vocabulary, int64_t width) {
    std::vector<float> x(static_cast<size_t>(vocabulary * width));
    for (float& value : x) value = plain_number();
    return x;
}

constexpr int64_t VOCABULARY = 11;
using Ranks = std::vector<std::pair<int, int64_t>>;

// Two linears of one input, each with adapters of its own, and a third of their sum: forms are made again after a change.
static void test_batch(int64_t width, int64_t middle, int64_t out, const std::vector<Ranks>& ranks, bool selects) {
    const std::vector<float> x = inputs(VOCABULARY, width);
    Linear first = linear(Format::F32, width, out, ranks[0]), second = linear(Format::F32, width, out, ranks[1]);
    Linear inner = linear(Format::BF16, width, middle, ranks[2]), last = linear(Format::F16, middle, out, ranks[2]);
    Program program;
    int at = embed(program, table_of(x, width));
    if (selects) at = emit(program, Op::Select, at, -1, width, RowKind::Wanted);
    const RowKind kind = program.kinds[static_cast<size_t>(at)];
    const int sum = emit(program, Op::Add, emit(program, first, at), emit(program, second, at), out, kind);
    const int deep = emit(program, last, emit(program, inner, at));
    program.finish(emit(program, Op::Add, sum, deep, out, kind));
    for (int64_t rows : {1, 2, 5, 16, 17, 40, 3}) {
        const Batch given = batch(rows, VOCABULARY, {0, 1, 2, 3, 9}, !selects);
        const std::vector<float> y = given.run(program, out), base = given.run(program, out, false);
        for (size_t place = 0; place < given.wanted.size(); place++) {
            const int64_t row = given.wanted[place];
            const int32_t number = given.numbers[static_cast<size_t>(row)];
            const float *own = x.data() + given.ids[static_cast<size_t>(row)] * width, *found = y.data() + static_cast<int64_t>(place) * out;
            const std::vector<float> alone = given.row(row).run(program, out);
            check(std::memcmp(alone.data(), found, alone.size() * sizeof(float)) == 0, "a row alone", row, number);
            const bool has = number > 0 && number < 9;
            if (!has) check(std::memcmp(base.data() + static_cast<int64_t>(place) * out, found, alone.size() * sizeof(float)) == 0, "a row without", row, number);
            // What the inner linear gave may be off; what follows it carries that on.
            std::vector<float> between;
            std::vector<double> off;
            for (int64_t i = 0; i < middle; i++) {
                double allowed = 1e-6;
                between.push_back(static_cast<float>(plain(inner, own, number, i, allowed)));
                off.push_back(allowed + std::fabs(between.back()) * 1e-6);
            }
            for (int64_t column = 0; column < out; column++) {
                double allowed = 1e-5;
                const double expected = plain(first, own, number, column, allowed) + plain(second, own, number, column, allowed) + plain(last, between.data(), number, column, allowed);
                for (int64_t i = 0; i < middle; i++) {
                    double carried = std::fabs(last.weight.values[static_cast<size_t>(column * middle + i)]);
                    for (const Adapter& each : last.adapters) {
                        for (int64_t r = 0; each.number == number && r < each.a.rows; r++) {
                            carried += std::fabs(each.scale * each.b.values[static_cast<size_t>(column * each.a.rows + r)] * each.a.values[static_cast<size_t>(r * middle + i)]);
                            // ... and is rounded once more where that matrix takes bfloat16.
                            if (input_of(each.a.packed->format) == Input::BFloats) {
                                allowed += std::fabs(between[static_cast<size_t>(i)] * each.scale * each.b.values[static_cast<size_t>(column * each.a.rows + r)] * each.a.values[static_cast<size_t>(r * middle + i)]) / 256;
                            }
                        }
                    }
                    allowed += carried * off[static_cast<size_t>(i)];
                }
                near(found[column], expected, allowed, "adapted", row, column);
            }
        }
    }
    // A batch none of whose rows is wanted, and one of no rows at all.
    Batch nothing = batch(6, VOCABULARY, {0, 1, 2}, true);
    nothing.wanted.clear();
    if (selects) check(nothing.run(program, out).empty(), "nothing is wanted", width, out);
    check(Batch{}.run(program, out).empty(), "no rows", width, out);
}

// One linear alone, so that nothing hides what a matrix of this type and rank gives.
static void test_one(Format format, int64_t width, int64_t out, int64_t rank, int64_t rows) {
    const std::vector<float> x = inputs(VOCABULARY, width);
    Linear own = linear(format, width, out, {{7, rank}});
    Program program;
    program.finish(emit(program, own, embed(program, table_of(x, width))));
    const Batch given = batch(rows, VOCABULARY, {7, 7, 0}, true);
    const std::vector<float> y = given.run(program, out);
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t column = 0; column < out; column++) {
            double allowed = 1e-5;
            const double expected = plain(own, x.data() + given.ids[static_cast<size_t>(row)] * width, given.numbers[static_cast<size_t>(row)], column, allowed);
            near(y[static_cast<size_t>(row * out + column)], expected, allowed, "one linear", rank, column);
        }
    }
}

// Experts that have adapters of their own see the numbers of the rows that were sent to them.
static void test_experts(int64_t width, int64_t rows) {
    constexpr int64_t EXPERTS = 3;
    const std::vector<float> x = inputs(VOCABULARY, width);
    Linear router = linear(Format::F32, width, EXPERTS, {});
    std::vector<Linear> own;
    std::vector<std::shared_ptr<Program>> experts;
    for (int expert = 0; expert < EXPERTS; expert++) {
        own.push_back(linear(Format::F32, width, width, {{1, 3 + expert}, {2 + expert, 17}}));
        experts.push_back(std::make_shared<Program>());
        experts.back()->input = experts.back()->make_register(width, RowKind::Expert);
        experts.back()->finish(emit(*experts.back(), own.back(), experts.back()->input));
    }
    Program program;
    const int in = embed(program, table_of(x, width)), scores = emit(program, router, in);
    const int mixed = emit(program, Op::Mixture, in, scores, width, RowKind::Tokens);
    program.instructions.back().active = 2, program.instructions.back().experts = experts;
    program.finish(mixed);
    const Batch given = batch(rows, VOCABULARY, {0, 1, 2, 3, 4}, true);
    const std::vector<float> y = given.run(program, width);
    for (int64_t row = 0; row < rows; row++) {
        const float* at = x.data() + given.ids[static_cast<size_t>(row)] * width;
        const int32_t number = given.numbers[static_cast<size_t>(row)];
        double sent[EXPERTS], unused = 0;
        for (int64_t expert = 0; expert < EXPERTS; expert++) sent[expert] = plain(router, at, 0, expert, unused);
        const int64_t left_out = std::min_element(sent, sent + EXPERTS) - sent;
        const double most = *std::max_element(sent, sent + EXPERTS);
        double total = 0;
        for (int64_t expert = 0; expert < EXPERTS; expert++) total += expert == left_out ? 0 : std::exp(sent[expert] - most);
        for (int64_t column = 0; column < width; column++) {
            double expected = 0, allowed = 1e-5;
            for (int64_t expert = 0; expert < EXPERTS; expert++) {
                if (expert == left_out) continue;
                double own_allowed = 1e-5;
                const double share = std::exp(sent[expert] - most) / total, value = plain(own[static_cast<size_t>(expert)], at, number, column, own_allowed);
                expected += share * value, allowed += share * own_allowed + std::fabs(share * value) * 1e-4;
            }
            near(y[static_cast<size_t>(row * width + column)], expected, allowed, "experts", row, column);
        }
    }
}

template <class F>
static void refused(const char* what, F f) {
    bool threw = false;
    try {
        f();
    } catch (const std::invalid_argument&) {
        threw = true;
    }
    check(threw, what);
}

static void test_refusals() {
    const std::vector<uint8_t> bytes(64 * 4);
    refused("rank 0 down", [&] { pack_weight(Format::F32, bytes.data(), 64, 0, 16); });
    refused("rank 0 up", [&] { pack_weight(Format::BF16, bytes.data(), 0, 16, 0); });
    refused("a rank below 0", [&] { pack_weight(Format::F16, bytes.data(), 0, 16, -1); });
    refused("rows shorter than the width", [&] { pack_weight(Format::F32, bytes.data(), 60, 2, 16); });
    refused("codes of an odd width", [&] { pack_weight(Format::Q8_0, bytes.data(), 34, 2, 33); });
}

int main() {
    for (int count : {1, 3}) {
        set_threads(count);
        for (Format format : FORMATS_OF_ADAPTERS) {
            if (format == Format::BF16) continue;  // of what a row has alone: no rounding of its input between
            for (int64_t rank : {1, 2, 15, 16, 17, 31, 32, 33, 65}) test_one(format, 24, 19, rank, 9);
            test_one(format, 1, 1, 1, 3), test_one(format, 33, 1, 40, 5), test_one(format, 1, 50, 3, 20);
        }
        report("one adapter");
        for (bool selects : {false, true}) {
            test_batch(16, 32, 16, {{{1, 4}, {2, 8}, {3, 1}}, {{1, 4}, {3, 33}}, {{2, 5}}}, selects);
            test_batch(7, 3, 1, {{{1, 1}}, {{2, 9}, {1, 2}}, {{3, 2}, {1, 1}}}, selects);
            test_batch(33, 17, 50, {{}, {{3, 64}, {2, 31}}, {{1, 16}, {2, 17}, {3, 3}}}, selects);
            test_batch(1, 1, 1, {{{1, 1}}, {}, {{2, 1}}}, selects);
        }
        report("several in one batch");
        test_batch(130, 48, 200, {{{1, 40}, {2, 8}, {3, 150}}, {{2, 64}}, {{1, 7}, {3, 33}}}, false);  // several threads have work
        report("large");
        test_experts(16, 1), test_experts(20, 13), test_experts(96, 24);
        report("experts");
    }
    test_refusals();
    std::printf(failures ? "%d checks failed\n" : "all good\n", failures);
    return failures ? 1 : 0;
}
