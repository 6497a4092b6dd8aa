// Attention in bfloat16 where the processor multiplies pairs of them (AVX512-BF16): training_attention.h's method with its
// products at twice the rate. A product's left side holds pairs along its rows, its right side pairs of consecutive rows,
// each pair in 32 bits. The backward pass works on scores turned over, (keys, queries), so that weights and their gradients
// are left sides as they stand. Sums are float32; weights are rounded to bfloat16 before they are multiplied.
#pragma once
#include "training_attention.h"

#if defined(__AVX512BF16__)
namespace paddock {
namespace PADDOCK_VARIANT {

using Pair = uint32_t;

template <int R, int T>
PADDOCK_INLINE void pairs_block(const Pair* a, int64_t a_row, const Pair* b, int64_t b_row, float* c, int64_t c_row, int64_t depth, bool onto) {
    __m512 sums[R][T];
    PADDOCK_UNROLL
    for (int r = 0; r < R; r++) {
        PADDOCK_UNROLL
        for (int t = 0; t < T; t++) sums[r][t] = onto ? load(c + r * c_row + t * LANES).v : _mm512_setzero_ps();
    }
    for (int64_t p = 0; p < depth; p++) {
        __m512i row[T];
        PADDOCK_UNROLL
        for (int t = 0; t < T; t++) row[t] = _mm512_loadu_si512(b + p * b_row + t * LANES);
        PADDOCK_UNROLL
        for (int r = 0; r < R; r++) {
            const __m512i x = _mm512_set1_epi32(static_cast<int>(a[r * a_row + p]));
            PADDOCK_UNROLL
            for (int t = 0; t < T; t++) sums[r][t] = _mm512_dpbf16_ps(sums[r][t], (__m512bh)x, (__m512bh)row[t]);
        }
    }
    PADDOCK_UNROLL
    for (int r = 0; r < R; r++) {
        PADDOCK_UNROLL
        for (int t = 0; t < T; t++) store(c + r * c_row + t * LANES, Floats{sums[r][t]});
    }
}

template <int R, int T>
static void pairs_columns(const Pair* a, int64_t a_row, const Pair* b, int64_t b_row, float* c, int64_t c_row, int64_t rows, int64_t depth, bool onto) {
    int64_t row = 0;
    for (; row + R <= rows; row += R) pairs_block<R, T>(a + row * a_row, a_row, b, b_row, c + row * c_row, c_row, depth, onto);
    if constexpr (R > 1) {
        if (row < rows) pairs_columns<R / 2, T>(a + row * a_row, a_row, b, b_row, c + row * c_row, c_row, rows - row, depth, onto);
    }
}

// c (rows, columns) = or += a b; columns is a multiple of LANES, depth counts pairs.
template <int T = BLOCK_VECTORS>
static void multiply_pairs(const Pair* a, int64_t a_row, const Pair* b, int64_t b_row, float* c, int64_t c_row, int64_t rows, int64_t columns, int64_t depth, bool onto) {
    int64_t column = 0;
    for (; column + T * LANES <= columns; column += T * LANES) {
        pairs_columns<BLOCK_ROWS, T>(a, a_row, b + column, b_row, c + column, c_row, rows, depth, onto);
    }
    if constexpr (T > 1) {
        if (column < columns) multiply_pairs<T - 1>(a, a_row, b + column, b_row, c + column, c_row, rows, columns - column, depth, onto);
    }
}

PADDOCK_INLINE __m512i narrowed(Floats x) { return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x.v)); }
PADDOCK_INLINE void put_narrow(uint16_t* p, Floats x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(x.v)); }

// `rows` tokens of a head as (total, padded) bfloat16, zeros around them.
static void take_rows(const Head<InBfloats>& head, int64_t first, int64_t rows, int64_t total, int64_t head_dim, uint16_t* out, int64_t padded) {
    for (int64_t r = 0; r < total; r++, out += padded) {
        const int64_t n = r < rows ? head_dim : 0;
        if (n) std::memcpy(out, head.data + (first + r) * head.token, static_cast<size_t>(n) * 2);
        for (int64_t i = n; i < padded; i++) out[i] = 0;
    }
}

// (rows, columns) to (columns, rows), in blocks of 16 rows.
template <class T>
static void turn(const T* x, int64_t rows, int64_t columns, T* out) {
    for (int64_t first = 0; first < rows; first += LANES) {
        for (int64_t i = 0; i < columns; i++) {
            for (int64_t r = first; r < first + LANES; r++) out[i * rows + r] = x[r * columns + i];
        }
    }
}

