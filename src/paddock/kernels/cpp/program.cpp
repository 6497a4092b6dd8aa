#include "program.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

#include "choose.h"
#include "pool.h"

namespace paddock {

namespace {

constexpr int64_t INLINE_FLOATS = 16384;    // row-wise work below this is done by the caller: waking a thread costs more
constexpr int64_t KEPT_FLOATS = 8 << 20;    // of a workspace, whatever is asked for
constexpr int64_t PATIENCE = 100;           // runs that use little of a larger one: fresh pages cost time

int64_t rounded(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// Calls body(first, last) over blocks of rows, on several threads where the work is worth it.
template <class F>
void over_rows(int64_t rows, int64_t width, F body) {
    if (rows * width <= INLINE_FLOATS || threads() == 1) {
        body(int64_t{0}, rows);
        return;
    }
    const int64_t block = std::max<int64_t>(1, rows / (4 * threads()));
    const int64_t tasks = (rows + block - 1) / block;
    parallel(tasks, [&](int64_t task, int) { body(task * block, std::min(rows, (task + 1) * block)); });
}

float* aligned_floats(int64_t count) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, static_cast<size_t>(std::max<int64_t>(count, 16)) * sizeof(float))) throw std::bad_alloc();
    return static_cast<float*>(memory);
}

float half_to_float(uint16_t bits) {
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000U) << 16;
    const uint32_t exponent = (bits >> 10) & 31U, fraction = bits & 1023U;
    if (exponent == 0) {  // zero and subnormal numbers: fraction * 2^-24, exact in float
        const float value = static_cast<float>(fraction) * 0x1p-24F;
        return sign ? -value : value;
    }
    const uint32_t wide = sign | (exponent == 31 ? 0x7f800000U : (exponent + 112) << 23) | fraction << 13;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
}

// A row of numbers as they lie in a file, which promises no alignment.
void plain_row(const Table& table, int64_t row, float* out) {
    const size_t columns = static_cast<size_t>(table.columns);
    const size_t size = table.format == Format::F32 ? 4 : 2;
    const uint8_t* at = table.data + static_cast<size_t>(row) * columns * size;
    if (size == 4) {
        std::memcpy(out, at, columns * size);
        return;
    }
    for (size_t i = 0; i < columns; ++i) {
        uint16_t bits;
        std::memcpy(&bits, at + 2 * i, 2);
        const uint32_t wide = static_cast<uint32_t>(bits) << 16;
        if (table.format == Format::F16) out[i] = half_to_float(bits);
        else std::memcpy(out + i, &wide, 4);
    }
}

}  // namespace

void Workspace::release() {
    free(data_);
    data_ = nullptr;
    floats_ = small_ = 0;
}

float* Workspace::fit(int64_t floats) {
    small_ = floats_ > KEPT_FLOATS && floats < floats_ / 4 ? small_ + 1 : 0;
    if (floats > floats_ || small_ > PATIENCE) {
        release();
        data_ = aligned_floats(floats);
        floats_ = floats;
    }
    return data_;
}

void Program::reserve(int64_t rows, Workspace& space) {
    rows = rounded(rows, 8);
    int64_t total = 0;
    for (int64_t slot_width : slot_widths_) total += rounded(slot_width * rows, 16);
    // codes (1), bfloats (2), scales (4 / 32), sums (4 / 16): under 4 bytes per input, each part a multiple of 64
    float* at = space.fit(total + rows * widest_);
    forms_ = reinterpret_cast<uint8_t*>(at + total);
    for (size_t slot = 0; slot < memory_.size(); ++slot) {
        memory_[slot] = at;
        at += rounded(slot_widths_[slot] * rows, 16);
    }
    capacity_ = rows;
}

int64_t Program::rows_of(int reg, const BatchView& batch) const {
    return kinds[static_cast<size_t>(reg)] == RowKind::Wanted ? batch.wanted : batch.rows;
}

