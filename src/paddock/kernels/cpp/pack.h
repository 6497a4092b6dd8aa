// Packing of plain numbers (pack_dense.cpp), which pack and packed_bytes pass on to.
#pragma once
#include "kernels.h"

namespace paddock {

int64_t packed_bytes_dense(Format format, int64_t rows, int64_t columns);
void pack_dense(Format format, const uint8_t* blocks, int64_t row_bytes, int64_t rows, int64_t columns, int64_t first, int64_t last, uint8_t* out);

}  // namespace paddock
