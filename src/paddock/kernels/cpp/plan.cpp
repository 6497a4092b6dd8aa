// What is done once, after recording: fusing, grouping, and giving registers places in memory.
#include <algorithm>

#include "program.h"

namespace paddock {

namespace {

bool in_place(Op op) {
    return op == Op::Activate || op == Op::Gate || op == Op::Multiply || op == Op::Add || op == Op::AddVector ||
           op == Op::Scale || op == Op::Clamp;
}

}  // namespace

int Program::make_register(int64_t register_width, RowKind kind) {
    widths.push_back(register_width);
    kinds.push_back(kind);
    return static_cast<int>(widths.size()) - 1;
}

void Program::finish(int result) {
    output = result;
    fuse();
    gather();
    group();
    place();
}

// A linear whose result is only added to a value that nothing else needs adds to it in place.
void Program::fuse() {
    std::vector<int> uses(widths.size(), 0);
    std::vector<size_t> last(widths.size(), 0);
    for (size_t i = 0; i < instructions.size(); ++i) {
        for (int reg : {instructions[i].a, instructions[i].b, instructions[i].c}) {
            if (reg < 0) continue;
            ++uses[static_cast<size_t>(reg)];
            last[static_cast<size_t>(reg)] = i;
        }
    }
    std::vector<Instruction> fused;
    for (size_t i = 0; i < instructions.size(); ++i) {
        Instruction op = std::move(instructions[i]);
        if (op.op == Op::Linear && i + 1 < instructions.size() && instructions[i + 1].op == Op::Add) {
            const Instruction& sum = instructions[i + 1];
            const int other = sum.a == op.out ? sum.b : sum.a;
            const bool ours = (sum.a == op.out) != (sum.b == op.out) && uses[static_cast<size_t>(op.out)] == 1;
            const bool given = other == output || op.out == output || sum.out == output;  // must stay as they are
            if (ours && !given && other != op.a && last[static_cast<size_t>(other)] == i + 1) {
                op.add = true;
                op.b = other;
                op.out = sum.out;
                ++i;
            }
        }
        fused.push_back(std::move(op));
    }
    instructions = std::move(fused);
}

// Linears of one input come together again, and after them what adapters add to each.
void Program::gather() {
    for (size_t i = 1; i < instructions.size(); ++i) {
        if (instructions[i].op != Op::Linear || instructions[i].add) continue;
        for (size_t at = i; at > 0 && instructions[at - 1].op == Op::Adapt && instructions[at - 1].a == instructions[at].a; --at) {
            std::swap(instructions[at - 1], instructions[at]);
        }
    }
}

// Linears of one input that follow each other share one parallel region.
void Program::group() {
    groups_.assign(instructions.size(), 1);
    for (size_t i = 0; i < instructions.size();) {
        size_t next = i + 1;
        if (instructions[i].op == Op::Linear && !instructions[i].add) {
            while (next < instructions.size() && instructions[next].op == Op::Linear && !instructions[next].add &&
                   instructions[next].a == instructions[i].a) {
                ++next;
            }
        }
        groups_[i] = next - i;
        i = next;
    }
}

// Gives each register a place that no register needed at the same time has.
void Program::place() {
    std::vector<size_t> last(widths.size(), 0);
    for (size_t i = 0; i < instructions.size(); ++i) {
        for (int reg : {instructions[i].a, instructions[i].b, instructions[i].c, instructions[i].out}) {
            if (reg >= 0) last[static_cast<size_t>(reg)] = i;
        }
    }
    slots_.assign(widths.size(), -1);
    slot_widths_.clear();
    std::vector<int> spare;
    auto release = [&](int reg, size_t now) {
        const bool ours = reg >= 0 && reg != input && reg != output && slots_[static_cast<size_t>(reg)] >= 0;
        if (ours && last[static_cast<size_t>(reg)] == now) spare.push_back(slots_[static_cast<size_t>(reg)]);
    };
    auto fresh = [&](int64_t register_width) {
        slot_widths_.push_back(register_width);
        return static_cast<int>(slot_widths_.size()) - 1;
    };
    if (input >= 0) slots_[static_cast<size_t>(input)] = fresh(0);
    slots_[static_cast<size_t>(output)] = fresh(0);  // the caller's memory
    size_t group_end = 0;
    std::vector<std::pair<int, size_t>> later;  // what a group reads and writes stays until its end
    for (size_t i = 0; i < instructions.size(); ++i) {
        const Instruction& op = instructions[i];
        if (op.op == Op::Linear && groups_[i] > 1) group_end = i + groups_[i];
        if (op.op == Op::Linear && op.add) {
            slots_[static_cast<size_t>(op.out)] = slots_[static_cast<size_t>(op.b)];
            release(op.a, i);
            continue;
        }
        // Turns in place what nothing else needs; otherwise a copy.
        const bool turned = op.op == Op::Rotate && op.a != output && op.out != output && last[static_cast<size_t>(op.a)] == i;
        if (turned) {
            slots_[static_cast<size_t>(op.out)] = slots_[static_cast<size_t>(op.a)];
            if (last[static_cast<size_t>(op.out)] == i) release(op.out, i);
            continue;
        }
        std::vector<int> inputs;
        for (int reg : {op.a, op.b, op.c}) {
            if (reg >= 0 && std::find(inputs.begin(), inputs.end(), reg) == inputs.end()) inputs.push_back(reg);
        }
        if (in_place(op.op)) {
            for (int reg : inputs) release(reg, i);
        }
        if (op.out >= 0 && slots_[static_cast<size_t>(op.out)] < 0) {
            const int64_t wanted = width(op.out);
            auto fits = [&](int slot) { return slot_widths_[static_cast<size_t>(slot)] == wanted; };
            auto found = std::find_if(spare.rbegin(), spare.rend(), fits);
            if (found == spare.rend()) {
                slots_[static_cast<size_t>(op.out)] = fresh(wanted);
            } else {
                slots_[static_cast<size_t>(op.out)] = *found;
                spare.erase(std::next(found).base());
            }
        }
        if (!in_place(op.op)) {
            for (int reg : inputs) {
                if (i < group_end) later.emplace_back(reg, i);
                else release(reg, i);
            }
        }
        if (op.out >= 0 && last[static_cast<size_t>(op.out)] == i) {  // nobody reads it, but the group writes it
            if (i < group_end) later.emplace_back(op.out, i);
            else release(op.out, i);
        }
        if (i + 1 >= group_end && !later.empty()) {
            for (const auto& [reg, when] : later) {
                if (last[static_cast<size_t>(reg)] == when) release(reg, when);
            }
            later.clear();
        }
    }
    for (const Instruction& op : instructions) {
        if (op.op == Op::Linear) widest_ = std::max(widest_, (op.weight->columns + 255) / 256 * 256);
    }
    memory_.assign(slot_widths_.size(), nullptr);
}

}  // namespace paddock
