// Attention over the paged cache (kernels.h has its layout): softmax in steps of SEGMENT slots, as in FlashAttention
// (arXiv 2205.14135), for up to PAIRS pairs of a query row and a head at a time.
//
// Each pair's arithmetic is its own: scores add up features in order, weighted values add up slots in order, and steps
// are cut at fixed slots. So its result has the same bits alone, beside others, or in another cut of the prompt.
#pragma once
#include "attention_limits.h"
#include "attention_store.h"
#include "kernels.h"
#include "multiply.h"

namespace paddock {
namespace PADDOCK_VARIANT {

constexpr float MINUS_INFINITY = -__builtin_huge_valf();

// The slots that one query sees: [low, high), and those below prefix.
struct Seen {
    int64_t low, high, prefix;
};

// Pairs [first, first + count) of the task, and what is kept of each.
struct Pairs {
    const Attend& task;
    int64_t first, count, head_dim;
    alignas(64) float largest[PAIRS];  // score so far
    Floats sums[PAIRS];                // of exp(score - largest), by lane
    Seen seen[PAIRS];

    PADDOCK_FORCED const float* query(int64_t p) const {
        return task.q + (first + p) / task.heads * task.q_stride + (first + p) % task.heads * head_dim;
    }
    PADDOCK_FORCED float* out(int64_t p) const {
        return task.out + (first + p) / task.heads * task.out_stride + (first + p) % task.heads * head_dim;
    }
    PADDOCK_FORCED float* scores(int64_t p) const { return task.scratch + p * SEGMENT; }
    PADDOCK_FORCED int64_t slot(int64_t p) const { return task.first_slot + (first + p) / task.heads; }
};

PADDOCK_INLINE Seen seen_by(const Attend& task, int64_t slot) {
    const int64_t high = task.causal && slot + 1 < task.keys ? slot + 1 : task.keys;
    const int64_t low = task.window > 0 && slot - task.window + 1 > 0 ? slot - task.window + 1 : 0;
    return {low, high, task.prefix < task.keys ? task.prefix : task.keys};
}

// Where the sequence's blocks lie.
template <class Step>
struct Blocks {
    const CacheLayer& cache;
    const Attend& task;

