// Products of bfloat16 matrices that are laid out for the registers on their way (AVX512-BF16), and never as a whole: the
// left side once per call, of the right side a panel of up to 48 columns, which its core's second-level cache holds. A
// depth may be joined of several runs, so that a low-rank addition or a bias is a few more steps of one sum. Sums are
// float32 in the order of depth, whoever computes them.
#pragma once
#include "training_pairs.h"

namespace paddock {
namespace PADDOCK_VARIANT {

#if defined(__AVX512BF16__)

constexpr int64_t AHEAD = 32;            // rows that are fetched before they are read
constexpr int64_t STEPS_AT_ONCE = 2048;  // of a panel: 48 columns of so many pairs are 384 KiB

// Lanes and vectors change places.
PADDOCK_INLINE void transpose(__m512i (&v)[16]) {
    __m512i w[16];
    PADDOCK_UNROLL
    for (int i = 0; i < 8; i++) {
        w[2 * i] = _mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
        w[2 * i + 1] = _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
    }
    PADDOCK_UNROLL
    for (int i = 0; i < 16; i += 4) {
        v[i] = _mm512_unpacklo_epi64(w[i], w[i + 2]), v[i + 1] = _mm512_unpackhi_epi64(w[i], w[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(w[i + 1], w[i + 3]), v[i + 3] = _mm512_unpackhi_epi64(w[i + 1], w[i + 3]);
    }
    PADDOCK_UNROLL
    for (int i = 0; i < 4; i++) {
        w[i] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x88), w[i + 4] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xdd);
        w[i + 8] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x88), w[i + 12] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xdd);
    }
    PADDOCK_UNROLL
    for (int i = 0; i < 4; i++) {
        v[i] = _mm512_shuffle_i32x4(w[i], w[i + 8], 0x88), v[i + 8] = _mm512_shuffle_i32x4(w[i], w[i + 8], 0xdd);
        v[i + 4] = _mm512_shuffle_i32x4(w[i + 4], w[i + 12], 0x88), v[i + 12] = _mm512_shuffle_i32x4(w[i + 4], w[i + 12], 0xdd);
    }
}

// `steps` pairs of up to 16 rows (`row` numbers apart) as vectors of one pair a row, `apart` pairs from each other.
template <int WIDE>
PADDOCK_INLINE void lay_across(const uint16_t* x, int64_t row, int64_t rows, int64_t steps, Pair* out, int64_t apart) {
    for (int64_t p = 0; p < steps; p += LANES) {
        const __mmask16 here = first_lanes(steps - p);
        __m512i v[16];
        PADDOCK_UNROLL
        for (int r = 0; r < 16; r++) v[r] = r < rows ? _mm512_maskz_loadu_epi32(here, x + r * row + 2 * p) : _mm512_setzero_si512();
        transpose(v);
        const int64_t last = steps - p < LANES ? steps - p : LANES;
        for (int64_t i = 0; i < last; i++) {
            if (WIDE == 16) _mm512_storeu_si512(out + (p + i) * apart, v[i]);
            else _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + (p + i) * apart), _mm512_castsi512_si256(v[i]));
        }
    }
}

static void lay_left(const uint16_t* x, int64_t row, int64_t rows, int64_t steps, Pair* left, int64_t left_steps) {
    for (int64_t r = 0; r < rows; r += BLOCK_ROWS, left += left_steps * BLOCK_ROWS) {
        lay_across<BLOCK_ROWS>(x + r * row, row, rows - r < BLOCK_ROWS ? rows - r : BLOCK_ROWS, steps, left, BLOCK_ROWS);
    }
}

PADDOCK_INLINE __m512i two_rows(const uint16_t* first, const uint16_t* second) {
    const auto get = [](const uint16_t* p) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); };
    return _mm512_or_si512(get(first), _mm512_slli_epi32(get(second), 16));
}

