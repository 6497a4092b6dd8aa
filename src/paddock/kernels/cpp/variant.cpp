// One instruction set's kernels. Compiled once per variant with -DPADDOCK_VARIANT=name and that set's flags
// (CMakeLists.txt); everything in here lies in namespace paddock::PADDOCK_VARIANT.
#include "attention.h"
#include "dense.h"
#include "elementwise.h"
#include "kernels.h"
#include "peaks_variant.h"
#include "quantised.h"

#define NAME_OF(token) #token
#define NAME(token) NAME_OF(token)

namespace paddock {
namespace PADDOCK_VARIANT {

static void linear(const Weight& w, const Rows& x, int64_t rows, int64_t first, int64_t last, const float* bias, bool add, float* y, int64_t stride) {
    if (w.format == Format::NF4) return linear_nf4(w, x, rows, first, last, bias, add, y, stride);
    switch (input_of(w.format)) {
    case Input::Floats: return linear_floats(w, x, rows, first, last, bias, add, y, stride);
    case Input::BFloats: return linear_bfloats(w, x, rows, first, last, bias, add, y, stride);
    case Input::Codes: return linear_codes(w, x, rows, first, last, bias, add, y, stride);
    }
}

static void weight_row(const Weight& w, int64_t row, float* out) {
    if (w.format <= Format::BF16) return row_dense(w, row, out);
    row_codes(w, row, out);
}

extern const Kernels table;
const Kernels table = {NAME(PADDOCK_VARIANT), quantise, to_bfloat16, linear, weight_row, rms_norm, layer_norm, activate, gate, rotate, store, attend, top_k, mass};

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
