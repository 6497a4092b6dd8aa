// Packing ahead without Python, for the sanitizers: takers in any order, one that lets go early, scales that are not
// numbers, and a forked child. Exit code 1 where something is wrong.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ahead.h"
#include "pool.h"

using namespace paddock;

static int failures = 0;

static void check(bool good, const char* what) {
    if (good) return;
    failures++;
    std::printf("FAILED %s\n", what);
}

constexpr int64_t ROWS = 40, COLUMNS = 512, BYTES = ROWS * COLUMNS / 32 * 18, COUNT = 24;
constexpr int64_t BROKEN = 7;  // the matrix whose scales are not numbers

// A mapped file of matrices, as the pages of one are let go while it is packed.
static uint8_t* mapped() {
    std::vector<uint8_t> bytes(size_t(BYTES * COUNT));
    uint32_t state = 1;
    for (uint8_t& byte : bytes) byte = uint8_t((state = state * 1664525u + 1013904223u) >> 24);
    for (int64_t block = 0; block < BYTES * COUNT; block += 18) bytes[size_t(block + 1)] &= 0x3f;
    bytes[size_t(BROKEN * BYTES)] = 0, bytes[size_t(BROKEN * BYTES + 1)] = 0x7e;
    std::FILE* file = std::tmpfile();
    if (!file || std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size() || std::fflush(file)) std::exit(2);
    void* memory = mmap(nullptr, bytes.size(), PROT_READ | PROT_WRITE, MAP_PRIVATE, fileno(file), 0);
    if (memory == MAP_FAILED) std::exit(2);
    std::fclose(file);
    return static_cast<uint8_t*>(memory);
}

static std::vector<Published> all(const uint8_t* bytes) {
    std::vector<Published> found;
    for (int64_t number = 0; number < COUNT; number++) found.push_back({Format::Q4_0, ROWS, COLUMNS, bytes + number * BYTES});
    return found;
}

static bool same(const std::shared_ptr<PackedWeight>& weight, const Published& matrix) {
    if (!weight) return false;
    const auto usual = pack_weight(matrix.format, matrix.blocks, matrix.row_bytes(), matrix.rows, matrix.columns);
    return usual->bytes() == weight->bytes() && std::memcmp(usual->room(), weight->room(), size_t(weight->bytes())) == 0;
}

static void takers(const uint8_t* bytes) {
    const std::vector<Published> matrices = all(bytes);
    Ahead ahead(matrices);
    std::vector<std::thread> threads;
    std::vector<std::shared_ptr<PackedWeight>> taken(COUNT);
    for (size_t first = 0; first < 3; first++) {
        threads.emplace_back([&, first] {
            for (size_t number = COUNT - 1 - first; number < COUNT; number -= 3) taken[number] = ahead.take(number);
        });
    }
    for (std::thread& each : threads) each.join();
    for (size_t number = 0; number < COUNT; number++) {
        check(number == BROKEN ? !taken[number] : same(taken[number], matrices[number]), "what was taken");
        check(!ahead.take(number), "taken again");
    }
    check(!ahead.take(COUNT), "a number there is none of");
}

static void leavers(const uint8_t* bytes) {
    for (int round = 0; round < 20; round++) {
        Ahead ahead(all(bytes));
        if (round % 2) check(same(ahead.take(0), all(bytes)[0]), "taken before leaving");
    }
    Ahead none({});
    check(!none.take(0), "of nothing");
}

static void forks(const uint8_t* bytes) {
    Ahead ahead(all(bytes));
    const pid_t child = fork();
    if (child == 0) {
        alarm(20);
        _exit(ahead.take(COUNT - 1) ? 1 : 0);
    }
    int status = 1;
    waitpid(child, &status, 0);
    check(status == 0, "a forked child");
    check(same(ahead.take(COUNT - 1), all(bytes)[COUNT - 1]), "after a fork");
}

int main() {
    const uint8_t* bytes = mapped();
    for (int count : {1, 3}) {
        set_threads(count);
        takers(bytes);
        leavers(bytes);
        forks(bytes);
    }
    std::printf(failures ? "%d failures\n" : "ok\n", failures);
    return failures != 0;
}