// Steps [from, from + steps) of a run in `vectors` vectors of columns.
static void lay_panel(const Run& run, int64_t column, int vectors, int64_t from, int64_t steps, Pair* out) {
    if (run.across) {
        for (int t = 0; t < vectors; t++) {
            lay_across<16>(run.matrix + (column + t * LANES) * run.row + 2 * from, run.row, LANES, steps, out + t * LANES, vectors * LANES);
        }
        return;
    }
    const uint16_t* x = run.matrix + 2 * from * run.row + column;
    for (int64_t p = 0; p < steps; p++, x += 2 * run.row, out += vectors * LANES) {
        for (int64_t row = AHEAD; row < AHEAD + 2; row++) {  // a short stretch of each: the processor sees no pattern in it
            const uint16_t* next = x + row * run.row;
            __builtin_prefetch(next), __builtin_prefetch(next + vectors * LANES - 1);
        }
        for (int t = 0; t < vectors; t++) _mm512_store_si512(out + t * LANES, two_rows(x + t * LANES, x + run.row + t * LANES));
    }
}

struct Stretch {
    const Pair *left, *right;
    int64_t steps;
};

template <int T>
static void meet_panel(const Product& task, const Stretch* stretches, int count, int64_t group, int64_t column, float* sums, bool first, bool last) {
    __m512 s[BLOCK_ROWS][T];
    PADDOCK_UNROLL
    for (int r = 0; r < BLOCK_ROWS; r++) {
        PADDOCK_UNROLL
        for (int t = 0; t < T; t++) s[r][t] = first ? _mm512_setzero_ps() : _mm512_load_ps(sums + (r * T + t) * LANES);
    }
    for (int i = 0; i < count; i++) {
        const Pair *a = stretches[i].left + group * task.left_steps * BLOCK_ROWS, *b = stretches[i].right;
        for (int64_t p = 0; p < stretches[i].steps; p++) {
            __m512i row[T];
            PADDOCK_UNROLL
            for (int t = 0; t < T; t++) row[t] = _mm512_load_si512(b + (p * T + t) * LANES);
            PADDOCK_UNROLL
            for (int r = 0; r < BLOCK_ROWS; r++) {
                const __m512i x = _mm512_set1_epi32(static_cast<int>(a[p * BLOCK_ROWS + r]));
                PADDOCK_UNROLL
                for (int t = 0; t < T; t++) s[r][t] = _mm512_dpbf16_ps(s[r][t], (__m512bh)x, (__m512bh)row[t]);
            }
        }
    }
    if (!last) {
        PADDOCK_UNROLL
        for (int r = 0; r < BLOCK_ROWS; r++) {
            PADDOCK_UNROLL
            for (int t = 0; t < T; t++) _mm512_store_ps(sums + (r * T + t) * LANES, s[r][t]);
        }
        return;
    }
    const __m512 scale = _mm512_set1_ps(task.scale);
    PADDOCK_UNROLL
    for (int r = 0; r < BLOCK_ROWS; r++) {
        if (group * BLOCK_ROWS + r >= task.rows) break;
        PADDOCK_UNROLL
        for (int t = 0; t < T; t++) {
            const __mmask16 here = first_lanes(task.columns - column - t * LANES);
            uint16_t* y = task.y + (group * BLOCK_ROWS + r) * task.y_row + column + t * LANES;
            _mm256_mask_storeu_epi16(y, here, (__m256i)_mm512_cvtneps_pbh(_mm512_mul_ps(s[r][t], scale)));
        }
    }
}

static int64_t product_scratch(const Product& task) {
    return STEPS_AT_ONCE * PANEL_VECTORS * LANES * 4 + (task.rows + BLOCK_ROWS) * PANEL_VECTORS * LANES * 4;
}

