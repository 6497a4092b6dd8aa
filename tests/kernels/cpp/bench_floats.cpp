// Speeds of the float kernels of one variant beside what the machine can do: bytes read from memory and multiply-adds in
// registers. Built as test_floats.cpp is, with -O3 -pthread. Prints medians and best of several runs.
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <ctime>
#include <thread>
#include <vector>

#include "attention.h"
#include "dense.h"
#include "elementwise.h"
#include "pack_dense.h"

using namespace paddock;
namespace kernels = paddock::PADDOCK_VARIANT;

// Seconds of this thread's own work, so that other programs on the machine count less.
static double clock_of_thread() {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}
static double seconds_of_others = 0;  // the longest any other thread of the last split worked
static double seconds(const std::function<void()>& f) {
    seconds_of_others = 0;
    const double start = clock_of_thread();
    f();
    return std::max(seconds_of_others, clock_of_thread() - start);
}

// Best and median time of f.
struct Times {
    double best, median;
};
static Times times(int rounds, const std::function<void()>& f) {
    std::vector<double> all;
    for (int i = 0; i < rounds; i++) all.push_back(seconds(f));
    std::sort(all.begin(), all.end());
    return {all.front(), all[all.size() / 2]};
}

// f(first, last) over [0, count) on `threads` threads.
static void split(int threads, int64_t count, const std::function<void(int64_t, int64_t)>& f) {
    std::vector<std::thread> others;
    std::vector<double> spent(static_cast<size_t>(threads));
    for (int t = 1; t < threads; t++) {
        others.emplace_back([&, t] {
            const double start = clock_of_thread();
            f(count * t / threads, count * (t + 1) / threads);
            spent[static_cast<size_t>(t)] = clock_of_thread() - start;
        });
    }
    f(0, count / threads);
    for (std::thread& other : others) other.join();
    seconds_of_others = *std::max_element(spent.begin(), spent.end());
}

static uint8_t* room(size_t bytes) {
    const size_t rounded = (bytes + (2 << 20) - 1) & ~((size_t{2} << 20) - 1);
    uint8_t* p = static_cast<uint8_t*>(std::aligned_alloc(2 << 20, rounded));
#ifdef MADV_HUGEPAGE
    madvise(p, rounded, MADV_HUGEPAGE);
#endif
    for (size_t i = 0; i < bytes; i += 2) p[i] = static_cast<uint8_t>(i * 37), p[i + 1] = 0x3c;  // ordinary numbers in each type
    return p;
}

static volatile float sink;

static double read_rate(const uint8_t* p, size_t bytes, int threads) {
    const auto read = [&](int64_t first, int64_t last) {
        kernels::Floats sums[8];
        for (auto& sum : sums) sum = kernels::zeros();
        for (int64_t i = first; i < last; i++) {
            for (int c = 0; c < 8; c++) sums[c] = kernels::max(sums[c], kernels::load(reinterpret_cast<const float*>(p) + i * 128 + c * 16));
        }
        for (auto& sum : sums) sink = kernels::reduce_max(sum);
    };
    return static_cast<double>(bytes) / times(9, [&] { split(threads, static_cast<int64_t>(bytes / 512), read); }).best;
}

// Multiply-adds a second with everything in registers, twice that in operations.
template <class Step>
static double register_rate() {
    constexpr int R = kernels::ROWS, T = kernels::TILES;
    alignas(64) static uint8_t weights[T * 64];
    static typename Step::Input inputs[R * 4];
    const uint8_t* tiles[T];
    const typename Step::Input* x[R];
    for (int t = 0; t < T; t++) tiles[t] = weights + t * 64;
    for (int r = 0; r < R; r++) x[r] = inputs + r * 2;
    const int64_t steps = 1000000;
    const double best = times(9, [&] {
        kernels::Floats sums[R][T];
        for (auto& row : sums) for (auto& sum : row) sum = kernels::zeros();
        Step step[T];
        for (int t = 0; t < T; t++) step[t] = Step::at(tiles[t]);
        for (int64_t i = 0; i < steps; i++) {
            PADDOCK_UNROLL
            for (int r = 0; r < R; r++) {
                PADDOCK_UNROLL
                for (int t = 0; t < T; t++) sums[r][t] = step[t].onto(sums[r][t], x[0]);
            }
        }
        for (auto& row : sums) for (auto& sum : row) sink = kernels::reduce_add(sum);
    }).best;
    return static_cast<double>(steps) * R * T * 16 * static_cast<double>(Step::INPUTS) / best;
}

