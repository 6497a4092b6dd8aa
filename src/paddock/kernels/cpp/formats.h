// What a format's bits mean: its codes step by step, and the scales beside them, as vectors over the 16 lanes of a tile.
#pragma once
#include "simd_int.h"

namespace paddock {
namespace PADDOCK_VARIANT {

// IQ4_NL's sixteen levels, plus 128.
static const uint8_t IQ4_LEVELS[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};

static const float NF4_LEVELS[16] = {
    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
    -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
    0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
    0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f,
};

// Moves bit FROM of every byte to bit TO.
template <int FROM, int TO> PADDOCK_INLINE Codes moved(Codes line) {
    if constexpr (FROM < TO) return left<TO - FROM>(line);
    else if constexpr (FROM > TO) return right<FROM - TO>(line);
    else return line;
}

// Step STEP of the group whose lines begin at `lines`.
template <Planes PLANES, int STEP> PADDOCK_INLINE Codes code(const uint8_t* lines) {
    if constexpr (PLANES == Planes::Bytes) return load_codes(lines + STEP * LINE);
    else if constexpr (PLANES == Planes::Twos || PLANES == Planes::TwosBits) {
        const Codes low = masked(moved<STEP % 4 * 2, 0>(load_codes(lines + STEP / 4 * LINE)), 3);
        if constexpr (PLANES == Planes::Twos) return low;
        else return merged(low, moved<STEP, 2>(load_codes(lines + 2 * LINE)), 4);
    } else {
        const Codes low = masked(moved<STEP % 2 * 4, 0>(load_codes(lines + STEP / 2 * LINE)), 15);
        if constexpr (PLANES == Planes::Nibbles) return low;
        else if constexpr (PLANES == Planes::NibblesBits) return merged(low, moved<STEP, 4>(load_codes(lines + 4 * LINE)), 16);
        else return merged(low, moved<STEP % 4 * 2, 4>(load_codes(lines + (4 + STEP / 4) * LINE)), 48);
    }
}

// The scales of a span, where the format has any.
struct SpanScales {
    Floats scale, minimum;
};

template <Format FORMAT> struct Of {
    static constexpr Layout LAYOUT = layout_of(FORMAT);
    static constexpr Beside BESIDE = LAYOUT.beside;
    static constexpr bool TWO = BESIDE == Beside::TwoSubScales || BESIDE == Beside::TwoSubScaleMinimum;
    static constexpr int SUBS = TWO ? 2 : 1;  // scales in a group
    static constexpr bool ZERO = BESIDE == Beside::ScaleZero;
    static constexpr bool MINIMUM =
        BESIDE == Beside::ScaleMinimum || BESIDE == Beside::SubScaleMinimum || BESIDE == Beside::TwoSubScaleMinimum;
    // Codes stay below 2^BITS; where a half byte would do, 4 serves fewer bits too.
    static constexpr int BITS = LAYOUT.planes == Planes::Bytes || FORMAT == Format::IQ4_NL ? 8
                                : LAYOUT.planes == Planes::NibblesTwos                     ? 6
                                : LAYOUT.planes == Planes::NibblesBits                     ? 5
                                                                                           : 4;

    template <int STEP> static PADDOCK_MEMBER Codes step(const uint8_t* lines) {
        const Codes codes = code<LAYOUT.planes, STEP>(lines);
        if constexpr (FORMAT == Format::IQ4_NL) return lookup(IQ4_LEVELS, codes);
        else return codes;
    }

    static PADDOCK_MEMBER SpanScales span_scales(const uint8_t* beside) {
        SpanScales scales = {zeros(), zeros()};
        if constexpr (LAYOUT.span_bytes() != 0) scales.scale = load_f16(halves(beside));
        if constexpr (LAYOUT.span_bytes() > LANES * 2) scales.minimum = negative(load_f16(halves(beside + LANES * 2)));
        return scales;
    }

    // Scales of the SUB-th part of a group whose parameters begin at `beside`.
    template <int SUB> static PADDOCK_MEMBER Floats scale(const uint8_t* beside, const SpanScales& span) {
        const uint8_t* own = beside + SUB * LANES;
        if constexpr (BESIDE == Beside::TwoSubScales) return mul(span.scale, load_int8(reinterpret_cast<const int8_t*>(own)));
        else if constexpr (BESIDE == Beside::TwoSubScaleMinimum) return mul(span.scale, load_low_nibbles(own));
        else if constexpr (BESIDE == Beside::SubScaleMinimum) return mul(span.scale, load_uint8(own));
        else return load_f16(halves(own));
    }

    // What every code of that part has added to it, scaled.
    template <int SUB> static PADDOCK_MEMBER Floats minimum(const uint8_t* beside, const SpanScales& span) {
        if constexpr (BESIDE == Beside::ScaleMinimum) return load_f16(halves(beside + LANES * 2));
        else if constexpr (BESIDE == Beside::SubScaleMinimum) return mul(span.minimum, load_uint8(beside + LANES));
        else return mul(span.minimum, load_high_nibbles(beside + SUB * LANES));
    }

    static PADDOCK_MEMBER Floats zero(const uint8_t* beside) { return load_uint8(beside + LANES * 2); }
};

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
