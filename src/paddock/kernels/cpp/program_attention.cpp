// What a program does with caches: keys and values stored and attended to, the sequences' own and those of their sources.
#include <algorithm>

#include "choose.h"
#include "pool.h"
#include "program.h"

namespace paddock {

namespace {

constexpr int64_t INLINE_PRODUCTS = 65536;  // attention below this is done by the caller: waking a thread costs more
constexpr int64_t TASK_QUERIES = 32;        // query rows per task

int64_t rounded(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// Slots that a sequence's last query may see.
int64_t seen(const Instruction& op, const BatchView& batch, int64_t sequence) {
    const int64_t* span = batch.spans + 4 * sequence;
    return op.crossed ? batch.sources[sequence]->filled : span[2] + span[1];
}

}  // namespace

void Program::store(const Instruction& op, const BatchView& batch) {
    const Kernels& native = kernels();
    const int64_t columns = width(op.a);
    const float *k = memory(op.a), *v = memory(op.b);
    for (int64_t sequence = 0; sequence < batch.sequences; ++sequence) {
        const int64_t* span = batch.spans + 4 * sequence;
        const Source* source = op.crossed ? batch.sources[sequence].get() : nullptr;
        const CacheLayer& layer = source ? source->cache.layer(op.layer) : cache->layer(op.layer);
        const int32_t* table = source ? source->table.data() : batch.tables + sequence * batch.table_width;
        native.store(layer, k + span[0] * columns, columns, v + span[0] * columns, columns, span[1], table, span[2]);
    }
}

void Program::attend(const Instruction& op, const BatchView& batch) {
    const Kernels& native = kernels();
    const int64_t sharing = op.heads / op.kv_heads, columns = op.heads * op.head_dim;
    struct Task { int64_t sequence, first, rows, head; };
    std::vector<Task> tasks;
    int64_t scratch = 0, floats = 0;
    for (int64_t sequence = 0; sequence < batch.sequences; ++sequence) {
        const int64_t* span = batch.spans + 4 * sequence;
        const int64_t keys = seen(op, batch, sequence);
        for (int64_t first = 0; first < span[1]; first += TASK_QUERIES) {
            const int64_t rows = std::min(TASK_QUERIES, span[1] - first);
            for (int64_t head = 0; head < op.kv_heads; ++head) tasks.push_back({sequence, first, rows, head});
            scratch = std::max(scratch, attend_scratch(rows, sharing, keys));
        }
        floats += span[1] * keys * columns;
    }
    scratch = rounded(scratch, 16);
    const int64_t shares = threads();  // another thread may set more of them at any time
    const int64_t needed = scratch * shares + 16;
    if (static_cast<int64_t>(scratch_.size()) < needed) scratch_.resize(static_cast<size_t>(needed));
    float* base = reinterpret_cast<float*>(rounded(reinterpret_cast<intptr_t>(scratch_.data()), 64));
    const float* q = memory(op.a);
    float* out = memory(op.out);
    auto run_task = [&](int64_t index, int thread) {
        const Task& task = tasks[static_cast<size_t>(index)];
        const int64_t* span = batch.spans + 4 * task.sequence;
        const int64_t at = (span[0] + task.first) * columns + task.head * sharing * op.head_dim;
        Attend job{};
        job.q = q + at;
        job.out = out + at;
        job.q_stride = job.out_stride = columns;
        job.rows = task.rows;
        job.heads = sharing;
        job.kv_head = task.head;
        const Source* source = op.crossed ? batch.sources[task.sequence].get() : nullptr;
        job.table = source ? source->table.data() : batch.tables + task.sequence * batch.table_width;
        job.first_slot = span[2] + task.first;
        job.keys = seen(op, batch, task.sequence);
        job.causal = op.flag;
        job.prefix = op.crossed ? 0 : span[3];
        job.window = op.window;
        job.scale = op.x;
        job.slopes = op.vector.empty() ? nullptr : op.vector.data() + task.head * sharing;
        job.near = op.vector2.empty() ? nullptr : op.vector2.data() + task.head * sharing * padded_near(op.farthest);
        job.farthest = op.farthest;
        job.rounded = op.rounded;
        job.factor = op.y;
        std::vector<float> own(thread < shares ? 0 : static_cast<size_t>(scratch + 16));
        job.scratch = own.empty() ? base + thread * scratch : reinterpret_cast<float*>(rounded(reinterpret_cast<intptr_t>(own.data()), 64));
        native.attend(source ? source->cache.layer(op.layer) : cache->layer(op.layer), job);
    };
    if (floats <= INLINE_PRODUCTS || threads() == 1) {
        for (size_t index = 0; index < tasks.size(); ++index) run_task(static_cast<int64_t>(index), 0);
    } else {
        parallel(static_cast<int64_t>(tasks.size()), [&](int64_t index, int thread) { run_task(index, thread); });
    }
}

}  // namespace paddock