void Program::run(const BatchView& batch, float* out) {
    const Turn::Taken turn(running);
    for (Angles& table : angles) table.compute(batch, streams);
    reserve(std::max(batch.rows, batch.wanted), space_);  // a row may be wanted several times
    memory_[static_cast<size_t>(slots_[static_cast<size_t>(output)])] = out;
    for (int64_t sequence = 0; fills && sequence < batch.sequences; ++sequence) batch.sources[sequence]->filled = 0;
    execute(batch);
    for (int64_t sequence = 0; fills && sequence < batch.sequences; ++sequence) batch.sources[sequence]->filled = batch.spans[4 * sequence + 1];
}

void Program::run_expert(const float* x, int64_t rows, const int32_t* numbers, float* out, Workspace& space) {
    BatchView batch{};
    batch.rows = rows;
    batch.adapters = numbers;
    reserve(rows, space);
    memory_[static_cast<size_t>(slots_[static_cast<size_t>(input)])] = const_cast<float*>(x);
    memory_[static_cast<size_t>(slots_[static_cast<size_t>(output)])] = out;
    execute(batch);
}

void Program::execute(const BatchView& batch) {
    form_of_ = -1;
    for (size_t i = 0; i < instructions.size();) {
        const Instruction& op = instructions[i];
        const int reg = op.out >= 0 ? op.out : op.a;
        const int64_t rows = rows_of(reg, batch);
        switch (op.op) {
            case Op::Embed: embed(op, batch); break;
            case Op::Linear: linears(i, groups_[i], rows); break;
            case Op::Rotate: rotate(op, batch); break;
            case Op::Waves: waves(op, batch); break;
            case Op::Store: store(op, batch); break;
            case Op::Attend: attend(op, batch); break;
            case Op::Mixture: mixture(op, batch); break;
            case Op::Adapt: adapt(op, batch); break;
            case Op::Select:
                for (int64_t row = 0; row < batch.wanted; ++row) {
                    std::memcpy(memory(op.out) + row * width(op.out), memory(op.a) + batch.wanted_rows[row] * width(op.a),
                                static_cast<size_t>(width(op.a)) * sizeof(float));
                }
                break;
            default: by_rows(op, rows);
        }
        for (size_t part = 0; part < groups_[i]; ++part) {
            // What was written over has no forms any more, and neither has a register that shares its place.
            const int written = instructions[i + part].out;
            if (written >= 0 && form_of_ >= 0 && slots_[static_cast<size_t>(written)] == slots_[static_cast<size_t>(form_of_)]) form_of_ = -1;
        }
        i += groups_[i];
    }
}

Rows Program::forms(int reg, int64_t rows, bool codes, bool bfloats) {
    const Kernels& native = kernels();
    const int64_t columns = width(reg), padded = rounded(columns, GROUP);
    int8_t* code = reinterpret_cast<int8_t*>(forms_);
    uint16_t* bfloat = reinterpret_cast<uint16_t*>(forms_ + capacity_ * widest_);
    float* scale = reinterpret_cast<float*>(forms_ + capacity_ * widest_ * 3);
    int32_t* sum = reinterpret_cast<int32_t*>(forms_ + capacity_ * widest_ * 3 + capacity_ * widest_ / 8);
    if (form_of_ != reg) {
        form_of_ = reg;
        has_codes_ = has_bfloats_ = false;
    }
    const float* x = memory(reg);
    if (codes && !has_codes_) {
        over_rows(rows, columns, [&](int64_t first, int64_t last) {
            native.quantise(x + first * columns, columns, last - first, columns, padded, code + first * padded,
                             scale + first * (padded / GROUP), sum + first * (padded / 16));
        });
        has_codes_ = true;
    }
    if (bfloats && !has_bfloats_) {
        over_rows(rows, columns, [&](int64_t first, int64_t last) {
            native.to_bfloat16(x + first * columns, columns, last - first, columns, padded, bfloat + first * padded);
        });
        has_bfloats_ = true;
    }
    return {x, columns, bfloat, code, scale, sum, padded};
}

