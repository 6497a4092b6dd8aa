// Softmax attention forward and backward (FlashAttention's way, arXiv 2205.14135: only a row's log-sum is kept, and the
// weights are computed again). One call does the heads of one text that share a key-value head, so that no two calls add
// to the same gradient. A block of queries meets only the keys between its first document's start and its last query.
#pragma once
#include "training_multiply.h"

namespace paddock {
namespace PADDOCK_VARIANT {

constexpr int64_t QUERIES = 64, KEYS = 64;  // of a block

template <class N>
struct Head {
    using Stored = typename N::Stored;
    Stored* data;
    int64_t token;
    Head(const Heads& all, int64_t batch, int64_t head)
        : data(static_cast<Stored*>(all.data) + batch * all.batch + head * all.head), token(all.token) {}
};

// `rows` tokens of a head, times `factor`, as rows of `padded` numbers, zeros behind head_dim.
template <class N>
static void widen(const Head<N>& head, int64_t first, int64_t rows, int64_t head_dim, typename N::Real factor, typename N::Real* out, int64_t padded) {
    const auto times = broadcast(factor);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < padded; i += LANES) {
            const int64_t n = head_dim - i;
            store(out + r * padded + i, mul(times, N::get(head.data + (first + r) * head.token + i, n)));
        }
    }
}

template <class N>
static void narrow(const typename N::Real* x, int64_t padded, const Head<N>& head, int64_t first, int64_t rows, int64_t head_dim, typename N::Real factor) {
    const auto times = broadcast(factor);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < head_dim; i += LANES) {
            N::put(head.data + (first + r) * head.token + i, mul(times, load(x + r * padded + i)), head_dim - i);
        }
    }
}

// (rows, padded) to (head_dim, columns), a block of 16 rows at a time; columns past `rows` become zeros.
template <class Real>
static void transpose(const Real* x, int64_t rows, int64_t padded, int64_t head_dim, Real* out, int64_t columns) {
    for (int64_t first = 0; first < columns; first += LANES) {
        const int64_t n = rows - first < LANES ? rows - first : LANES;
        for (int64_t i = 0; i < head_dim; i++) {
            Real* to = out + i * columns + first;
            for (int64_t r = 0; r < n; r++) to[r] = x[(first + r) * padded + i];
            for (int64_t r = n > 0 ? n : 0; r < LANES; r++) to[r] = 0;
        }
    }
}

// The keys that a query sees: [first, last).
struct Seen {
    int64_t first, last;
};

PADDOCK_INLINE Seen seen_by(const Attention& task, int64_t batch, int64_t query) {
    const int64_t first = task.starts ? task.starts[batch * task.queries + query] : 0;
    return {first, task.causal ? query + 1 : task.keys};
}

// Of a block of queries: the least range that holds what each sees, its start rounded down to a whole vector.
PADDOCK_INLINE Seen seen_by_block(const Attention& task, int64_t batch, int64_t query, int64_t rows) {
    Seen all = seen_by(task, batch, query);
    for (int64_t r = 1; r < rows; r++) {
        const Seen own = seen_by(task, batch, query + r);
        if (own.first < all.first) all.first = own.first;
        if (own.last > all.last) all.last = own.last;
    }
    all.first = all.first / LANES * LANES;
    return all;
}

// Scores of keys [from, to) to weights before division, zeros where the query does not see; gives max and sum.
template <class Real>
PADDOCK_INLINE Real soften(Real* scores, int64_t from, int64_t to, Seen seen, Real& most) {
    const Real none = static_cast<Real>(-INFINITY);
    for (int64_t i = from; i < seen.first; i++) scores[i - from] = none;
    for (int64_t i = seen.last; i < to; i++) scores[i - from] = none;
    auto high = broadcast(none);
    for (int64_t i = 0; i < to - from; i += LANES) high = max(high, load(scores + i));
    most = reduce_max(high);
    const auto top = broadcast(most);
    auto sums = broadcast(Real());
    for (int64_t i = 0; i < to - from; i += LANES) {
        const auto weight = exp(sub(load(scores + i), top));
        store(scores + i, weight);
        sums = add(sums, weight);
    }
    return reduce_add(sums);
}

