// One instruction set's operations for training; compiled beside variant.cpp, once per variant.
#include "training.h"
#include "training_attention.h"
#include "training_levels.h"
#include "training_pairs.h"
#include "training_products.h"
#include "training_rows.h"

namespace paddock {
namespace PADDOCK_VARIANT {

template <class N>
static constexpr TrainingOf training_of() {
    return {attention_scratch<N>, attend<N>, attend_back<N>, norm<N, N>, norm_back<N, N>, rotate<N>, gate<N>, gate_back<N>, entropy<N>};
}

static constexpr TrainingOf training_of_bfloats() {
    TrainingOf found = training_of<InBfloats>();
#if defined(__AVX512BF16__)
    found.attention_scratch = pairs_scratch, found.attend = attend_pairs, found.attend_back = attend_back_pairs;
#endif
    return found;
}

extern const Training training;
const Training training = {training_of<InFloats>(), training_of_bfloats(), training_of<InDoubles>(),
                           norm<InFloats, InBfloats>, norm_back<InFloats, InBfloats>, level<InFloats>, level<InBfloats>, PRODUCTS};

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
