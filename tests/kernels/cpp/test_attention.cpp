// Attention over the paged cache against plain double-precision softmax, and its promise of equal bits however a prompt is
// cut. Built as test_floats.cpp is.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "attention.h"

using namespace paddock;
namespace kernels = paddock::PADDOCK_VARIANT;

static int failures = 0;
static double worst = 0;
static std::mt19937 generator(11);
static int64_t below(int64_t n) { return std::uniform_int_distribution<int64_t>(0, n - 1)(generator); }

static void check(bool good, const char* what, int64_t a = 0, int64_t b = 0, int64_t c = 0) {
    if (good) return;
    if (++failures <= 20) std::printf("FAILED %s (%lld, %lld, %lld)\n", what, (long long)a, (long long)b, (long long)c);
}

static std::vector<float> normals(int64_t n) {
    std::vector<float> x(static_cast<size_t>(n));
    for (float& v : x) v = std::normal_distribution<float>()(generator);
    return x;
}

// A cache whose memory holds not-a-number wherever nothing was stored.
struct Room {
    CacheLayer layer;
    std::vector<uint8_t> keys, values;
    std::vector<float> key_scales, value_scales;
    std::vector<int32_t> table;

    Room(CacheType type, int64_t kv_heads, int64_t head_dim, int64_t slots) {
        const int64_t bytes = type == CacheType::F32 ? 4 : type == CacheType::INT8 ? 1 : 2;
        const int64_t needed = (slots + LANES - 1) / LANES, blocks = needed + 3;
        keys.assign(static_cast<size_t>(blocks * kv_heads * head_dim * LANES * bytes), 0xff);
        values = keys;
        key_scales.assign(static_cast<size_t>(blocks * kv_heads * LANES), NAN);
        value_scales = key_scales;
        std::vector<int32_t> all(static_cast<size_t>(blocks));
        for (size_t i = 0; i < all.size(); i++) all[i] = static_cast<int32_t>(i);
        std::shuffle(all.begin(), all.end(), generator);
        table.assign(all.begin(), all.begin() + needed);
        layer = {type, kv_heads, head_dim, keys.data(), values.data(), key_scales.data(), value_scales.data()};
    }

    double read(bool key, int64_t slot, int64_t head, int64_t d) const {
        const int64_t place = table[static_cast<size_t>(slot / LANES)] * layer.kv_heads + head, lane = slot % LANES, size = layer.head_dim;
        const int64_t at = key ? (place * size + d) * LANES + lane : (place * LANES + lane) * size + d;
        const uint8_t* data = key ? layer.keys : layer.values;
        uint16_t half;
        float wide;
        switch (layer.type) {
            case CacheType::F32: std::memcpy(&wide, data + at * 4, 4); return wide;
            case CacheType::F16: std::memcpy(&half, data + at * 2, 2); return kernels::from_f16(half);
            case CacheType::BF16: std::memcpy(&half, data + at * 2, 2); return kernels::from_bf16(half);
            default: break;
        }
        const float* scales = key ? layer.key_scales : layer.value_scales;
        return static_cast<double>(static_cast<int8_t>(data[at])) * scales[place * LANES + lane];
    }
};

struct Case {
    CacheType type;
    int64_t heads, kv_heads, head_dim, tokens;
    bool causal;
    int64_t prefix, window;
    bool slopes;
};

struct Sequence {
    Case c;
    std::vector<float> q, k, v, slopes;
    Room room;

    explicit Sequence(const Case& given)
        : c(given), q(normals(c.tokens * c.heads * c.head_dim)), k(normals(c.tokens * c.kv_heads * c.head_dim)),
          v(normals(c.tokens * c.kv_heads * c.head_dim)), room(c.type, c.kv_heads, c.head_dim, c.tokens) {
        for (int64_t h = 0; h < c.heads; h++) slopes.push_back(std::ldexp(1.0f, -1 - static_cast<int>(h % 8)));
    }

    float scale() const { return 1 / std::sqrt(static_cast<float>(c.head_dim)); }

    void store(int64_t first, int64_t rows) {
        const int64_t stride = c.kv_heads * c.head_dim;
        kernels::store(room.layer, k.data() + first * stride, stride, v.data() + first * stride, stride, rows, room.table.data(), first);
    }