template <class N>
static int64_t attention_scratch(const Attention& task, bool backward) {
    const int64_t padded = in_lanes(task.head_dim), keys = in_lanes(task.keys), room = keys + KEYS;
    int64_t count = 2 * keys * padded + QUERIES * padded * 2;  // keys' transpose, values; queries, results
    count += backward ? 4 * keys * padded + QUERIES * (padded + 2 * KEYS) : QUERIES * room;
    return (count + 8 * LANES) * static_cast<int64_t>(sizeof(typename N::Real));
}

template <class N>
static void attend(const Attention& task, int64_t batch, int64_t kv_head, void* scratch) {
    using Real = typename N::Real;
    const int64_t d = task.head_dim, padded = in_lanes(d), keys = in_lanes(task.keys), sharing = task.heads / task.kv_heads;
    Real* turned = static_cast<Real*>(scratch);    // (head_dim, keys)
    Real* values = turned + padded * keys;         // (keys, padded)
    Real* q = values + padded * keys;              // (QUERIES, padded)
    Real* sum = q + QUERIES * padded;              // (QUERIES, padded)
    Real* scores = sum + QUERIES * padded;         // (QUERIES, keys)
    widen<N>(Head<N>(task.k, batch, kv_head), 0, task.keys, d, Real(1), values, padded);
    transpose(values, task.keys, padded, d, turned, keys);
    widen<N>(Head<N>(task.v, batch, kv_head), 0, task.keys, d, Real(1), values, padded);
    for (int64_t head = kv_head * sharing; head < (kv_head + 1) * sharing; head++) {
        const Head<N> from(task.q, batch, head), out(task.out, batch, head);
        Real* log_sums = static_cast<Real*>(task.log_sums) + (batch * task.heads + head) * task.queries;
        for (int64_t first = 0; first < task.queries; first += QUERIES) {
            const int64_t rows = task.queries - first < QUERIES ? task.queries - first : QUERIES;
            const Seen all = seen_by_block(task, batch, first, rows);
            const int64_t width = in_lanes(all.last - all.first);
            widen<N>(from, first, rows, d, static_cast<Real>(task.scale), q, padded);
            multiply<Real>({q, padded, 1}, {turned + all.first, keys}, scores, width, rows, width, d);
            alignas(64) Real total[QUERIES];
            for (int64_t r = 0; r < rows; r++) {
                Real most;
                const Seen own = seen_by(task, batch, first + r);
                total[r] = soften(scores + r * width, all.first, all.first + width, own, most);
                log_sums[first + r] = most + logarithm(total[r]);
            }
            multiply<Real>({scores, width, 1}, {values + all.first * padded, padded}, sum, padded, rows, padded, all.last - all.first);
            for (int64_t r = 0; r < rows; r++) narrow<N>(sum + r * padded, padded, out, first + r, 1, d, Real(1) / total[r]);
        }
    }
}

// What the backward pass keeps of one key-value head: matrices of (keys, padded) and two transposed.
template <class Real>
struct Back {
    Real *keys, *turned_keys, *turned_values, *key_grads, *value_grads;
    Real *q, *out_grad, *q_grad, *weights, *grads;  // of a block
    int64_t padded, columns;
};

// One block of queries and one of keys: weights again, then the five products.
template <class Real>
static void back_block(const Attention& task, const Back<Real>& at, int64_t batch, int64_t first, int64_t rows, int64_t from, int64_t to, const Real* log_sums, const Real* dots) {
    const int64_t d = task.head_dim, padded = at.padded, width = in_lanes(to - from);
    multiply<Real>({at.q, padded, 1}, {at.turned_keys + from, at.columns}, at.weights, KEYS, rows, width, d);
    multiply<Real>({at.out_grad, padded, 1}, {at.turned_values + from, at.columns}, at.grads, KEYS, rows, width, d);
    for (int64_t r = 0; r < rows; r++) {
        Real *weights = at.weights + r * KEYS, *grads = at.grads + r * KEYS;
        const Seen own = seen_by(task, batch, first + r);
        const auto log_sum = broadcast(log_sums[first + r]), dot = broadcast(dots[r]);
        for (int64_t i = 0; i < width; i += LANES) {
            auto weight = exp(sub(load(weights + i), log_sum));
            store(weights + i, weight);
            store(grads + i, mul(weight, sub(load(grads + i), dot)));
        }
        for (int64_t i = from; i < from + width; i++) {
            if (i < own.first || i >= own.last) weights[i - from] = grads[i - from] = 0;
        }
    }
    multiply<Real>({at.weights, 1, KEYS}, {at.out_grad, padded}, at.value_grads + from * padded, padded, to - from, padded, rows, true);
    multiply<Real>({at.grads, 1, KEYS}, {at.q, padded}, at.key_grads + from * padded, padded, to - from, padded, rows, true);
    multiply<Real>({at.grads, KEYS, 1}, {at.keys + from * padded, padded}, at.q_grad, padded, rows, padded, to - from, true);
}