// (rows, padded) to (rows / 2, padded): pairs of two rows.
static void interleave(const uint16_t* x, int64_t rows, int64_t padded, Pair* out) {
    for (int64_t r = 0; r < rows; r += 2) {
        for (int64_t i = 0; i < padded; i += LANES) {
            const auto get = [&](int64_t row) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + row * padded + i))); };
            _mm512_storeu_si512(out + r / 2 * padded + i, _mm512_or_si512(get(r), _mm512_slli_epi32(get(r + 1), 16)));
        }
    }
}

// Cuts scratch into arrays that begin on a cache line.
struct Room {
    uint8_t* at;
    template <class T>
    T* take(int64_t count) {
        T* here = reinterpret_cast<T*>(at);
        at += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
        return here;
    }
};

static int64_t pairs_scratch(const Attention& task, bool backward) {
    const int64_t padded = in_lanes(task.head_dim), keys = in_lanes(task.keys);
    const int64_t forward = keys * padded * 6 + QUERIES * (padded * 6 + (keys + KEYS) * 6);
    const int64_t back = keys * padded * 14 + QUERIES * padded * 20 + QUERIES * KEYS * 16;
    return (backward ? back : forward) + 64 * 64;
}

// Scores to bfloat16 weights as `soften`, the scale multiplied in here; `seen` in numbers from the first score.
PADDOCK_INLINE float soften_pairs(float* scores, int64_t width, Seen seen, float scale, uint16_t* weights, float& most) {
    for (int64_t i = 0; i < seen.first; i++) scores[i] = -INFINITY;
    for (int64_t i = seen.last; i < width; i++) scores[i] = -INFINITY;
    Floats high = broadcast(-INFINITY), sums = zeros();
    for (int64_t i = 0; i < width; i += LANES) high = max(high, load(scores + i));
    most = reduce_max(high) * scale;
    const Floats times = broadcast(scale), less = broadcast(-most);
    for (int64_t i = 0; i < width; i += LANES) {
        const Floats weight = exp(fma(load(scores + i), times, less));
        put_narrow(weights + i, weight);
        sums = add(sums, weight);
    }
    return reduce_add(sums);
}

static void attend_pairs(const Attention& task, int64_t batch, int64_t kv_head, void* scratch) {
    const int64_t d = task.head_dim, padded = in_lanes(d), keys = in_lanes(task.keys), sharing = task.heads / task.kv_heads;
    Room room{static_cast<uint8_t*>(scratch)};
    uint16_t* plain = room.take<uint16_t>(keys * padded);
    Pair *turned = room.take<Pair>(keys * padded / 2), *values = room.take<Pair>(keys * padded / 2);
    uint16_t *q = room.take<uint16_t>(QUERIES * padded), *weights = room.take<uint16_t>(QUERIES * (keys + KEYS));
    float *sum = room.take<float>(QUERIES * padded), *scores = room.take<float>(QUERIES * (keys + KEYS));
    take_rows(Head<InBfloats>(task.k, batch, kv_head), 0, task.keys, keys, d, plain, padded);
    turn(reinterpret_cast<const Pair*>(plain), keys, padded / 2, turned);
    take_rows(Head<InBfloats>(task.v, batch, kv_head), 0, task.keys, keys, d, plain, padded);
    interleave(plain, keys, padded, values);
    for (int64_t head = kv_head * sharing; head < (kv_head + 1) * sharing; head++) {
        const Head<InBfloats> from(task.q, batch, head), out(task.out, batch, head);
        float* log_sums = static_cast<float*>(task.log_sums) + (batch * task.heads + head) * task.queries;
        for (int64_t first = 0; first < task.queries; first += QUERIES) {
            const int64_t rows = task.queries - first < QUERIES ? task.queries - first : QUERIES;
            const Seen all = seen_by_block(task, batch, first, rows);
            const int64_t width = in_lanes(all.last - all.first);
            take_rows(from, first, rows, rows, d, q, padded);
            multiply_pairs(reinterpret_cast<const Pair*>(q), padded / 2, turned + all.first, keys, scores, width, rows, width, padded / 2, false);
            alignas(64) float total[QUERIES];
            for (int64_t r = 0; r < rows; r++) {
                float most;
                const Seen own = seen_by(task, batch, first + r);
                total[r] = soften_pairs(scores + r * width, width, {own.first - all.first, own.last - all.first}, static_cast<float>(task.scale), weights + r * width, most);
                log_sums[first + r] = most + logarithm(total[r]);
            }
            multiply_pairs(reinterpret_cast<const Pair*>(weights), width / 2, values + all.first / 2 * padded, padded, sum, padded, rows, padded, width / 2, false);
            for (int64_t r = 0; r < rows; r++) narrow<InBfloats>(sum + r * padded, padded, out, first + r, 1, d, 1.0f / total[r]);
        }
    }
}