    // Queries [first, first + rows), with `keys` slots filled, into their rows of `out`.
    void attend(int64_t first, int64_t rows, int64_t keys, std::vector<float>& out) const {
        const int64_t stride = c.heads * c.head_dim, sharing = c.heads / c.kv_heads;
        std::vector<float> scratch(static_cast<size_t>(attend_scratch(rows, sharing, keys)), NAN);
        for (int64_t kv = 0; kv < c.kv_heads; kv++) {
            const int64_t at = first * stride + kv * sharing * c.head_dim;
            const Attend task = {q.data() + at, stride, out.data() + at, stride, rows, sharing, kv, room.table.data(), first, keys,
                                 c.causal, c.prefix, c.window, scale(), c.slopes ? slopes.data() + kv * sharing : nullptr, scratch.data()};
            kernels::attend(room.layer, task);
        }
    }

    bool sees(int64_t query, int64_t slot) const {
        if (slot < c.prefix) return true;
        return (!c.causal || slot <= query) && (!c.window || slot > query - c.window);
    }

    void compare(int64_t query, int64_t head, const std::vector<float>& out) const {
        const int64_t size = c.head_dim, kv = head / (c.heads / c.kv_heads), at = (query * c.heads + head) * size;
        std::vector<double> weights(static_cast<size_t>(c.tokens), 0), sums(static_cast<size_t>(size), 0);
        double largest = -INFINITY, sum = 0, size_of_scores = 0;
        for (int64_t s = 0; s < c.tokens; s++) {
            double& w = weights[static_cast<size_t>(s)] = -INFINITY;
            if (!sees(query, s)) continue;
            double dot = 0;
            for (int64_t d = 0; d < size; d++) dot += q[static_cast<size_t>(at + d)] * room.read(true, s, kv, d);
            w = dot * scale() + (c.slopes ? slopes[static_cast<size_t>(head)] * static_cast<double>(s - query) : 0);
            largest = std::max(largest, w), size_of_scores = std::max(size_of_scores, std::fabs(w));
        }
        for (int64_t s = 0; s < c.tokens; s++) {
            const double w = weights[static_cast<size_t>(s)] == -INFINITY ? 0 : std::exp(weights[static_cast<size_t>(s)] - largest);
            if (w == 0) continue;
            sum += w;
            for (int64_t d = 0; d < size; d++) sums[static_cast<size_t>(d)] += w * room.read(false, s, kv, d);
        }
        for (int64_t d = 0; d < size; d++) {
            const double expected = sums[static_cast<size_t>(d)] / sum, found = out[static_cast<size_t>(at + d)];
            // A score's rounding is its size's; the weight takes it over.
            const double off = std::fabs(found - expected) / (2e-6 + 3e-7 * size_of_scores);
            worst = std::max(worst, off);
            check(off <= 1, "attention", query, head, d);
        }
    }
};

// How near what was stored lies to what was given.
static void check_stored(const Sequence& s) {
    const Case& c = s.c;
    for (int64_t i = 0; i < 200; i++) {
        const int64_t slot = below(c.tokens), head = below(c.kv_heads), d = below(c.head_dim), row = (slot * c.kv_heads + head) * c.head_dim;
        for (bool key : {true, false}) {
            const std::vector<float>& given = key ? s.k : s.v;
            double largest = 0;
            for (int64_t j = 0; j < c.head_dim; j++) largest = std::max(largest, std::fabs(static_cast<double>(given[static_cast<size_t>(row + j)])));
            const double x = given[static_cast<size_t>(row + d)], off = std::fabs(s.room.read(key, slot, head, d) - x);
            const double allowed[] = {0, std::fabs(x) / 2048 + 1e-7, std::fabs(x) / 256, largest / 254 * 1.00001};
            check(off <= allowed[static_cast<int>(c.type)], "stored number", slot, head, d);
        }
    }
}

