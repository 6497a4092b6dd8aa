// A model's forward as a list of operations, recorded once from the one Transformer (kernels/record.py) and replayed
// here without Python: one call runs a ragged batch of rows of many sequences over the paged cache.
//
// A register is a matrix (rows, width) of floats. Rows come in three kinds: every token of the batch, the tokens whose
// logits are wanted, and, within a mixture, the tokens sent to one expert. Operations are row by row (or one sequence's
// own, for attention), so no row's result depends on its neighbours.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "forked.h"
#include "kernels.h"
#include "weight.h"

namespace paddock {

// Rows of a published table used as it lies in its file: token or position vectors.
struct Table {
    Format format;  // F32, F16 or BF16, row-major; or any packed format, through `packed`
    int64_t rows, columns;
    const uint8_t* data;
    std::shared_ptr<PackedWeight> packed;
};

// Whether the float16 scales in published ggml blocks of `format` are all numbers.
bool finite_scales(Format format, const uint8_t* blocks, int64_t bytes);

// Keys and values of all layers, `blocks` blocks of 16 slots. Memory is reserved, and taken when first written.
class Cache {
public:
    Cache(CacheType type, int64_t blocks, const std::vector<std::pair<int64_t, int64_t>>& heads_and_dims);
    ~Cache();
    Cache(const Cache&) = delete;
    Cache& operator=(const Cache&) = delete;

    const CacheLayer& layer(int64_t index) const { return layers_[static_cast<size_t>(index)]; }
    int64_t layers() const { return static_cast<int64_t>(layers_.size()); }
    int64_t blocks() const { return blocks_; }
    int64_t bytes() const { return bytes_; }

private:
    int64_t blocks_, bytes_ = 0;
    uint8_t* memory_ = nullptr;
    std::vector<CacheLayer> layers_;
};

// Keys and values that a decoder's cross-attention reads: those of one encoder's text, whose tokens fill the slots in order.
struct Source {
    Source(CacheType type, int64_t slots, const std::vector<std::pair<int64_t, int64_t>>& heads_and_dims);
    Cache cache;
    std::vector<int32_t> table;  // the cache's blocks, in order
    int64_t filled = 0;          // slots that hold a text's tokens
};

// One forward: `rows` tokens of `sequences` sequences, whose rows follow each other.
struct BatchView {
    int64_t rows;
    const int32_t* ids;
    const int32_t* positions;  // (rows, streams of the program)
    int64_t sequences;
    const int64_t* spans;    // (sequences, 4): first row, rows, slot of the first row, prefix slots
    const int32_t* tables;   // (sequences, table_width): block numbers
    int64_t table_width;
    int64_t wanted;
    const int32_t* wanted_rows;
    const std::shared_ptr<Source>* sources;  // of each sequence; null where the program crosses none
    const float* rates;       // (sequences, rates of the program): the sequences' own frequencies; null where it asks for none
    const int32_t* adapters;  // (rows,): by number, 0 for none; null where no row has one
};

enum class Op { Embed, Linear, Norm, Activate, Gate, Multiply, Add, AddVector, Scale, Clamp, Rotate, Waves, Store, Attend, Select, Mixture, Adapt };
enum class RowKind { Tokens, Wanted, Expert };

constexpr int64_t INLINE_BYTES = 96 * 1024;  // weights read by a linear, times rows: below it the caller does them, as waking a thread costs more
constexpr int64_t TASK_TILES = 8;            // tiles per task of a linear: enough independent sums to hide latency

struct Program;

// What the adapter of this number adds to a linear: (scale * x a^T) b^T.
struct LowRank {
    int number;
    std::shared_ptr<PackedWeight> a, b;
    float scale;
};

struct Instruction {
    Op op;
    int out = -1, a = -1, b = -1, c = -1;              // registers
    std::shared_ptr<PackedWeight> weight;              // Linear
    std::vector<float> vector, vector2;                // bias; norm weight and bias; slopes and values by distance
    bool add = false;                                  // Linear: onto what `out` holds
    bool flag = false;                                 // Norm: RMS; Embed: by position; Rotate, Waves: interleaved; Attend: causal
    bool crossed = false;                              // Store, Attend: in each sequence's source
    bool rounded = false;                              // Attend: as of kernels.h
    Activation activation = Activation::SiLU;
    float x = 0, y = 0;                                // eps; factor; bounds; scale
    int64_t layer = 0, heads = 0, kv_heads = 0, head_dim = 0, width = 0, window = 0, farthest = 0, first = 0;  // first: feature that turns
    int table = -1;                                    // Embed: which table; Rotate, Waves: which angles
    int active = 0;                                    // Mixture: experts per row
    std::vector<std::shared_ptr<Program>> experts;     // Mixture
    std::vector<LowRank> ranks;                        // Adapt: onto `out`, of `a`; a number at most once
};

// cos and sin of (position + start) * frequency: for every position so far asked for, or where each sequence has
// frequencies of its own, for every row of the batch.
struct Angles {
    std::vector<float> frequencies;  // as many of anything where they are the sequences' own
    float gain = 1;
    int64_t start = 0;
    int64_t stream = 0;              // which of a token's positions counts
    bool narrow = false;             // computed in float16, as ChatGLM-6B's first release did
    bool own = false;
    int64_t positions = 0;
    std::vector<float> cos, sin;     // (positions or rows, frequencies)
    void reach(int64_t count);
    void compute(const BatchView& batch, int64_t streams);
    void set(size_t at, int64_t position, float frequency);
    // Where a row's cos and sin begin.
    size_t at(const BatchView& batch, int64_t streams, int64_t row) const {
        return static_cast<size_t>(own ? row : batch.positions[row * streams + stream]) * frequencies.size();
    }
};

// Memory that grows when asked for more and keeps nothing in it. What one long text took is given back once many short
// ones have followed.
class Workspace {
public:
    ~Workspace() { release(); }
    Workspace() = default;
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;
    float* fit(int64_t floats);

private:
    float* data_ = nullptr;
    int64_t floats_ = 0, small_ = 0;  // small_: how many asked for much less, one after another
    void release();
};

struct Program {
    std::vector<Instruction> instructions;
    std::vector<int64_t> widths;      // of registers
    std::vector<RowKind> kinds;
    std::vector<Table> tables;
    std::vector<Angles> angles;
    std::shared_ptr<Cache> cache;
    std::vector<std::pair<int64_t, int64_t>> crossed;  // of a source's layers: key-value heads and their width
    bool fills = false;               // its sources, which otherwise must be filled
    int64_t streams = 1, rates = 0;   // positions of a token; frequencies of a sequence
    int input = -1, output = -1;      // an expert's input; what the forward gives
    int adapters = 0;                 // the highest number of one
    Turn running;

