// What the test programs of the kernels check with: each counts its failures and shows the first of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>

inline int failures = 0;
inline double worst = 0;  // of the comparisons since the last report, in units of what was allowed

inline void check(bool good, const char* what, int64_t a = 0, int64_t b = 0, int64_t c = 0) {
    if (good) return;
    if (++failures <= 20) std::printf("FAILED %s (%lld, %lld, %lld)\n", what, (long long)a, (long long)b, (long long)c);
}

inline void near(double found, double expected, double allowed, const char* what, int64_t a = 0, int64_t b = 0) {
    const double off = std::fabs(found - expected) / allowed;
    worst = std::isnan(off) ? INFINITY : std::max(worst, off);
    if (off <= 1) return;
    if (++failures <= 20) std::printf("FAILED %s (%lld, %lld): %.9g, not %.9g\n", what, (long long)a, (long long)b, found, expected);
}

inline void report(const char* what) {
    std::printf("%-28s largest error %.3f of what is allowed\n", what, worst);
    std::fflush(stdout);
    worst = 0;
}
