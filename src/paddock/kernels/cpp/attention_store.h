// Writing keys and values into the paged cache.
#pragma once
#include "kernels.h"
#include "simd_float.h"

namespace paddock {
namespace PADDOCK_VARIANT {

// Up to 16 numbers in a cache's type. A plain copy, a rounding, or codes by a given inverse of the scale.
template <CacheType TYPE>
struct Stored;
template <>
struct Stored<CacheType::F32> {
    using Element = float;
    static PADDOCK_FORCED void convert(Floats x, float, float* out) { store(out, x); }
};
template <>
struct Stored<CacheType::F16> {
    using Element = uint16_t;
    static PADDOCK_FORCED void convert(Floats x, float, uint16_t* out) { store_f16(out, x); }
};
template <>
struct Stored<CacheType::BF16> {
    using Element = uint16_t;
    static PADDOCK_FORCED void convert(Floats x, float, uint16_t* out) { store_bf16(out, x); }
};
template <>
struct Stored<CacheType::INT8> {
    using Element = int8_t;
    static PADDOCK_FORCED void convert(Floats x, float inverse, int8_t* out) {
        alignas(64) float codes[LANES];
        store(codes, round(mul(x, broadcast(inverse))));
        for (int64_t i = 0; i < LANES; i++) out[i] = static_cast<int8_t>(codes[i]);
    }
};

struct Scale {
    float scale, inverse;
};

// Of one head's keys or values of one token: the largest magnitude is 127. Infinite or not-a-number features make the
// scale not-a-number, so that what attention reads is too, and never a plausible number.
PADDOCK_INLINE Scale scale_of(const float* x, int64_t count) {
    Floats largest = zeros(), spoilt = zeros();
    for (int64_t i = 0; i < count; i += LANES) {
        const Floats v = load(x + i, count - i < LANES ? count - i : LANES);
        largest = max(largest, magnitude(v));
        spoilt = add(spoilt, sub(v, v));
    }
    const float top = reduce_max(largest), bad = reduce_add(spoilt), scale = top / 127.0f;
    if (bad != 0.0f) return {bad, 0.0f};
    // Tiny magnitudes whose scale has no inverse are stored as zeros.
    return scale < 1e-37f ? Scale{0.0f, 0.0f} : Scale{scale, 127.0f / top};
}

// Stores one token's heads: values side by side, keys 16 apart.
template <CacheType TYPE>
PADDOCK_INLINE void store_token(const CacheLayer& cache, const float* k, const float* v, int64_t block, int64_t lane) {
    using Element = typename Stored<TYPE>::Element;
    const int64_t size = cache.head_dim;
    for (int64_t head = 0; head < cache.kv_heads; head++, k += size, v += size) {
        const int64_t place = block * cache.kv_heads + head;
        Scale ks = {1.0f, 1.0f}, vs = {1.0f, 1.0f};
        if (TYPE == CacheType::INT8) {
            ks = scale_of(k, size), vs = scale_of(v, size);
            cache.key_scales[place * LANES + lane] = ks.scale;
            cache.value_scales[place * LANES + lane] = vs.scale;
        }
        Element* keys = reinterpret_cast<Element*>(cache.keys) + place * size * LANES + lane;
        Element* values = reinterpret_cast<Element*>(cache.values) + (place * LANES + lane) * size;
        for (int64_t i = 0; i < size; i += LANES) {
            const int64_t n = size - i < LANES ? size - i : LANES;
            alignas(64) Element part[LANES];
            // A spoilt head's codes are zero: x - x is not zero there, and no float may be cast that does not fit.
            const Floats kx = ks.inverse == 0.0f ? zeros() : load(k + i, n), vx = vs.inverse == 0.0f ? zeros() : load(v + i, n);
            Stored<TYPE>::convert(kx, ks.inverse, part);
            for (int64_t j = 0; j < n; j++) keys[(i + j) * LANES] = part[j];
            Stored<TYPE>::convert(vx, vs.inverse, part);
            std::memcpy(values + i, part, static_cast<size_t>(n) * sizeof(Element));
        }
    }
}

template <CacheType TYPE>
static inline void store_rows(const CacheLayer& cache, const float* k, int64_t k_stride, const float* v, int64_t v_stride,
                              int64_t rows, const int32_t* table, int64_t first_slot) {
    for (int64_t r = 0; r < rows; r++) {
        const int64_t slot = first_slot + r;
        store_token<TYPE>(cache, k + r * k_stride, v + r * v_stride, table[slot / LANES], slot % LANES);
    }
}

static inline void store(const CacheLayer& cache, const float* k, int64_t k_stride, const float* v, int64_t v_stride,
                         int64_t rows, const int32_t* table, int64_t first_slot) {
    switch (cache.type) {
        case CacheType::F32: return store_rows<CacheType::F32>(cache, k, k_stride, v, v_stride, rows, table, first_slot);
        case CacheType::F16: return store_rows<CacheType::F16>(cache, k, k_stride, v, v_stride, rows, table, first_slot);
        case CacheType::BF16: return store_rows<CacheType::BF16>(cache, k, k_stride, v, v_stride, rows, table, first_slot);
        case CacheType::INT8: return store_rows<CacheType::INT8>(cache, k, k_stride, v, v_stride, rows, table, first_slot);
    }
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