template <class N, class Real = typename N::Real>
static void back_head(const Attention& task, const Back<Real>& at, int64_t batch, int64_t head) {
    const int64_t d = task.head_dim, padded = at.padded;
    const Head<N> q(task.q, batch, head), out(task.out, batch, head), out_grad(task.out_grad, batch, head);
    const Real* log_sums = static_cast<const Real*>(task.log_sums) + (batch * task.heads + head) * task.queries;
    for (int64_t first = 0; first < task.queries; first += QUERIES) {
        const int64_t rows = task.queries - first < QUERIES ? task.queries - first : QUERIES;
        const Seen all = seen_by_block(task, batch, first, rows);
        alignas(64) Real dots[QUERIES];
        widen<N>(out_grad, first, rows, d, Real(1), at.out_grad, padded);
        widen<N>(out, first, rows, d, Real(1), at.q, padded);
        for (int64_t r = 0; r < rows; r++) {
            auto sum = broadcast(Real());
            for (int64_t i = 0; i < padded; i += LANES) sum = fma(load(at.q + r * padded + i), load(at.out_grad + r * padded + i), sum);
            dots[r] = reduce_add(sum);
        }
        widen<N>(q, first, rows, d, static_cast<Real>(task.scale), at.q, padded);
        for (int64_t i = 0; i < rows * padded; i++) at.q_grad[i] = 0;
        for (int64_t from = all.first; from < all.last; from += KEYS) {
            const int64_t to = from + KEYS < all.last ? from + KEYS : all.last;
            back_block<Real>(task, at, batch, first, rows, from, to, log_sums, dots);
        }
        narrow<N>(at.q_grad, padded, Head<N>(task.q_grad, batch, head), first, rows, d, static_cast<Real>(task.scale));
    }
}

template <class N>
static void attend_back(const Attention& task, int64_t batch, int64_t kv_head, void* scratch) {
    using Real = typename N::Real;
    const int64_t d = task.head_dim, padded = in_lanes(d), columns = in_lanes(task.keys), sharing = task.heads / task.kv_heads;
    const int64_t size = padded * columns, block = QUERIES * padded;
    Real* room = static_cast<Real*>(scratch);
    const Back<Real> at = {room, room + size, room + 2 * size, room + 3 * size, room + 4 * size,
                           room + 5 * size, room + 5 * size + block, room + 5 * size + 2 * block,
                           room + 5 * size + 3 * block, room + 5 * size + 3 * block + QUERIES * KEYS, padded, columns};
    widen<N>(Head<N>(task.v, batch, kv_head), 0, task.keys, d, Real(1), at.keys, padded);
    transpose(at.keys, task.keys, padded, d, at.turned_values, columns);
    widen<N>(Head<N>(task.k, batch, kv_head), 0, task.keys, d, Real(1), at.keys, padded);
    transpose(at.keys, task.keys, padded, d, at.turned_keys, columns);
    for (int64_t i = 0; i < size; i++) at.key_grads[i] = at.value_grads[i] = 0;
    for (int64_t head = kv_head * sharing; head < (kv_head + 1) * sharing; head++) back_head<N>(task, at, batch, head);
    narrow<N>(at.key_grads, padded, Head<N>(task.k_grad, batch, kv_head), 0, task.keys, d, Real(1));
    narrow<N>(at.value_grads, padded, Head<N>(task.v_grad, batch, kv_head), 0, task.keys, d, Real(1));
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