    PADDOCK_FORCED int64_t place(int64_t block) const { return task.table[block] * cache.kv_heads + task.kv_head; }
    PADDOCK_FORCED const uint8_t* keys(int64_t block) const {
        return cache.keys + place(block) * cache.head_dim * LANES * Step::BYTES;
    }
    PADDOCK_FORCED const uint8_t* values(int64_t block) const {
        return cache.values + place(block) * cache.head_dim * LANES * Step::BYTES;
    }
    // The block, or the sequence's last where it would lie beyond.
    PADDOCK_FORCED int64_t known(int64_t block) const {
        const int64_t last = (task.keys - 1) / LANES;
        return block < last ? block : last;
    }
    PADDOCK_FORCED int64_t filled(int64_t block) const {
        const int64_t rest = task.keys - block * LANES;
        return rest < LANES ? rest : LANES;
    }
};

// A range of blocks.
struct Range {
    int64_t first, last;
};

constexpr int together(int pairs) { return pairs == 1 ? TILES_OF_ONE : TILES; }

// Few pairs wait for memory, so they fetch the next blocks while they work on these; blocks lie apart, and hardware does
// not guess the next.
constexpr bool fetches(int pairs) { return pairs <= 4; }

// --- scores ---

PADDOCK_INLINE Floats to_bfloat16_and_back(Floats x) {
    alignas(64) uint16_t narrow[LANES];
    store_bf16(narrow, x);
    return load_bf16(narrow);
}

// The scores of 16 slots from `slot` on (`slots`, as floats) with what their places add, for one sharing head of a query.
PADDOCK_INLINE Floats place_share(Floats score, const Attend& task, int64_t head, int64_t query, int64_t slot, Floats slots) {
    if (task.near) {
        const int64_t far = near_middle(task.farthest), distance = slot - query;
        const int64_t kept = distance < -far ? -far : distance > task.farthest + 1 ? task.farthest + 1 : distance;
        score = add(score, load(task.near + head * padded_near(task.farthest) + far + kept));
    }
    if (!task.slopes) return score;
    const Floats slope = broadcast(task.slopes[head]);
    if (task.rounded) {
        const Floats share = to_bfloat16_and_back(mul(slope, to_bfloat16_and_back(slots)));
        return add(score, mul(share, broadcast(task.factor)));
    }
    return fma(sub(slots, broadcast(static_cast<float>(query))), slope, score);
}

// R pairs from p on with T blocks from `block` on: q . k, scaled, and the slope's share added.
template <class Step, int R, int T>
static void score_blocks(const Pairs& pairs, const Blocks<Step>& blocks, int64_t p, int64_t block, int64_t segment) {
    const Attend& task = pairs.task;
    const uint8_t *tiles[T], *ahead[T];
    const float* x[R];
    Floats sums[R][T];
    for (int t = 0; t < T; t++) tiles[t] = blocks.keys(block + t), ahead[t] = blocks.keys(blocks.known(block + T + t));
    PADDOCK_UNROLL
    for (int r = 0; r < R; r++) {
        x[r] = pairs.query(p + r);
        PADDOCK_UNROLL
        for (int t = 0; t < T; t++) sums[r][t] = zeros();
    }
    multiply<Step, R, T, fetches(R)>(sums, tiles, ahead, LANES * Step::BYTES, x, blocks.cache.head_dim);
    for (int t = 0; t < T; t++) {
        const int64_t slot = (block + t) * LANES;
        const Floats slots = add(lane_numbers(), broadcast(static_cast<float>(slot)));
        PADDOCK_UNROLL
        for (int r = 0; r < R; r++) {
            Floats score = sums[r][t];
            if (Step::BYTES == 1) score = mul(score, load(blocks.cache.key_scales + blocks.place(block + t) * LANES));
            score = mul(score, broadcast(task.scale));
            if (task.slopes || task.near) score = place_share(score, task, (pairs.first + p + r) % task.heads, pairs.slot(p + r), slot, slots);
            store(pairs.scores(p + r) + slot - segment, score);
        }
    }
}

template <class Step, int R>
static void score_rows(const Pairs& pairs, const Blocks<Step>& blocks, int64_t p, Range range, int64_t segment) {
    constexpr int T = together(R);
    int64_t block = range.first;
    for (; block + T <= range.last; block += T) score_blocks<Step, R, T>(pairs, blocks, p, block, segment);
    for (; block < range.last; block++) score_blocks<Step, R, 1>(pairs, blocks, p, block, segment);
}

// --- softmax ---

// Lanes of a block from `slot` on that a query sees keep x, others get `hidden`.
PADDOCK_INLINE Floats mask(Floats x, Seen seen, int64_t slot, Floats hidden) {
    if ((slot >= seen.low && slot + LANES <= seen.high) || slot + LANES <= seen.prefix) return x;
    const Floats lane = lane_numbers();
    const auto from = [&](int64_t s) { return broadcast(static_cast<float>(s - slot)); };
    const Floats windowed = select_less(lane, from(seen.low), hidden, select_less(lane, from(seen.high), x, hidden));
    return select_less(lane, from(seen.prefix), x, windowed);
}

// Turns the scores of a segment's blocks into weights exp(score - largest), and rescales what was summed before.
PADDOCK_INLINE void soften(Pairs& pairs, int64_t p, Range range, int64_t segment) {
    float* scores = pairs.scores(p);
    const Seen seen = pairs.seen[p];
    const Floats hidden = broadcast(MINUS_INFINITY);
    Floats top = hidden;
    for (int64_t slot = range.first * LANES; slot < range.last * LANES; slot += LANES) {
        const Floats score = mask(load(scores + slot - segment), seen, slot, hidden);
        store(scores + slot - segment, score);
        top = max(top, score);
    }
    const float before = pairs.largest[p], here = reduce_max(top), largest = before > here ? before : here;
    if (largest == MINUS_INFINITY) {  // nothing seen so far: exp would meet infinity less infinity
        for (int64_t i = range.first * LANES; i < range.last * LANES; i += LANES) store(scores + i - segment, zeros());
        return;
    }
    const Floats centre = broadcast(largest);
    if (largest != before) {
        const Floats factor = exp(sub(broadcast(before), centre));
        float* out = pairs.out(p);
        for (int64_t i = 0; i < pairs.head_dim; i += LANES) store(out + i, mul(load(out + i, pairs.head_dim - i), factor), pairs.head_dim - i);
        pairs.sums[p] = mul(pairs.sums[p], factor);
        pairs.largest[p] = largest;
    }
    Floats sum = zeros();
    for (int64_t i = range.first * LANES; i < range.last * LANES; i += LANES) {
        const Floats weight = exp(sub(load(scores + i - segment), centre));
        store(scores + i - segment, weight);
        sum = add(sum, weight);
    }
    pairs.sums[p] = add(pairs.sums[p], sum);
}

// --- weighted values ---

// What one pass over values adds up: features [feature, feature + 16 T), or `lanes` of 16, of slots from `from` on in
// blocks [first, last); the last block gives `count` slots.
struct Slice {
    int64_t feature, lanes;
    int64_t first, last, from, count;
};

template <class Step, int R, int T, bool WHOLE>
static void add_values(const Pairs& pairs, const Blocks<Step>& blocks, int64_t p, int64_t segment, Slice slice) {
    const int64_t stride = blocks.cache.head_dim * Step::BYTES;
    float* out[R];
    Floats sums[R][T];
    PADDOCK_UNROLL
    for (int r = 0; r < R; r++) {
        out[r] = pairs.out(p + r) + slice.feature;
        PADDOCK_UNROLL
        for (int t = 0; t < T; t++) sums[r][t] = WHOLE ? load(out[r] + t * LANES) : load(out[r], slice.lanes);
    }
    for (int64_t block = slice.first; block < slice.last; block++) {
        const int64_t end = block + 1 == slice.last ? slice.count : LANES;
        const uint8_t* values = blocks.values(block) + slice.from * stride + slice.feature * Step::BYTES;
        const float* x[R];
        for (int r = 0; r < R; r++) x[r] = pairs.scores(p + r) + block * LANES - segment + slice.from;
        if constexpr (WHOLE) {
            const uint8_t *tiles[T], *ahead[T];
            const int64_t away = blocks.values(blocks.known(block + 1)) - blocks.values(block);
            for (int t = 0; t < T; t++) tiles[t] = values + t * LANES * Step::BYTES, ahead[t] = tiles[t] + away;
            multiply<Step, R, T, fetches(R)>(sums, tiles, ahead, stride, x, end - slice.from);
        } else {
            multiply_part<Step, R>(sums, values, stride, slice.lanes, x, end - slice.from);
        }
    }
    PADDOCK_UNROLL
    for (int r = 0; r < R; r++) {
        PADDOCK_UNROLL
        for (int t = 0; t < T; t++) {
            if constexpr (WHOLE)
                store(out[r] + t * LANES, sums[r][t]);
            else
                store(out[r], sums[r][t], slice.lanes);
        }
    }
}

template <class Step, int R>
static void add_all_features(const Pairs& pairs, const Blocks<Step>& blocks, int64_t p, int64_t segment, Slice slice) {
    constexpr int T = together(R);
    const int64_t size = pairs.head_dim;
    int64_t i = 0;
    for (; i + T * LANES <= size; i += T * LANES) {
        slice.feature = i;
        add_values<Step, R, T, true>(pairs, blocks, p, segment, slice);
    }
    for (; i < size; i += LANES) {
        slice.feature = i, slice.lanes = size - i;
        if (slice.lanes >= LANES)
            add_values<Step, R, 1, true>(pairs, blocks, p, segment, slice);
        else
            add_values<Step, R, 1, false>(pairs, blocks, p, segment, slice);
    }
}

// INT8: the weights of a block's slots take in the scales of its values.
template <class Step>
PADDOCK_INLINE void weigh_scales(const Pairs& pairs, const Blocks<Step>& blocks, int64_t p, Range range, int64_t segment) {
    for (int64_t block = range.first; block < range.last; block++) {
        float* weights = pairs.scores(p) + block * LANES - segment;
        const Floats scales = load(blocks.cache.value_scales + blocks.place(block) * LANES);
        store(weights, mul(load(weights), scales));
    }
}

// --- the whole ---

constexpr int64_t BLOCKS_AT_ONCE = 4;  // whose keys or values stay in the first-level cache while all pairs pass

// `count` pairs, at most R: the number becomes the compiler's.
template <class Step, int R = ROWS>
static void score_some(int64_t count, const Pairs& pairs, const Blocks<Step>& blocks, int64_t p, Range range, int64_t segment) {
    if constexpr (R > 1) {
        if (count < R) return score_some<Step, R - 1>(count, pairs, blocks, p, range, segment);
    }
    score_rows<Step, R>(pairs, blocks, p, range, segment);
}

template <class Step, int R = ROWS>
static void add_some(int64_t count, const Pairs& pairs, const Blocks<Step>& blocks, int64_t p, int64_t segment, Slice slice) {
    if constexpr (R > 1) {
        if (count < R) return add_some<Step, R - 1>(count, pairs, blocks, p, segment, slice);
    }
    add_all_features<Step, R>(pairs, blocks, p, segment, slice);
}

// One block of which the pairs see different slots: each pair adds its own, at most two runs.
template <class Step>
static void add_uneven(const Pairs& pairs, const Blocks<Step>& blocks, int64_t block, int64_t segment) {
    const int64_t start = block * LANES, filled = blocks.filled(block);
    const auto clip = [&](int64_t slot) { return slot < start ? 0 : slot - start < filled ? slot - start : filled; };
    for (int64_t p = 0; p < pairs.count; p++) {
        const Seen seen = pairs.seen[p];
        const int64_t prefix = clip(seen.prefix), high = clip(seen.high);
        const int64_t low = clip(seen.low) > prefix ? clip(seen.low) : prefix;
        if (prefix > 0) add_some(1, pairs, blocks, p, segment, Slice{0, 0, block, block + 1, 0, prefix});
        if (low < high) add_some(1, pairs, blocks, p, segment, Slice{0, 0, block, block + 1, low, high});
    }
}

template <class Step>
static void add_segment(const Pairs& pairs, const Blocks<Step>& blocks, Range range, int64_t segment, Seen all) {
    const auto even = [&](int64_t block) {  // every pair sees all that the block holds
        const int64_t start = block * LANES, end = start + blocks.filled(block);
        return end <= all.prefix || (start >= all.low && end <= all.high);
    };
    for (int64_t block = range.first; block < range.last;) {
        int64_t end = block;
        while (end < range.last && end - block < BLOCKS_AT_ONCE && even(end)) end++;
        if (end == block) {
            add_uneven(pairs, blocks, block++, segment);
            continue;
        }
        const Slice slice = {0, 0, block, end, 0, blocks.filled(end - 1)};
        in_groups<ROWS>(pairs.count, [&](int64_t p, int64_t count) { add_some(count, pairs, blocks, p, segment, slice); });
        block = end;
    }
}

// Blocks of a segment that any pair sees, as one range.
PADDOCK_INLINE Range needed(Seen any, int64_t segment) {
    const int64_t end = segment + SEGMENT;
    const int64_t low = any.low > segment ? any.low : segment, high = any.high < end ? any.high : end;
    const int64_t prefix = any.prefix < end ? any.prefix : end;
    const bool has_prefix = segment < prefix, has_rest = low < high;
    if (!has_prefix && !has_rest) return {0, 0};
    const int64_t first = has_prefix ? segment : low;
    const int64_t last = has_rest && (!has_prefix || high > prefix) ? high : prefix;
    return {first / LANES, (last + LANES - 1) / LANES};
}

template <class Step>
static void attend_pairs(Pairs& pairs, const Blocks<Step>& blocks) {
    Seen any = pairs.seen[0], all = pairs.seen[0];
    for (int64_t p = 0; p < pairs.count; p++) {
        const Seen seen = pairs.seen[p];
        any.low = seen.low < any.low ? seen.low : any.low, any.high = seen.high > any.high ? seen.high : any.high;
        all.low = seen.low > all.low ? seen.low : all.low, all.high = seen.high < all.high ? seen.high : all.high;
        pairs.largest[p] = MINUS_INFINITY, pairs.sums[p] = zeros();
        std::memset(pairs.out(p), 0, static_cast<size_t>(pairs.head_dim) * sizeof(float));
    }
    for (int64_t segment = 0; segment < pairs.task.keys; segment += SEGMENT) {
        const Range range = needed(any, segment);
        for (int64_t block = range.first; block < range.last; block += BLOCKS_AT_ONCE) {
            const Range some = {block, block + BLOCKS_AT_ONCE < range.last ? block + BLOCKS_AT_ONCE : range.last};
            in_groups<ROWS>(pairs.count, [&](int64_t p, int64_t count) { score_some(count, pairs, blocks, p, some, segment); });
        }
        if (range.first == range.last) continue;
        for (int64_t p = 0; p < pairs.count; p++) {
            soften(pairs, p, range, segment);
            if (Step::BYTES == 1) weigh_scales(pairs, blocks, p, range, segment);
        }
        add_segment(pairs, blocks, range, segment, all);
    }
    for (int64_t p = 0; p < pairs.count; p++) {
        const float sum = reduce_add(pairs.sums[p]);
        const Floats factor = broadcast(sum == 0.0f ? 0.0f : 1.0f / sum);
        float* out = pairs.out(p);
        for (int64_t i = 0; i < pairs.head_dim; i += LANES) {
            const int64_t n = pairs.head_dim - i;
            store(out + i, mul(load(out + i, n), factor), n);
        }
    }
}

template <class Step>
static void attend_as(const CacheLayer& cache, const Attend& task) {
    const Blocks<Step> blocks = {cache, task};
    const int64_t total = task.rows * task.heads;
    for (int64_t first = 0; first < total; first += PAIRS) {
        Pairs pairs{task, first, total - first < PAIRS ? total - first : PAIRS, cache.head_dim, {}, {}, {}};
        for (int64_t p = 0; p < pairs.count; p++) pairs.seen[p] = seen_by(task, pairs.slot(p));
        attend_pairs(pairs, blocks);
    }
}

static inline void attend(const CacheLayer& cache, const Attend& task) {
    switch (cache.type) {
        case CacheType::F32: return attend_as<StepF32>(cache, task);
        case CacheType::F16: return attend_as<StepF16>(cache, task);
        case CacheType::BF16: return attend_as<StepBF16>(cache, task);
        case CacheType::INT8: return attend_as<StepInt8>(cache, task);
    }
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
