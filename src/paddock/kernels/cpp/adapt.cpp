// What adapters add to the rows that have one: any number of adapters, and rows without, in one batch.
//
// Rows of one adapter that follow each other are a run. Each of its rows gets what the program of a model with that adapter alone
// computes: the same two linears and the same scale, which no other row has a part in.
#include <algorithm>
#include <cstring>

#include "choose.h"
#include "pool.h"
#include "program.h"

namespace paddock {

namespace {

struct Stretch {
    int64_t first, rows;
    const LowRank* rank;
    float* low;          // (rows, rank)
    uint16_t* bfloats;   // (rows, padded rank), where b takes them
};

int64_t padded(int64_t columns) { return (columns + GROUP - 1) / GROUP * GROUP; }

// Floats that a run's low rows take, so that bfloats begin where a line of memory does.
int64_t low_floats(const Stretch& run) { return (run.rows * run.rank->a->rows + 15) / 16 * 16; }

// Calls part(run, from, to) over the tiles of each run's matrix, on several threads where the work is worth it.
template <class Matrix, class Part>
void over_tiles(const std::vector<Stretch>& runs, Matrix matrix, Part part) {
    int64_t bytes = 0;
    for (const Stretch& run : runs) bytes += matrix(run).bytes() * run.rows;
    if (threads() == 1 || bytes <= INLINE_BYTES) {
        for (const Stretch& run : runs) part(run, 0, matrix(run).tiles());
        return;
    }
    struct Task { const Stretch* run; int64_t from, to; };
    std::vector<Task> tasks;
    for (const Stretch& run : runs) {
        const int64_t tiles = matrix(run).tiles(), step = std::clamp<int64_t>(tiles / (2 * threads()), 1, TASK_TILES);
        for (int64_t from = 0; from < tiles; from += step) tasks.push_back({&run, from, std::min(tiles, from + step)});
    }
    parallel(static_cast<int64_t>(tasks.size()), [&](int64_t task, int) {
        const Task& mine = tasks[static_cast<size_t>(task)];
        part(*mine.run, mine.from, mine.to);
    });
}

std::vector<Stretch> runs_of(const std::vector<LowRank>& ranks, const std::vector<int32_t>& numbers) {
    std::vector<Stretch> runs;
    const int64_t rows = static_cast<int64_t>(numbers.size());
    for (int64_t row = 0, next; row < rows; row = next) {
        const int32_t number = numbers[static_cast<size_t>(row)];
        for (next = row + 1; next < rows && numbers[static_cast<size_t>(next)] == number;) ++next;
        const auto found = std::find_if(ranks.begin(), ranks.end(), [&](const LowRank& rank) { return rank.number == number; });
        if (found != ranks.end()) runs.push_back({row, next - row, &*found, nullptr, nullptr});
    }
    return runs;
}

}  // namespace

// The adapter of each of a register's rows; empty where none has one.
std::vector<int32_t> Program::numbers_of(int reg, const BatchView& batch) const {
    if (!batch.adapters) return {};
    if (kinds[static_cast<size_t>(reg)] != RowKind::Wanted) return {batch.adapters, batch.adapters + batch.rows};
    std::vector<int32_t> numbers;
    for (int64_t row = 0; row < batch.wanted; ++row) numbers.push_back(batch.adapters[batch.wanted_rows[row]]);
    return numbers;
}

void Program::adapt(const Instruction& op, const BatchView& batch) {
    std::vector<Stretch> runs = runs_of(op.ranks, numbers_of(op.a, batch));
    if (runs.empty()) return;
    int64_t floats = 0;
    bool bfloats = false;
    for (const Stretch& run : runs) {
        floats += low_floats(run) + run.rows * padded(run.rank->a->rows) / 2;
        bfloats |= input_of(run.rank->a->format) == Input::BFloats;
    }
    float* at = low_space_.fit(floats);
    for (Stretch& run : runs) {
        run.low = at;
        run.bfloats = reinterpret_cast<uint16_t*>(at + low_floats(run));
        at += low_floats(run) + run.rows * padded(run.rank->a->rows) / 2;
    }
    const Kernels& native = kernels();
    const Rows x = forms(op.a, rows_of(op.a, batch), false, bfloats);
    over_tiles(runs, [](const Stretch& run) -> const PackedWeight& { return *run.rank->a; }, [&](const Stretch& run, int64_t from, int64_t to) {
        Rows part = x;
        part.floats += run.first * x.stride;
        if (part.bfloats) part.bfloats += run.first * x.padded;
        native.linear(*run.rank->a, part, run.rows, from, to, nullptr, false, run.low, run.rank->a->rows);
    });
    for (const Stretch& run : runs) {
        const int64_t rank = run.rank->a->rows;
        for (int64_t i = 0; i < run.rows * rank; ++i) run.low[i] *= run.rank->scale;
        if (input_of(run.rank->b->format) == Input::BFloats) native.to_bfloat16(run.low, rank, run.rows, rank, padded(rank), run.bfloats);
    }
    float* y = memory(op.out);
    const int64_t columns = width(op.out);
    over_tiles(runs, [](const Stretch& run) -> const PackedWeight& { return *run.rank->b; }, [&](const Stretch& run, int64_t from, int64_t to) {
        const int64_t rank = run.rank->a->rows;
        const Rows low{run.low, rank, run.bfloats, nullptr, nullptr, nullptr, padded(rank)};
        native.linear(*run.rank->b, low, run.rows, from, to, nullptr, true, y + run.first * columns, columns);
    });
}

}  // namespace paddock
