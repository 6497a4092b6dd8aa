#include "weight.h"

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "forked.h"
#include "pool.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace paddock {

// Order of Format. Block sizes are those of ggml's published layouts.
const FormatFacts FORMATS[] = {
    {"f32", Format::F32, 1, 4},          {"f16", Format::F16, 1, 2},          {"bf16", Format::BF16, 1, 2},
    {"q8_0", Format::Q8_0, 32, 34},      {"q4_0", Format::Q4_0, 32, 18},      {"q4_1", Format::Q4_1, 32, 20},
    {"q5_0", Format::Q5_0, 32, 22},      {"q5_1", Format::Q5_1, 32, 24},      {"iq4_nl", Format::IQ4_NL, 32, 18},
    {"q2_k", Format::Q2_K, 256, 84},     {"q3_k", Format::Q3_K, 256, 110},    {"q4_k", Format::Q4_K, 256, 144},
    {"q5_k", Format::Q5_K, 256, 176},    {"q6_k", Format::Q6_K, 256, 210},    {"int4", Format::INT4, 32, 0},
    {"int8", Format::INT8, 32, 0},       {"nf4", Format::NF4, 64, 0},
};
const int FORMAT_COUNT = sizeof FORMATS / sizeof *FORMATS;

const FormatFacts& facts(Format format) { return FORMATS[static_cast<int>(format)]; }

const FormatFacts* format_named(const char* name) {
    for (const FormatFacts& each : FORMATS) {
        if (std::strcmp(each.name, name) == 0) return &each;
    }
    return nullptr;
}

namespace {

constexpr int64_t TILE_ALIGNMENT = 64, HUGE = 2 << 20;

int64_t round_up(int64_t bytes, int64_t to) { return (bytes + to - 1) / to * to; }

// Matrices of one model lie side by side in large pages: a page of its own for each would waste one in two, and zeroing
// what nobody fills takes time.
class Chunk {
public:
    explicit Chunk(int64_t bytes) : bytes_(round_up(bytes, bytes >= HUGE ? HUGE : TILE_ALIGNMENT)) {
        data_ = static_cast<uint8_t*>(std::aligned_alloc(bytes_ >= HUGE ? HUGE : TILE_ALIGNMENT, static_cast<size_t>(bytes_)));
        if (!data_) throw std::bad_alloc();
#if defined(__linux__) && defined(MADV_HUGEPAGE)
        // Fewer address translations while a matrix streams by; refused where the system has huge pages switched off.
        if (bytes_ >= HUGE) madvise(data_, static_cast<size_t>(bytes_), MADV_HUGEPAGE);
#endif
    }
    ~Chunk() { std::free(data_); }
    Chunk(const Chunk&) = delete;
    Chunk& operator=(const Chunk&) = delete;

    // The next `bytes` of it, or null where they are not left.
    uint8_t* take(int64_t bytes) {
        if (bytes > bytes_ - used_) return nullptr;
        uint8_t* taken = data_ + used_;
        used_ += bytes;
        return taken;
    }

private:
    int64_t bytes_, used_ = 0;
    uint8_t* data_;
};

constexpr int64_t CHUNK = 64 << 20, SHARED_FROM = 64 << 10;

// Memory for one matrix, and who owns it. Small models' matrices have memory of their own.
std::pair<std::shared_ptr<void>, uint8_t*> allocate(int64_t bytes) {
    struct Open {
        std::mutex turn;
        std::weak_ptr<Chunk> chunk;
    };
    static Own<Open> shared;
    if (bytes < SHARED_FROM || bytes > CHUNK / 2) {
        auto own = std::make_shared<Chunk>(bytes);
        uint8_t* data = own->take(bytes);
        return {std::move(own), data};
    }
    Open& open = shared.get();
    std::lock_guard<std::mutex> lock(open.turn);
    std::shared_ptr<Chunk> chunk = open.chunk.lock();
    uint8_t* data = chunk ? chunk->take(bytes) : nullptr;
    if (!data) {
        chunk = std::make_shared<Chunk>(CHUNK);
        open.chunk = chunk;
        data = chunk->take(bytes);
    }
    return {std::move(chunk), data};
}

}  // namespace

PackedWeight::PackedWeight(Format kind, int64_t height, int64_t width) : Weight{kind, height, width, 0, nullptr} {
    int64_t bytes = height > 0 && width > 0 ? packed_bytes(kind, height, width) : 0;
    if (bytes <= 0) {
        throw std::invalid_argument("a matrix of " + std::to_string(height) + " rows and " + std::to_string(width) +
                                    " columns does not fit " + facts(kind).name + ", whose blocks hold " +
                                    std::to_string(facts(kind).block) + " columns");
    }
    tile_bytes = bytes / tiles();
    auto [owner, memory] = allocate(round_up(bytes, TILE_ALIGNMENT));
    owner_ = std::move(owner);
    data = memory;
}

std::shared_ptr<PackedWeight> pack_weight(Format format, const uint8_t* blocks, int64_t row_bytes, int64_t rows, int64_t columns) {
    auto weight = std::make_shared<PackedWeight>(format, rows, columns);
    if (row_bytes < columns / facts(format).block * facts(format).block_bytes) {
        throw std::invalid_argument(std::string("rows of ") + std::to_string(row_bytes) + " bytes are too short for " +
                                    std::to_string(columns) + " columns of " + facts(format).name);
    }
    parallel(weight->tiles(), [&](int64_t tile, int) { pack(format, blocks, row_bytes, rows, columns, tile, tile + 1, weight->room()); });
    return weight;
}

std::shared_ptr<PackedWeight> pack_weight_affine(Format format, const uint8_t* codes, const uint16_t* scales, const uint8_t* zeros, int64_t rows, int64_t columns) {
    auto weight = std::make_shared<PackedWeight>(format, rows, columns);
    parallel(weight->tiles(), [&](int64_t tile, int) { pack_affine(format, codes, scales, zeros, rows, columns, tile, tile + 1, weight->room()); });
    return weight;
}

std::shared_ptr<PackedWeight> pack_weight_nf4(const uint8_t* codes, const float* scales, int64_t rows, int64_t columns) {
    auto weight = std::make_shared<PackedWeight>(Format::NF4, rows, columns);
    parallel(weight->tiles(), [&](int64_t tile, int) { pack_nf4(codes, scales, rows, columns, tile, tile + 1, weight->room()); });
    return weight;
}

}  // namespace paddock
