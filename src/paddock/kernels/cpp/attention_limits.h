// How much attention keeps in hand at once, the same for every variant.
#pragma once
#include <cstdint>

namespace paddock {

// Slots whose scores are held at once. Softmax proceeds in these steps, cut at multiples of it counted from the
// sequence's start, so where a query's additions are grouped never depends on how its prompt was cut.
constexpr int64_t SEGMENT = 512;
constexpr int64_t PAIRS = 48;  // of a query row and a head, worked on together

}  // namespace paddock
