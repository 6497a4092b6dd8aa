// tiles.h by the instructions themselves. Not by the compiler's intrinsics: they take tile numbers as text, and those of
// gcc 12 do not tell the compiler that they read and write memory.
#pragma once

namespace paddock {
namespace PADDOCK_VARIANT {

PADDOCK_INLINE void configure_tiles(const TileShapes& shapes) { __asm__ volatile("ldtilecfg %0" : : "m"(shapes) : "memory"); }
PADDOCK_INLINE void release_tiles() { __asm__ volatile("tilerelease" : : : "memory"); }

template <int TILE> PADDOCK_INLINE void zero_tile() { __asm__ volatile("tilezero %%tmm%c0" : : "i"(TILE)); }
template <int TILE> PADDOCK_INLINE void load_tile(const void* from, int64_t stride) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(TILE) : "memory");
}
template <int TILE> PADDOCK_INLINE void store_tile(void* to, int64_t stride) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(TILE) : "memory");
}

template <int C, int A, int B> PADDOCK_INLINE void multiply_bfloats() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
}
template <int C, int A, int B> PADDOCK_INLINE void multiply_signed() {
    __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
}
template <int C, int A, int B> PADDOCK_INLINE void multiply_unsigned() {
    __asm__ volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
}

}  // namespace PADDOCK_VARIANT
}  // namespace paddock
