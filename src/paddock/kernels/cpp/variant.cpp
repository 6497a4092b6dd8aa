// One instruction set's kernels. Compiled once per variant with -DPADDOCK_VARIANT=name and that set's flags
// (CMakeLists.txt); everything in here lies in namespace paddock::PADDOCK_VARIANT.
#include "kernels.h"
#include "peaks_variant.h"

#if defined(__AVX512F__)
#define HAVE_INT 1
#elif defined(__AVX2__)
#define HAVE_INT __has_include("simd_int_avx2.h")
#else
#define HAVE_INT __has_include("simd_int_portable.h")
#endif
#if __has_include("quantised.h") && HAVE_INT
#include "quantised.h"
#define HAVE_QUANTISED 1
#endif
#if __has_include("dense.h")
#include "dense.h"
#define HAVE_DENSE 1
#endif
#if __has_include("elementwise.h")
#include "elementwise.h"
#define HAVE_ELEMENTWISE 1
#endif
#if __has_include("attention.h")
#include "attention.h"
#define HAVE_ATTENTION 1
#endif

#define NAME_OF(token) #token
#define NAME(token) NAME_OF(token)

namespace paddock {
namespace PADDOCK_VARIANT {

void linear(const Weight& w, const Rows& x, int64_t rows, int64_t first, int64_t last, const float* bias, bool add, float* y, int64_t stride) {
#if HAVE_DENSE
    switch (input_of(w.format)) {
    case Input::Floats: return linear_floats(w, x, rows, first, last, bias, add, y, stride);
    case Input::BFloats:
#if HAVE_QUANTISED
        if (w.format == Format::NF4) return linear_nf4(w, x, rows, first, last, bias, add, y, stride);
#endif
        return linear_bfloats(w, x, rows, first, last, bias, add, y, stride);
    case Input::Codes: break;
    }
#endif
#if HAVE_QUANTISED
    linear_codes(w, x, rows, first, last, bias, add, y, stride);
#endif
    (void)w, (void)x, (void)rows, (void)first, (void)last, (void)bias, (void)add, (void)y, (void)stride;
}

void weight_row(const Weight& w, int64_t row, float* out) {
#if HAVE_DENSE
    if (w.format <= Format::BF16) return row_dense(w, row, out);
#endif
#if HAVE_QUANTISED
    return row_codes(w, row, out);
#endif
    (void)w, (void)row, (void)out;
}

extern const Kernels table;
const Kernels table = {
    NAME(PADDOCK_VARIANT),
#if HAVE_QUANTISED
    quantise,
#else
    nullptr,
#endif
#if HAVE_DENSE
    to_bfloat16,
#else
    nullptr,
#endif
    linear,
    weight_row,
#if HAVE_ELEMENTWISE
    rms_norm, layer_norm, activate, gate, rotate,
#else
    nullptr, nullptr, nullptr, nullptr, nullptr,
#endif
#if HAVE_ATTENTION
    store, attend, top_k,
#else
    nullptr, nullptr, nullptr,
#endif
};

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
