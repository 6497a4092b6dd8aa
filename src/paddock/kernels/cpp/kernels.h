// What one instruction-set variant offers: plain functions over plain pointers. No Python, no allocation, no threads in
// here; the executor (program.cpp) cuts work into tasks and calls these.
//
// Every function that computes a row gives the same bits for that row whatever rows stand beside it, whatever range of
// tiles it was called with, and whether the row is a prompt's or a decoded token's: one order of additions per output.
#pragma once
#include <cstddef>
#include <cstdint>

namespace paddock {

constexpr int64_t LANES = 16;  // output rows of a weight tile, and slots of a cache block: one AVX-512 register of floats
constexpr int64_t GROUP = 32;  // inputs that share a scale once activations are int8

enum class Format : int32_t {
    F32, F16, BF16,                              // plain numbers
    Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL,        // ggml blocks of 32 inputs
    Q2_K, Q3_K, Q4_K, Q5_K, Q6_K,                // ggml super-blocks of 256
    INT4, INT8,                                  // groups of 32 with a float16 scale and a zero point as wide as a code (GPTQ, AWQ)
    NF4,                                         // 16 levels times a float32 scale per group of 64 (QLoRA)
};

// A matrix (rows = outputs, columns = inputs) repacked in tiles of 16 rows, so that one register serves 16 outputs.
// Rows past the end of the last tile are zero. `data` is aligned to 64 bytes and so is every tile.
struct Weight {
    Format format;
    int64_t rows, columns;
    int64_t tile_bytes;
    const uint8_t* data;
    int64_t tiles() const { return (rows + LANES - 1) / LANES; }
};

// How the activations of a linear must be given for a format.
enum class Input : int32_t { Floats, BFloats, Codes };

// Activations (rows, columns) in the forms a linear may need; the executor makes each form once per register.
struct Rows {
    const float* floats;      // (rows, stride)
    int64_t stride;
    const uint16_t* bfloats;  // (rows, padded): bfloat16, columns rounded up to 32 with zeros
    const int8_t* codes;      // (rows, padded): round(x / scale), -127..127
    const float* scales;      // (rows, padded / 32): largest |x| of the group / 127
    const int32_t* sums;      // (rows, padded / 16): sums of 16 codes
    int64_t padded;
};

enum class Activation : int32_t { ReLU, SiLU, GELU, GELUTanh, Tanh, Sigmoid };
enum class CacheType : int32_t { F32, F16, BF16, INT8 };

// One layer's paged cache. Element order: keys [block][kv_head][head_dim][16 slots], values [block][kv_head][16 slots][head_dim].
// INT8 keeps a float32 scale per (block, kv_head, slot) for each.
struct CacheLayer {
    CacheType type;
    int64_t kv_heads, head_dim;
    uint8_t *keys, *values;
    float *key_scales, *value_scales;
};

// Queries of one sequence for one key-value head and the query heads that share it.
struct Attend {
    const float* q;          // row 0, first of the sharing heads; heads follow each other, head_dim floats each
    int64_t q_stride;
    float* out;              // laid out as q
    int64_t out_stride;
    int64_t rows;            // queries; they stand in consecutive slots
    int64_t heads;           // query heads that share the key-value head
    int64_t kv_head;
    const int32_t* table;    // numbers of the sequence's blocks
    int64_t first_slot;      // slot of query 0
    int64_t keys;            // slots filled, these queries' own included
    bool causal;             // query r sees slots up to first_slot + r; otherwise all `keys`
    int64_t prefix;          // slots below it are seen by every query (prefix masks), 0 for none
    int64_t window;          // sees this many latest slots, itself included; 0 for all
    float scale;             // multiplies q . k
    const float* slopes;     // per sharing head: slope * (key slot - query slot) is added after scaling; null for none
    float* scratch;          // attend_scratch(...) floats
    bool rounded = false;    // the slopes' share is of the key's slot alone, slot and product rounded to bfloat16, times `factor`
    float factor = 1;
    const float* near = nullptr;         // per sharing head, padded_near(farthest) floats: added after scaling, by distance; null for none
    int64_t farthest = 0;                // keys and queries this far apart or farther have one value each way
};

// Values by distance (key slot less query slot, from -farthest to farthest) are kept with their ends repeated, so that 16
// slots which follow each other are one load anywhere: the value of `distance` lies at [distance + near_middle(farthest)].
constexpr int64_t near_middle(int64_t farthest) { return farthest + LANES; }
constexpr int64_t padded_near(int64_t farthest) { return 2 * near_middle(farthest) + 1; }

struct Kernels {
    const char* name;
    // Forms of activations. Padding is written as zeros.
    void (*quantise)(const float* x, int64_t stride, int64_t rows, int64_t columns, int64_t padded, int8_t* codes, float* scales, int32_t* sums);
    void (*to_bfloat16)(const float* x, int64_t stride, int64_t rows, int64_t columns, int64_t padded, uint16_t* out);
    // y[r * stride + o] = x[r] . w[o] (+ bias[o]) (+ what y held, if add) for all rows and the outputs of tiles [first, last).
    void (*linear)(const Weight& w, const Rows& x, int64_t rows, int64_t first, int64_t last, const float* bias, bool add, float* y, int64_t stride);
    // Row `row` of the matrix as float32 (an embedding), exactly what the published format means.
    void (*weight_row)(const Weight& w, int64_t row, float* out);
    // One row each.
    void (*rms_norm)(const float* x, const float* weight, float eps, int64_t width, float* y);
    void (*layer_norm)(const float* x, const float* weight, const float* bias, float eps, int64_t width, float* y);
    void (*activate)(Activation kind, const float* x, int64_t count, float* y);                 // y may be x
    void (*gate)(Activation kind, const float* gate, const float* up, int64_t count, float* y); // y = act(gate) * up
    // x: heads * head_dim floats of one token; the first `width` features of each head turn by cos, sin (width / 2 each).
    void (*rotate)(float* x, int64_t heads, int64_t head_dim, int64_t width, const float* cos, const float* sin, bool interleaved);
    // Stores `rows` tokens' keys and values (kv_heads * head_dim floats a row) of one sequence in slots from first_slot on.
    void (*store)(const CacheLayer& cache, const float* k, int64_t k_stride, const float* v, int64_t v_stride, int64_t rows, const int32_t* table, int64_t first_slot);
    void (*attend)(const CacheLayer& cache, const Attend& task);
    // Indices of the `k` largest of n values, largest first, ties to the lower index; NaN counts as smallest.
    void (*top_k)(const float* x, int64_t n, int64_t k, int32_t* indices, float* values);
    // The sum of e^((x - top) / temperature) over n values, none above `top` and none NaN, in float64.
    double (*mass)(const float* x, int64_t n, float top, double temperature);
};

// --- the same for every variant ---
Input input_of(Format);                                            // quantised.cpp
int64_t packed_bytes(Format, int64_t rows, int64_t columns);       // of all tiles; 0 where the columns do not fit the format's blocks
int64_t attend_scratch(int64_t rows, int64_t heads, int64_t keys); // floats; attention.cpp
// Packs rows [first_tile * 16, ...) of tiles [first, last). `blocks`: published bytes, row by row (ggml layouts; plain numbers for
// F32, F16, BF16). Thread-safe for different tiles.
void pack(Format, const uint8_t* blocks, int64_t row_bytes, int64_t rows, int64_t columns, int64_t first, int64_t last, uint8_t* out);
// INT4 and INT8 from unpacked parts: codes (rows, columns) 0..15 or 0..255, scales (rows, columns / 32) float16 bits, zeros
// (rows, columns / 32) in the range of codes. A weight is (code - zero) * scale.
void pack_affine(Format, const uint8_t* codes, const uint16_t* scales, const uint8_t* zeros, int64_t rows, int64_t columns, int64_t first, int64_t last, uint8_t* out);
// NF4 from codes (rows, columns) 0..15 and scales (rows, columns / 64) float32.
void pack_nf4(const uint8_t* codes, const float* scales, int64_t rows, int64_t columns, int64_t first, int64_t last, uint8_t* out);

// --- the variants this build holds, best last; null where the machine cannot run one ---
const Kernels* kernels_portable();
const Kernels* kernels_avx2();
const Kernels* kernels_avx512();
const Kernels* kernels_avx512bf16();
const Kernels* kernels_neon();

}  // namespace paddock
