// NF4 weights as numbers, for matrix products of a kind that knows none: a level each, times the scale of its block.
#pragma once
#include "formats.h"
#include "training_numbers.h"

namespace paddock {
namespace PADDOCK_VARIANT {

constexpr int64_t NESTED = 256;  // blocks that share a scale of their scales

PADDOCK_INLINE float scale_of(const Levelled& task, int64_t block) {
    if (!task.scale_codes) return task.scales[block];
    return task.scale_levels[task.scale_codes[block]] * task.scales[block / NESTED] + task.offset;
}

#if defined(__AVX512F__)
// Sixteen levels from eight bytes.
struct Spelt {
    __m512 levels = _mm512_loadu_ps(NF4_LEVELS);
    PADDOCK_MEMBER Floats take(const uint8_t* codes) const {
        const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes)), low = _mm_set1_epi8(15);
        const __m128i first = _mm_and_si128(_mm_srli_epi16(bytes, 4), low), second = _mm_and_si128(bytes, low);
        return {_mm512_permutexvar_ps(_mm512_cvtepu8_epi32(_mm_unpacklo_epi8(first, second)), levels)};
    }
};
#else
struct Spelt {
    PADDOCK_MEMBER Floats take(const uint8_t* codes) const {
        alignas(64) float room[LANES];
        for (int64_t i = 0; i < LANES / 2; i++) room[2 * i] = NF4_LEVELS[codes[i] >> 4], room[2 * i + 1] = NF4_LEVELS[codes[i] & 15];
        return load(room);
    }
};
#endif

template <class N>
static void level(const Levelled& task, int64_t first, int64_t last, typename N::Stored* y) {
    const Spelt spelt;
    int64_t at = first;
    for (; at < last; at += task.block) {
        const Floats scale = broadcast(scale_of(task, at / task.block));
        const int64_t end = at + task.block < last ? at + task.block : last;
        int64_t i = at;
        for (; i + LANES <= end; i += LANES) N::put(y + i, mul(spelt.take(task.codes + i / 2), scale), LANES);
        if (i < end) {  // the matrix's last weights; nothing beyond their bytes is read
            uint8_t left[LANES / 2] = {};
            for (int64_t j = 0; j < (end - i + 1) / 2; j++) left[j] = task.codes[i / 2 + j];
            N::put(y + i, mul(spelt.take(left), scale), end - i);
        }
    }
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