struct BackPairs {
    uint16_t *keys, *values, *turned_keys;   // (keys, padded) twice, (padded, keys)
    float *key_grads, *value_grads;          // (keys, padded)
    uint16_t *q, *out_grad;                  // of a block of queries: (QUERIES, padded)
    Pair *turned_q, *turned_grad, *two_q, *two_grad;  // (padded / 2, QUERIES) twice, (QUERIES / 2, padded) twice
    float *scores, *score_grads, *q_grad;    // (KEYS, QUERIES) twice, (padded, QUERIES)
    uint16_t *weights, *grads;               // (KEYS, QUERIES)
    Pair* two_grads;                         // (KEYS / 2, QUERIES)
    float *log_sums, *dots, *first, *last;   // (QUERIES,): of a query, the keys it sees among the last two
    int64_t padded, columns;
};

// (KEYS, QUERIES) scores and gradients of weights to weights and gradients of scores.
static void back_weights(const BackPairs& at, int64_t from, int64_t width, int64_t queries, float scale) {
    const Floats times = broadcast(scale);
    for (int64_t key = 0; key < width; key += 2) {
        for (int64_t i = 0; i < queries; i += LANES) {
            Floats grads[2];
            PADDOCK_UNROLL
            for (int half = 0; half < 2; half++) {
                const int64_t place = (key + half) * QUERIES + i;
                const Floats number = broadcast(static_cast<float>(from + key + half));
                Floats weight = exp(fma(load(at.scores + place), times, negative(load(at.log_sums + i))));
                weight = select_less(number, load(at.last + i), select_less(number, load(at.first + i), zeros(), weight), zeros());
                grads[half] = mul(weight, sub(load(at.score_grads + place), load(at.dots + i)));
                put_narrow(at.weights + place, weight);
                put_narrow(at.grads + place, grads[half]);
            }
            _mm512_storeu_si512(at.two_grads + key / 2 * QUERIES + i, _mm512_or_si512(narrowed(grads[0]), _mm512_slli_epi32(narrowed(grads[1]), 16)));
        }
    }
}

static void back_block_pairs(const BackPairs& at, int64_t from, int64_t width, int64_t queries, float scale) {
    const int64_t padded = at.padded, half = padded / 2;
    const auto pairs = [](const uint16_t* x) { return reinterpret_cast<const Pair*>(x); };
    multiply_pairs(pairs(at.keys + from * padded), half, at.turned_q, QUERIES, at.scores, QUERIES, width, queries, half, false);
    multiply_pairs(pairs(at.values + from * padded), half, at.turned_grad, QUERIES, at.score_grads, QUERIES, width, queries, half, false);
    back_weights(at, from, width, queries, scale);
    multiply_pairs(pairs(at.weights), QUERIES / 2, at.two_grad, padded, at.value_grads + from * padded, padded, width, padded, queries / 2, true);
    multiply_pairs(pairs(at.grads), QUERIES / 2, at.two_q, padded, at.key_grads + from * padded, padded, width, padded, queries / 2, true);
    multiply_pairs(pairs(at.turned_keys + from), at.columns / 2, at.two_grads, QUERIES, at.q_grad, QUERIES, padded, queries, width / 2, true);
}