void Program::linears(size_t first, size_t number, int64_t rows) {
    if (rows == 0) return;
    bool codes = false, bfloats = false;
    int64_t tiles = 0, bytes = 0;
    for (size_t i = first; i < first + number; ++i) {
        const PackedWeight& weight = *instructions[i].weight;
        codes |= input_of(weight.format) == Input::Codes;
        bfloats |= input_of(weight.format) == Input::BFloats;
        tiles += weight.tiles();
        bytes += weight.tiles() * weight.tile_bytes;
    }
    const Rows x = forms(instructions[first].a, rows, codes, bfloats);
    const Kernels& native = kernels();
    auto part = [&](size_t index, int64_t from, int64_t to) {
        const Instruction& op = instructions[index];
        const float* bias = op.vector.empty() ? nullptr : op.vector.data();
        native.linear(*op.weight, x, rows, from, to, bias, op.add, memory(op.out), width(op.out));
    };
    if (threads() == 1 || bytes * rows <= INLINE_BYTES) {
        for (size_t i = first; i < first + number; ++i) part(i, 0, instructions[i].weight->tiles());
        return;
    }
    struct Task { size_t index; int64_t from, to; };
    const int64_t step = std::clamp<int64_t>(tiles / (4 * threads()), 1, TASK_TILES);
    std::vector<Task> tasks;
    for (size_t i = first; i < first + number; ++i) {
        const int64_t all = instructions[i].weight->tiles();
        for (int64_t from = 0; from < all; from += step) tasks.push_back({i, from, std::min(all, from + step)});
    }
    parallel(static_cast<int64_t>(tasks.size()), [&](int64_t task, int) {
        const Task& mine = tasks[static_cast<size_t>(task)];
        part(mine.index, mine.from, mine.to);
    });
}

void Program::embed(const Instruction& op, const BatchView& batch) {
    const Table& table = tables[static_cast<size_t>(op.table)];
    const Kernels& native = kernels();
    const int32_t* which = op.flag ? batch.positions : batch.ids;
    const int64_t apart = op.flag ? streams : 1;
    float* out = memory(op.out);
    over_rows(batch.rows, table.columns, [&](int64_t first, int64_t last) {
        for (int64_t row = first; row < last; ++row) {
            float* y = out + row * table.columns;
            if (table.packed) native.weight_row(*table.packed, which[row * apart], y);
            else plain_row(table, which[row * apart], y);
        }
    });
}

void Program::by_rows(const Instruction& op, int64_t rows) {
    const Kernels& native = kernels();
    const int64_t columns = width(op.a);
    const float* a = memory(op.a);
    const float* b = op.b >= 0 ? memory(op.b) : nullptr;
    float* y = memory(op.out);
    over_rows(rows, columns, [&](int64_t first, int64_t last) {
        const int64_t from = first * columns, count = (last - first) * columns;
        switch (op.op) {
            case Op::Norm:
                for (int64_t at = from; at < from + count; at += columns) {
                    if (op.flag) native.rms_norm(a + at, op.vector.data(), op.x, columns, y + at);
                    else native.layer_norm(a + at, op.vector.data(), op.vector2.empty() ? nullptr : op.vector2.data(), op.x, columns, y + at);
                }
                break;
            case Op::Activate: native.activate(op.activation, a + from, count, y + from); break;
            case Op::Gate: native.gate(op.activation, a + from, b + from, count, y + from); break;
            case Op::Multiply: for (int64_t i = from; i < from + count; ++i) y[i] = a[i] * b[i]; break;
            case Op::Add: for (int64_t i = from; i < from + count; ++i) y[i] = a[i] + b[i]; break;
            case Op::Scale: for (int64_t i = from; i < from + count; ++i) y[i] = a[i] * op.x; break;
            case Op::Clamp: for (int64_t i = from; i < from + count; ++i) y[i] = std::min(std::max(a[i], op.x), op.y); break;
            case Op::AddVector:
                for (int64_t i = 0; i < count; ++i) y[from + i] = a[from + i] + op.vector[static_cast<size_t>(i % columns)];
                break;
            default: break;
        }
    });
}