static void linear(const Weight& w, const Rows& x, int64_t rows, int64_t first, int64_t last, float* y) {
    if (w.format == Format::BF16)
        kernels::linear_bfloats(w, x, rows, first, last, nullptr, false, y, w.rows);
    else
        kernels::linear_floats(w, x, rows, first, last, nullptr, false, y, w.rows);
}

static void bench_linear(Format format, const char* name, double peak, double bandwidth1, double bandwidth2) {
    const int64_t columns = 2048, outputs = 32768, number = format == Format::F32 ? 4 : 2;
    const int64_t tile_bytes = columns * LANES * number, bytes = tile_bytes * outputs / LANES;
    uint8_t* data = room(static_cast<size_t>(bytes));
    const Weight w = {format, outputs, columns, tile_bytes, data};
    const int64_t most = 512;
    std::vector<float> x(static_cast<size_t>(most * columns), 0.5f), y(static_cast<size_t>(most * outputs));
    std::vector<uint16_t> bfloats(static_cast<size_t>(most * columns), 0x3f00);
    const Rows rows = {x.data(), columns, bfloats.data(), nullptr, nullptr, nullptr, columns};
    for (int threads : {1, 2}) {
        const Times t = times(9, [&] {
            split(threads, outputs / LANES, [&](int64_t first, int64_t last) { linear(w, rows, 1, first, last, y.data()); });
        });
        const double rate = static_cast<double>(bytes) / t.best;
        std::printf("%-5s 1 row, %d threads     %6.1f GB/s best, %6.1f median, %3.0f %% of reading\n", name, threads, rate / 1e9,
                    static_cast<double>(bytes) / t.median / 1e9, 100 * rate / (threads == 1 ? bandwidth1 : bandwidth2));
    }
    for (int64_t n : {2, 4, 8, 16, 64, 512}) {
        const int64_t tiles = n == 512 ? 128 : 1024;
        const Times t = times(5, [&] { linear(w, rows, n, 0, tiles, y.data()); });
        const double rate = static_cast<double>(n * tiles * LANES * columns) / t.best;
        std::printf("%-5s %3lld rows, 1 thread    %6.1f GFLOP/s best, %3.0f %% of registers; %5.1f GB/s\n", name, (long long)n, 2 * rate / 1e9,
                    100 * rate / peak, static_cast<double>(tiles * tile_bytes) / t.best / 1e9);
    }
    std::free(data);
}

static void bench_attention(CacheType type, const char* name, int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t rows, int64_t keys) {
    const int64_t number = type == CacheType::F32 ? 4 : type == CacheType::INT8 ? 1 : 2, blocks = (keys + 15) / 16;
    const size_t bytes = static_cast<size_t>(blocks * LANES * kv_heads * head_dim * number);
    uint8_t *k = room(bytes), *v = room(bytes);
    std::vector<float> scales(static_cast<size_t>(blocks * kv_heads * LANES), 0.01f), q(static_cast<size_t>(rows * heads * head_dim), 0.01f), out(q.size());
    std::vector<int32_t> table;
    for (int64_t i = 0; i < blocks; i++) table.push_back(static_cast<int32_t>(i));
    const CacheLayer layer = {type, kv_heads, head_dim, k, v, scales.data(), scales.data()};
    const int64_t sharing = heads / kv_heads, stride = heads * head_dim;
    std::vector<float> scratch(static_cast<size_t>(attend_scratch(rows, sharing, keys)));
    const Times t = times(9, [&] {
        for (int64_t kv = 0; kv < kv_heads; kv++) {
            const Attend task = {q.data() + kv * sharing * head_dim, stride, out.data() + kv * sharing * head_dim, stride, rows, sharing, kv,
                                 table.data(), keys - rows, keys, true, 0, 0, 0.125f, nullptr, scratch.data()};
            kernels::attend(layer, task);
        }
    });
    const double pairs = static_cast<double>(rows * heads) * (static_cast<double>(keys) - static_cast<double>(rows) / 2);
    std::printf("attend %-4s %lld/%lld x %lld, %3lld queries over %5lld: %8.1f us, %6.1f GB/s, %6.1f GFLOP/s\n", name, (long long)heads, (long long)kv_heads,
                (long long)head_dim, (long long)rows, (long long)keys, t.best * 1e6, 2 * static_cast<double>(bytes) / t.best / 1e9,
                4 * pairs * static_cast<double>(head_dim) / t.best / 1e9);
    std::free(k);
    std::free(v);
}