// What a block of queries brings: itself and its gradient in all forms, and the dot of each result with its gradient.
static void back_queries(const Attention& task, const BackPairs& at, int64_t batch, int64_t head, int64_t first, int64_t rows) {
    const int64_t d = task.head_dim, padded = at.padded;
    const float* log_sums = static_cast<const float*>(task.log_sums) + (batch * task.heads + head) * task.queries;
    take_rows(Head<InBfloats>(task.out, batch, head), first, rows, QUERIES, d, at.q, padded);
    take_rows(Head<InBfloats>(task.out_grad, batch, head), first, rows, QUERIES, d, at.out_grad, padded);
    for (int64_t r = 0; r < QUERIES; r++) {
        Floats sum = zeros();
        for (int64_t i = 0; i < padded; i += LANES) sum = fma(load_bf16(at.q + r * padded + i), load_bf16(at.out_grad + r * padded + i), sum);
        at.dots[r] = reduce_add(sum);
        const bool real = r < rows;
        const Seen own = real ? seen_by(task, batch, first + r) : Seen{0, 0};
        at.log_sums[r] = real ? log_sums[first + r] : 0.0f;
        at.first[r] = static_cast<float>(own.first), at.last[r] = static_cast<float>(own.last);
    }
    take_rows(Head<InBfloats>(task.q, batch, head), first, rows, QUERIES, d, at.q, padded);
    turn(reinterpret_cast<const Pair*>(at.q), QUERIES, padded / 2, at.turned_q);
    turn(reinterpret_cast<const Pair*>(at.out_grad), QUERIES, padded / 2, at.turned_grad);
    interleave(at.q, QUERIES, padded, at.two_q);
    interleave(at.out_grad, QUERIES, padded, at.two_grad);
    for (int64_t i = 0; i < padded * QUERIES; i++) at.q_grad[i] = 0;
}

static void back_head_pairs(const Attention& task, const BackPairs& at, int64_t batch, int64_t head, float* turned) {
    const Head<InBfloats> q_grad(task.q_grad, batch, head);
    for (int64_t first = 0; first < task.queries; first += QUERIES) {
        const int64_t rows = task.queries - first < QUERIES ? task.queries - first : QUERIES;
        const Seen all = seen_by_block(task, batch, first, rows);
        back_queries(task, at, batch, head, first, rows);
        for (int64_t from = all.first; from < all.last; from += KEYS) {
            const int64_t width = in_lanes(all.last - from < KEYS ? all.last - from : KEYS);
            back_block_pairs(at, from, width, in_lanes(rows), static_cast<float>(task.scale));
        }
        turn(at.q_grad, at.padded, QUERIES, turned);
        narrow<InBfloats>(turned, at.padded, q_grad, first, rows, task.head_dim, static_cast<float>(task.scale));
    }
}

static void attend_back_pairs(const Attention& task, int64_t batch, int64_t kv_head, void* scratch) {
    const int64_t d = task.head_dim, padded = in_lanes(d), keys = in_lanes(task.keys), sharing = task.heads / task.kv_heads;
    const int64_t size = keys * padded, block = QUERIES * padded, square = KEYS * QUERIES;
    Room room{static_cast<uint8_t*>(scratch)};
    BackPairs at = {};
    at.keys = room.take<uint16_t>(size), at.values = room.take<uint16_t>(size), at.turned_keys = room.take<uint16_t>(size);
    at.key_grads = room.take<float>(size), at.value_grads = room.take<float>(size);
    at.q = room.take<uint16_t>(block), at.out_grad = room.take<uint16_t>(block);
    at.turned_q = room.take<Pair>(block / 2), at.turned_grad = room.take<Pair>(block / 2);
    at.two_q = room.take<Pair>(block / 2), at.two_grad = room.take<Pair>(block / 2);
    at.scores = room.take<float>(square), at.score_grads = room.take<float>(square), at.q_grad = room.take<float>(block);
    at.weights = room.take<uint16_t>(square), at.grads = room.take<uint16_t>(square), at.two_grads = room.take<Pair>(square / 2);
    float* rows = room.take<float>(4 * QUERIES);
    at.log_sums = rows, at.dots = rows + QUERIES, at.first = rows + 2 * QUERIES, at.last = rows + 3 * QUERIES;
    at.padded = padded, at.columns = keys;
    float* turned = room.take<float>(block);
    take_rows(Head<InBfloats>(task.k, batch, kv_head), 0, task.keys, keys, d, at.keys, padded);
    take_rows(Head<InBfloats>(task.v, batch, kv_head), 0, task.keys, keys, d, at.values, padded);
    turn(at.keys, keys, padded, at.turned_keys);
    for (int64_t i = 0; i < size; i++) at.key_grads[i] = at.value_grads[i] = 0;
    for (int64_t head = kv_head * sharing; head < (kv_head + 1) * sharing; head++) back_head_pairs(task, at, batch, head, turned);
    narrow<InBfloats>(at.key_grads, padded, Head<InBfloats>(task.k_grad, batch, kv_head), 0, task.keys, d, static_cast<float>(task.scale));
    narrow<InBfloats>(at.value_grads, padded, Head<InBfloats>(task.v_grad, batch, kv_head), 0, task.keys, d, 1.0f);
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
#endif
