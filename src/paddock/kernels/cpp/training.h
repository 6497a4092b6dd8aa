// What one instruction-set variant offers for training: operations forward and backward, as plain functions over plain
// pointers. bind_training.cpp cuts the work into parts that depend on shapes only, never on the number of threads, and
// adds partial sums in order, so a step gives the same bits however many threads take part.
#pragma once
#include <cstdint>

#include "kernels.h"

namespace paddock {

// A number type as memory holds it. What is computed, and weights, cosines, sums and statistics, are float32 for F32 and
// BF16, and float64 for F64, which is there so that gradients can be checked against differences.
enum class Number : int32_t { F32, BF16, F64 };

// (batch, heads, tokens, head_dim): strides in numbers; head_dim is contiguous.
struct Heads {
    void* data;
    int64_t batch, head, token;
};

// Softmax attention. Each key-value head is shared by heads / kv_heads query heads.
struct Attention {
    Heads q, k, v, out;
    void* log_sums;                  // (batch, heads, queries), contiguous: log of the sum of a row's exponentials
    Heads out_grad, q_grad, k_grad, v_grad;  // backward only
    const int64_t* starts;           // (batch, queries), contiguous: no key before this one is seen; null for none
    int64_t heads, kv_heads, queries, keys, head_dim;
    bool causal;                     // query i sees keys up to i
    double scale;                    // multiplies q . k; above 0
};

// Norms of rows (rows, width), contiguous. `mean` is null for RMSNorm; `bias` may be null.
struct Normed {
    const void *x, *weight, *bias;
    void *y, *mean, *factor;         // mean, factor (rows,): what takes x to its normal form
    const void* y_grad;              // backward only, as are these: weight_grad and bias_grad are added to, unless null
    void *x_grad, *weight_grad, *bias_grad;
    int64_t width;
    double eps;
};

// NF4 (arXiv 2305.14314) as bitsandbytes lays it out: two codes a byte, the first in the high half; `block` weights of the
// flattened matrix share a scale. It is codes[block] as a level times the scale of 256 blocks, plus an offset, where there
// are such codes; else a float32.
struct Levelled {
    const uint8_t *codes, *scale_codes;  // scale_codes: null for float32 scales
    const float *scales, *scale_levels;  // scales: of blocks, or of 256 of them; scale_levels (256,)
    float offset;
    int64_t block;                       // a multiple of 16
};

// Turns pairs of features of x (heads of one token, `head` numbers apart) by cos, sin (width / 2 each).
struct Turned {
    const void* x;
    void* y;
    int64_t heads, x_head, y_head, head_dim, width;
    const void *cos, *sin;
    bool interleaved, back;          // back: by the opposite angles
};

// A stretch of a product's depth: steps of two numbers from a matrix of bfloat16 whose rows are `row` numbers apart.
struct Run {
    const uint16_t* matrix;
    int64_t row, from, steps;        // from: the step of the left side that its first one meets
    bool across;                     // its rows are the result's columns; else they are the depth
};
constexpr int MOST_RUNS = 16;
constexpr int64_t PANEL_VECTORS = 3, VECTOR = 16, LEFT_ROWS = 8;

// y (rows, columns) bfloat16 = scale times the left side, laid out by `lay_left`, times the runs one after another.
struct Product {
    const uint32_t* left;
    int64_t left_steps, rows;
    const Run* runs;
    int count;
    int64_t columns;                 // of matrices that are read in whole vectors of 16
    uint16_t* y;
    int64_t y_row;
    float scale;
};

// y[r, c] float32 = or += sum over rows of left[row, r] x[row, c]: what many rows say of a narrow matrix.
struct Reduced {
    const uint32_t* left;            // by `lay_pairs`, from its first column that is asked for; LEFT_ROWS may be read
    int64_t left_width, count;       // count: columns of it that are asked for
    const uint16_t* x;
    int64_t x_row, rows, columns;
    float* y;
    int64_t y_row, y_column;
    bool onto;
};

// Null where the processor multiplies no pairs of bfloat16.
struct Products {
    // Rows of x as groups of LEFT_ROWS, each `left_steps` long, at the step that `left` points to.
    void (*lay_left)(const uint16_t* x, int64_t row, int64_t rows, int64_t steps, uint32_t* left, int64_t left_steps);
    int64_t (*scratch)(const Product& task);  // bytes, aligned to 64
    void (*product)(const Product& task, int64_t column, void* scratch);  // PANEL_VECTORS vectors of columns
    void (*lay_pairs)(const uint16_t* x, int64_t rows, int64_t width, uint32_t* out);
    void (*reduce)(const Reduced& task, int64_t column);                  // as many columns
};

struct TrainingOf {
    // Whole heads of one text that share a key-value head. `scratch`: attention_scratch(...) bytes, aligned to 64.
    int64_t (*attention_scratch)(const Attention& task, bool backward);
    void (*attend)(const Attention& task, int64_t batch, int64_t kv_head, void* scratch);
    void (*attend_back)(const Attention& task, int64_t batch, int64_t kv_head, void* scratch);
    // Rows [first, last).
    void (*norm)(const Normed& task, int64_t first, int64_t last);
    void (*norm_back)(const Normed& task, int64_t first, int64_t last);
    void (*rotate)(const Turned& token);
    // y = act(x) * up; up may be null. Backward: x_grad and, unless null, up_grad.
    void (*gate)(Activation kind, const void* x, const void* up, int64_t count, void* y);
    void (*gate_back)(Activation kind, const void* x, const void* up, const void* y_grad, int64_t count, void* x_grad, void* up_grad);
    // One row of logits: its loss -log softmax[target] and the log of its sum. Where `grad`, the row becomes
    // softmax - onehot(target), times `loss_scale`, plus softmax times `sum_scale`.
    void (*entropy)(void* logits, int64_t count, int64_t target, bool grad, double loss_scale, double sum_scale, void* loss, void* log_sum);
};

struct Training {
    TrainingOf f32, bf16, f64;
    // x, x_grad float32; y, y_grad bfloat16.
    void (*norm_narrow)(const Normed& task, int64_t first, int64_t last);
    void (*norm_narrow_back)(const Normed& task, int64_t first, int64_t last);
    // Weights [first, last) of the flattened matrix, first a whole number of blocks: as float32, and as bfloat16.
    void (*level)(const Levelled& task, int64_t first, int64_t last, float* y);
    void (*level_narrow)(const Levelled& task, int64_t first, int64_t last, uint16_t* y);
    Products products;
};

}  // namespace paddock