static void run(const Case& c) {
    Sequence s(c);
    const size_t size = static_cast<size_t>(c.tokens * c.heads * c.head_dim);
    std::vector<float> whole(size, 5.0f), pieces(size, 5.0f);
    // In pieces: what is not yet written stays not-a-number, so seeing it would be noticed.
    if (c.causal && c.prefix == 0) {
        for (int64_t first = 0; first < c.tokens;) {
            const int64_t rows = std::min(c.tokens - first, 1 + below(below(2) ? 3 : 70));
            s.store(first, rows);
            s.attend(first, rows, first + rows, pieces);
            first += rows;
        }
    } else {
        s.store(0, c.tokens);
        for (int64_t first = 0; first < c.tokens;) {
            const int64_t rows = std::min(c.tokens - first, 1 + below(40));
            s.attend(first, rows, c.tokens, pieces);
            first += rows;
        }
    }
    s.attend(0, c.tokens, c.tokens, whole);
    check(std::memcmp(whole.data(), pieces.data(), size * 4) == 0, "a prompt in pieces", c.tokens, c.head_dim, static_cast<int64_t>(c.type));
    const int64_t step = std::max<int64_t>(1, c.tokens / 12);
    for (int64_t query = 0; query < c.tokens; query += step)
        for (int64_t head = 0; head < c.heads; head += std::max<int64_t>(1, c.heads / 4)) s.compare(query, head, whole);
    s.compare(c.tokens - 1, c.heads - 1, whole);
    check_stored(s);
}

static void test_shapes() {
    for (CacheType type : {CacheType::F32, CacheType::F16, CacheType::BF16, CacheType::INT8}) {
        for (int64_t head_dim : {8, 20, 64, 80, 128}) {
            for (int64_t tokens : {1, 15, 16, 17, 50, 100}) {
                run({type, 4, 2, head_dim, tokens, true, 0, 0, below(2) == 1});
                run({type, 2, 2, head_dim, tokens, below(2) == 1, below(30), below(40), below(2) == 1});
            }
        }
        run({type, 6, 2, 64, 1100, true, 0, 0, true});
        run({type, 2, 1, 20, 1300, true, 0, 100, false});
        run({type, 2, 1, 64, 1300, true, 40, 530, false});
        run({type, 3, 3, 8, 700, false, 0, 0, true});
        run({type, 71, 1, 16, 40, true, 0, 0, false});
    }
    std::printf("attention: largest error %.3f of what is allowed\n", worst);
}

// Numbers that cannot be stored must come out as not-a-number, and only for queries that see them.
static void test_spoilt() {
    for (CacheType type : {CacheType::F32, CacheType::F16, CacheType::BF16, CacheType::INT8}) {
        for (float bad : {NAN, INFINITY, -INFINITY}) {
            Sequence s({type, 2, 2, 20, 40, true, 0, 0, false});
            s.v[static_cast<size_t>((25 * 2 + 1) * 20 + 3)] = bad;
            s.store(0, 40);
            std::vector<float> out(40 * 2 * 20);
            s.attend(0, 40, 40, out);
            for (int64_t query = 0; query < 40; query++) {
                const float x = out[static_cast<size_t>((query * 2 + 1) * 20 + 3)], y = out[static_cast<size_t>(query * 2 * 20 + 3)];
                check(std::isfinite(x) == (query < 25) && std::isfinite(y), "a spoilt value", query, static_cast<int64_t>(type));
            }
            s.k[static_cast<size_t>((30 * 2) * 20 + 5)] = NAN;
            s.store(30, 1);
            s.attend(0, 40, 40, out);
            for (int64_t query = 0; query < 40; query++)
                check(std::isfinite(out[static_cast<size_t>(query * 2 * 20)]) == (query < 30), "a spoilt key", query, static_cast<int64_t>(type));
        }
    }
}

// No rows, and queries before which nothing is filled.
static void test_nothing() {
    Sequence s({CacheType::F16, 2, 1, 20, 4, false, 0, 0, false});
    std::vector<float> out(4 * 2 * 20, 5.0f);
    s.attend(0, 0, 4, out);
    check(out[0] == 5.0f, "no rows");
    s.attend(0, 2, 0, out);
    check(out[0] == 0.0f && out[2 * 2 * 20] == 5.0f, "no keys");
}

int main() {
    test_shapes();
    test_spoilt();
    test_nothing();
    std::printf(failures ? "%d checks failed\n" : "all good\n", failures);
    return failures ? 1 : 0;
}
