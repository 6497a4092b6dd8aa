// Packing of F32, F16 and BF16 matrices; pack.cpp chooses.
#pragma once
#include "kernels.h"

namespace paddock {

int64_t packed_bytes_dense(Format format, int64_t rows, int64_t columns);
// `blocks`: plain numbers, row by row. Packs tiles [first, last), each at its own place from `out` on.
void pack_dense(Format format, const uint8_t* blocks, int64_t row_bytes, int64_t rows, int64_t columns, int64_t first,
                int64_t last, uint8_t* out);

}  // namespace paddock
