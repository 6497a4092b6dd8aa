#include <sys/mman.h>

#include <algorithm>
#include <new>
#include <numeric>

#include "program.h"

namespace paddock {

constexpr int64_t HUGE_FROM = int64_t{1} << 28;  // a small model's cache would take more pages than it fills

Cache::Cache(CacheType type, int64_t blocks, const std::vector<std::pair<int64_t, int64_t>>& shapes) : blocks_(blocks) {
    const int64_t size = type == CacheType::F32 ? 4 : type == CacheType::INT8 ? 1 : 2;
    std::vector<int64_t> offsets;
    auto take = [&](int64_t bytes) {
        offsets.push_back(bytes_);
        bytes_ += (bytes + 4095) / 4096 * 4096;
    };
    for (const auto& [heads, dim] : shapes) {
        for (int part = 0; part < 2; ++part) take(blocks * heads * dim * LANES * size);
        for (int part = 0; part < 2; ++part) take(type == CacheType::INT8 ? blocks * heads * LANES * 4 : 0);
    }
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS
#ifdef MAP_NORESERVE
                      | MAP_NORESERVE
#endif
        ;
    void* memory = mmap(nullptr, static_cast<size_t>(std::max<int64_t>(bytes_, 4096)), PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<uint8_t*>(memory);
#ifdef MADV_HUGEPAGE
    // Attention walks a long text's blocks in an order of its own; small pages cost it a third of the read bandwidth.
    if (bytes_ >= HUGE_FROM) madvise(memory, static_cast<size_t>(bytes_), MADV_HUGEPAGE);
#endif
    for (size_t i = 0; i < shapes.size(); ++i) {
        const int64_t* at = &offsets[4 * i];
        layers_.push_back({type, shapes[i].first, shapes[i].second, memory_ + at[0], memory_ + at[1],
                           reinterpret_cast<float*>(memory_ + at[2]), reinterpret_cast<float*>(memory_ + at[3])});
    }
}

Cache::~Cache() { munmap(memory_, static_cast<size_t>(std::max<int64_t>(bytes_, 4096))); }

Source::Source(CacheType type, int64_t slots, const std::vector<std::pair<int64_t, int64_t>>& shapes)
    : cache(type, (slots + LANES - 1) / LANES, shapes), table(static_cast<size_t>(cache.blocks())) {
    std::iota(table.begin(), table.end(), 0);
}

}  // namespace paddock