    int make_register(int64_t width, RowKind kind);
    // Fuses, groups and places registers in memory. Nothing is recorded afterwards.
    void finish(int output);
    bool finished() const { return !slots_.empty(); }
    // Gives the output register's rows in `out` (wanted rows if the output was selected, otherwise all).
    void run(const BatchView& batch, float* out);

private:
    std::vector<int> slots_;              // register -> place in memory
    std::vector<int64_t> slot_widths_;
    std::vector<size_t> groups_;          // instruction -> how many linears of one input run as one from here
    std::vector<float*> memory_;          // one per slot
    int64_t capacity_ = 0;                // rows that there is memory for now
    uint8_t* forms_ = nullptr;            // codes, scales, sums and bfloats of one register
    Workspace space_, expert_space_;      // the experts of a mixture run one after another in the same memory
    Workspace low_space_;                 // of an adapter's low rows
    int64_t widest_ = 0;                  // input of a linear
    int form_of_ = -1;                    // the register they belong to
    bool has_codes_ = false, has_bfloats_ = false;
    std::vector<float> scratch_;          // of attention, a share for each thread
    std::vector<float> gathered_, answered_;  // rows sent to one expert, and what it made of them

    void fuse();
    void gather();
    void group();
    void place();
    void run_expert(const float* x, int64_t rows, const int32_t* numbers, float* out, Workspace& space);
    void reserve(int64_t rows, Workspace& space);
    float* memory(int reg) const { return memory_[static_cast<size_t>(slots_[static_cast<size_t>(reg)])]; }
    int64_t width(int reg) const { return widths[static_cast<size_t>(reg)]; }
    int64_t rows_of(int reg, const BatchView& batch) const;
    void execute(const BatchView& batch);
    void linears(size_t first, size_t number, int64_t rows);
    std::vector<int32_t> numbers_of(int reg, const BatchView& batch) const;
    void adapt(const Instruction& op, const BatchView& batch);
    Rows forms(int reg, int64_t rows, bool codes, bool bfloats);
    void embed(const Instruction& op, const BatchView& batch);
    void by_rows(const Instruction& op, int64_t rows);
    void rotate(const Instruction& op, const BatchView& batch);
    void waves(const Instruction& op, const BatchView& batch);
    void store(const Instruction& op, const BatchView& batch);
    void attend(const Instruction& op, const BatchView& batch);
    void mixture(const Instruction& op, const BatchView& batch);
};

}  // namespace paddock