static void bench_rows() {
    const int64_t n = 5632;
    std::vector<float> x(n, 0.5f), w(n, 1.0f), y(n), logits(32000);
    std::vector<int32_t> indices(40);
    std::vector<float> values(40);
    for (size_t i = 0; i < logits.size(); i++) logits[i] = static_cast<float>((i * 2654435761u) % 100003);
    const auto show = [](const char* what, int64_t count, const std::function<void()>& f) {
        const Times t = times(9, [&] { for (int i = 0; i < 100; i++) f(); });
        std::printf("%-20s %6.2f us, %5.2f ns a number\n", what, t.best * 1e4, t.best * 1e7 / static_cast<double>(count));
    };
    show("rms_norm", n, [&] { kernels::rms_norm(x.data(), w.data(), 1e-5f, n, y.data()); });
    show("layer_norm", n, [&] { kernels::layer_norm(x.data(), w.data(), w.data(), 1e-5f, n, y.data()); });
    show("gate silu", n, [&] { kernels::gate(Activation::SiLU, x.data(), w.data(), n, y.data()); });
    show("activate gelu", n, [&] { kernels::activate(Activation::GELU, x.data(), n, y.data()); });
    show("activate gelu_tanh", n, [&] { kernels::activate(Activation::GELUTanh, x.data(), n, y.data()); });
    show("rotate 64 x 64", 4096, [&] { kernels::rotate(x.data(), 64, 64, 64, w.data(), w.data(), false); });
    show("rotate, interleaved", 4096, [&] { kernels::rotate(x.data(), 64, 64, 64, w.data(), w.data(), true); });
    show("top 40 of 32000", 32000, [&] { kernels::top_k(logits.data(), 32000, 40, indices.data(), values.data()); });
    show("top 1 of 32000", 32000, [&] { kernels::top_k(logits.data(), 32000, 1, indices.data(), values.data()); });
}

int main() {
    const size_t bytes = 256 << 20;
    uint8_t* data = room(bytes);
    const double one = read_rate(data, bytes, 1), two = read_rate(data, bytes, 2);
    std::free(data);
    const double floats = register_rate<kernels::StepF32>();
    const double pairs = kernels::WIDENED<kernels::StepPairs> ? floats : register_rate<kernels::StepPairs>();
    std::printf("reading: %.1f GB/s one thread, %.1f two; registers: %.1f GFLOP/s float, %.1f bfloat16 pairs\n", one / 1e9, two / 1e9, 2 * floats / 1e9, 2 * pairs / 1e9);
    bench_linear(Format::F32, "f32", floats, one, two);
    bench_linear(Format::F16, "f16", floats, one, two);
    bench_linear(Format::BF16, "bf16", pairs, one, two);
    for (int64_t rows : {1, 128, 512}) {
        bench_attention(CacheType::F32, "f32", 32, 4, 64, rows, 4096);
        bench_attention(CacheType::F16, "f16", 32, 4, 64, rows, 4096);
        bench_attention(CacheType::BF16, "bf16", 32, 4, 64, rows, 4096);
        bench_attention(CacheType::INT8, "int8", 32, 4, 64, rows, 4096);
        bench_attention(CacheType::F16, "f16", 32, 32, 128, rows, 4096);
    }
    bench_attention(CacheType::F16, "f16", 32, 4, 64, 512, 512);
    bench_rows();
}
