// Matrices packed one after another by a thread of their own, while whoever will want them does something else.
#pragma once
#include <cstddef>
#include <memory>
#include <vector>

#include "weight.h"

namespace paddock {

// A matrix in a mapped file: published blocks, row by row.
struct Published {
    Format format;
    int64_t rows, columns;
    const uint8_t* blocks;

    int64_t row_bytes() const { return columns / facts(format).block * facts(format).block_bytes; }
};

class Ahead {
public:
    explicit Ahead(std::vector<Published> matrices);  // begins at once; the mapped file must outlive it
    ~Ahead();                                         // waits for the matrix in hand, and packs no more
    Ahead(const Ahead&) = delete;
    Ahead& operator=(const Ahead&) = delete;

    // The matrix of that number once it is packed, whoever asks first. Null where there is none: its scales are not
    // numbers, the memory did not last, or this process is a fork of the one that began. It is then for the caller to
    // pack it as any other, and to hear what is wrong with it.
    std::shared_ptr<PackedWeight> take(size_t number);

private:
    struct Work;
    Work* work_;  // of the process that began; a fork has no such thread, and leaves it as it is
};

}  // namespace paddock