template <int T>
static void product_of(const Product& task, int64_t column, void* scratch) {
    Pair* panel = static_cast<Pair*>(scratch);
    float* sums = reinterpret_cast<float*>(panel + STEPS_AT_ONCE * PANEL_VECTORS * LANES);
    int run = 0;
    int64_t done = 0;  // steps of that run
    for (bool first = true, last = false; !last; first = false) {
        Stretch stretches[MOST_RUNS];
        int count = 0;
        int64_t room = STEPS_AT_ONCE;
        for (Pair* at = panel; run < task.count && room > 0;) {
            const Run& own = task.runs[run];
            const int64_t steps = own.steps - done < room ? own.steps - done : room;
            lay_panel(own, column, T, done, steps, at);
            stretches[count++] = {task.left + (own.from + done) * BLOCK_ROWS, at, steps};
            at += steps * T * LANES, room -= steps, done += steps;
            if (done == own.steps) run++, done = 0;
        }
        last = run == task.count;
        for (int64_t group = 0; group * BLOCK_ROWS < task.rows; group++) {
            meet_panel<T>(task, stretches, count, group, column, sums + group * BLOCK_ROWS * T * LANES, first, last);
        }
    }
}

// Up to PANEL_VECTORS vectors of columns from `column` on.
static void product(const Product& task, int64_t column, void* scratch) {
    const int64_t left = (task.columns - column + LANES - 1) / LANES;
    left >= 3 ? product_of<3>(task, column, scratch) : left == 2 ? product_of<2>(task, column, scratch) : product_of<1>(task, column, scratch);
}

// Pairs of consecutive rows of the narrow side, rows / 2 x width.
static void lay_pairs(const uint16_t* x, int64_t rows, int64_t width, Pair* out) {
    for (int64_t r = 0; r < rows; r += 2) {
        for (int64_t i = 0; i < width; i++) {
            const Pair second = r + 1 < rows ? x[(r + 1) * width + i] : 0;
            *out++ = x[r * width + i] | second << 16;
        }
    }
}

template <int T>
static void reduce_of(const Reduced& task, int64_t column) {
    for (int64_t from = 0; from < task.count; from += BLOCK_ROWS) {
        __m512 s[BLOCK_ROWS][T];
        PADDOCK_UNROLL
        for (int r = 0; r < BLOCK_ROWS; r++) {
            PADDOCK_UNROLL
            for (int t = 0; t < T; t++) s[r][t] = _mm512_setzero_ps();
        }
        const Pair* a = task.left + from;
        const uint16_t* x = task.x + column;
        for (int64_t p = 0; p < task.rows; p += 2, a += task.left_width, x += 2 * task.x_row) {
            const uint16_t* second = p + 1 < task.rows ? x + task.x_row : x;  // met by zeros
            for (int64_t ahead = AHEAD; ahead < AHEAD + 2; ahead++) {
                __builtin_prefetch(x + ahead * task.x_row), __builtin_prefetch(x + ahead * task.x_row + T * LANES - 1);
            }
            __m512i row[T];
            PADDOCK_UNROLL
            for (int t = 0; t < T; t++) row[t] = two_rows(x + t * LANES, second + t * LANES);
            PADDOCK_UNROLL
            for (int r = 0; r < BLOCK_ROWS; r++) {
                const __m512i pair = _mm512_set1_epi32(static_cast<int>(a[r]));
                PADDOCK_UNROLL
                for (int t = 0; t < T; t++) s[r][t] = _mm512_dpbf16_ps(s[r][t], (__m512bh)pair, (__m512bh)row[t]);
            }
        }
        alignas(64) float sums[BLOCK_ROWS][T * LANES];
        PADDOCK_UNROLL
        for (int r = 0; r < BLOCK_ROWS; r++) {
            PADDOCK_UNROLL
            for (int t = 0; t < T; t++) _mm512_store_ps(sums[r] + t * LANES, s[r][t]);
        }
        for (int64_t r = 0; r < BLOCK_ROWS && from + r < task.count; r++) {
            for (int64_t i = 0; i < T * LANES; i++) {
                float& y = task.y[(from + r) * task.y_row + (column + i) * task.y_column];
                y = task.onto ? y + sums[r][i] : sums[r][i];
            }
        }
    }
}

static void reduce(const Reduced& task, int64_t column) {
    const int64_t left = (task.columns - column) / LANES;
    left >= 3 ? reduce_of<3>(task, column) : left == 2 ? reduce_of<2>(task, column) : reduce_of<1>(task, column);
}

constexpr Products PRODUCTS = {lay_left, product_scratch, product, lay_pairs, reduce};
#else
constexpr Products PRODUCTS = {};
#endif

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