void Program::rotate(const Instruction& op, const BatchView& batch) {
    const Angles& table = angles[static_cast<size_t>(op.table)];
    const Kernels& native = kernels();
    const int64_t half = static_cast<int64_t>(table.frequencies.size()), columns = width(op.a);
    float* x = memory(op.out);
    const float* from = memory(op.a);
    over_rows(batch.rows, columns, [&](int64_t first, int64_t last) {
        if (x != from) std::memcpy(x + first * columns, from + first * columns, static_cast<size_t>((last - first) * columns) * sizeof(float));
        for (int64_t row = first; row < last; ++row) {
            const size_t at = table.at(batch, streams, row);
            native.rotate(x + row * columns + op.first, op.heads, op.head_dim, 2 * half, table.cos.data() + at, table.sin.data() + at, op.flag);
        }
    });
}

// Sines and cosines of each token's position, a half each or in turns.
void Program::waves(const Instruction& op, const BatchView& batch) {
    const Angles& table = angles[static_cast<size_t>(op.table)];
    const int64_t half = static_cast<int64_t>(table.frequencies.size());
    const int64_t apart = op.flag ? 2 : 1, second = op.flag ? 1 : half;
    float* out = memory(op.out);
    over_rows(batch.rows, 2 * half, [&](int64_t first, int64_t last) {
        for (int64_t row = first; row < last; ++row) {
            const size_t at = table.at(batch, streams, row);
            const float *sin = table.sin.data() + at, *cos = table.cos.data() + at;
            float* y = out + row * 2 * half;
            for (int64_t i = 0; i < half; ++i) y[i * apart] = sin[i], y[second + i * apart] = cos[i];
        }
    });
}

// Each row goes to the experts its router scores highest; their softmax weights are made to sum to 1. Experts add up in
// the order of their numbers, whatever rows stand beside.
void Program::mixture(const Instruction& op, const BatchView& batch) {
    const int64_t rows = rows_of(op.a, batch), columns = width(op.a), count = width(op.b);
    const std::vector<int32_t> numbers = numbers_of(op.a, batch);
    std::vector<int32_t> sent_numbers;
    const float *x = memory(op.a), *scores = memory(op.b);
    float* y = memory(op.out);
    std::fill(y, y + rows * columns, 0.0F);
    std::vector<int32_t> chosen_experts(static_cast<size_t>(rows * op.active));
    std::vector<float> shares(chosen_experts.size());
    for (int64_t row = 0; row < rows; ++row) {
        int32_t* best = &chosen_experts[static_cast<size_t>(row * op.active)];
        float* share = &shares[static_cast<size_t>(row * op.active)];
        kernels().top_k(scores + row * count, count, op.active, best, share);
        const float largest = share[0];
        float sum = 0;
        for (int i = 0; i < op.active; ++i) sum += share[i] = std::exp(share[i] - largest);
        for (int i = 0; i < op.active; ++i) share[i] /= sum;
    }
    gathered_.resize(static_cast<size_t>(rows * columns));
    answered_.resize(gathered_.size());
    std::vector<std::pair<int64_t, float>> sent;
    for (int64_t expert = 0; expert < count; ++expert) {
        sent.clear();
        for (int64_t at = 0; at < rows * op.active; ++at) {
            if (chosen_experts[static_cast<size_t>(at)] == expert) sent.emplace_back(at / op.active, shares[static_cast<size_t>(at)]);
        }
        if (sent.empty()) continue;
        for (size_t i = 0; i < sent.size(); ++i) {
            std::memcpy(&gathered_[i * static_cast<size_t>(columns)], x + sent[i].first * columns, static_cast<size_t>(columns) * sizeof(float));
        }
        sent_numbers.clear();
        if (!numbers.empty()) {
            for (const auto& [row, share] : sent) sent_numbers.push_back(numbers[static_cast<size_t>(row)]);
        }
        op.experts[static_cast<size_t>(expert)]->run_expert(gathered_.data(), static_cast<int64_t>(sent.size()),
                                                            numbers.empty() ? nullptr : sent_numbers.data(), answered_.data(), expert_space_);
        for (size_t i = 0; i < sent.size(); ++i) {
            float* target = y + sent[i].first * columns;
            const float* answer = &answered_[i * static_cast<size_t>(columns)];
            for (int64_t column = 0; column < columns; ++column) target[column] += sent[i].second * answer[column];
        }
    }
}

}  // namespace paddock
