// The matrix unit's kernels, in namespace paddock::PADDOCK_VARIANT: compiled for AMX, and once more without it, where its
// instructions are computed by others (tiles.h). Where they do not pay the variant below computes, which has the same bits.
#include "tiled.h"

#include "tiled_bfloats.h"
#include "tiled_codes.h"

#ifdef PADDOCK_AMX
#define PADDOCK_BELOW avx512bf16
#else
#define PADDOCK_BELOW avx512
#endif

namespace paddock {
namespace PADDOCK_BELOW {
extern const Kernels table;
}

namespace PADDOCK_VARIANT {

static void linear(const Weight& w, const Rows& x, int64_t rows, int64_t first, int64_t last, const float* bias, bool add, float* y, int64_t stride) {
    const Linear task = {w, x, bias, add, y, stride};
    const Input input = input_of(w.format);
    if (input == Input::BFloats) return linear_bfloats_tiled(task, rows, first, last);
    if (input == Input::Codes && rows >= LEAST_TILED) return linear_codes_tiled(task, rows, first, last);
    PADDOCK_BELOW::table.linear(w, x, rows, first, last, bias, add, y, stride);
}

// Four sums at a time hide what one waits for the one before it.
template <class Kind> static int64_t dots(int64_t rounds, int64_t products) {
    configure_tiles(TileShapes(TILE_ROWS, TILE_LINE));
    alignas(64) static const uint8_t line[TILE_LINE] = {};
    load_tile<INPUTS>(line, 0), load_tile<INPUTS + 1>(line, 0), load_tile<WEIGHTS>(line, 0), load_tile<WEIGHTS + 1>(line, 0);
    each_sum<2, 2>([](auto sum) { zero_tile<SUMS + sum.VALUE>(); });
    const int64_t fewer = (rounds + 63) / 64;  // one product does the work of many registers'
    for (int64_t round = 0; round < fewer; round++) multiply_tiles<Kind, 2, 2>();
    release_tiles();
    return fewer * 4 * products;
}
static int64_t int8_dots(int64_t rounds) { return dots<SignedCodes>(rounds, 16 * 16 * 64); }
static int64_t bfloat16_dots(int64_t rounds) { return dots<Bfloats>(rounds, 16 * 16 * 32); }

extern const Tiled tiled;
const Tiled tiled = {linear, int8_dots, bfloat16_dots};

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
