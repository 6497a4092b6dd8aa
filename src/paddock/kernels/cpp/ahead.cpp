#include "ahead.h"

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "forked.h"
#include "pool.h"
#include "program.h"

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace paddock {

namespace {

enum class Pages { SoonRead, Done };

// Tells the system about whole pages of a mapped file: neighbours share those at the edges.
void tell(const Published& matrix, Pages what) {
#if defined(__linux__)
    const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const auto begin = reinterpret_cast<uintptr_t>(matrix.blocks);
    const uintptr_t first = (begin + page - 1) / page * page;
    const uintptr_t last = (begin + static_cast<uintptr_t>(matrix.rows * matrix.row_bytes())) / page * page;
    if (last > first) madvise(reinterpret_cast<void*>(first), last - first, what == Pages::Done ? MADV_DONTNEED : MADV_WILLNEED);
#else
    static_cast<void>(matrix), static_cast<void>(what);
#endif
}

std::shared_ptr<PackedWeight> packed(const Published& matrix) {
    try {
        if (!finite_scales(matrix.format, matrix.blocks, matrix.rows * matrix.row_bytes())) return nullptr;
        return pack_weight(matrix.format, matrix.blocks, matrix.row_bytes(), matrix.rows, matrix.columns);
    } catch (const std::exception&) {  // comes again to whoever packs it as usual
        return nullptr;
    }
}

}  // namespace

struct Ahead::Work {
    const std::vector<Published> matrices;
    const int64_t forks = paddock::forks();
    std::mutex lock;
    std::condition_variable news;
    std::vector<std::shared_ptr<PackedWeight>> made;  // under the lock, as `done` is
    size_t done = 0;
    std::atomic<bool> stopped{false};
    std::thread thread;

    explicit Work(std::vector<Published> all) : matrices(std::move(all)), made(matrices.size()) {
        try {
            thread = std::thread([this] { run(); });
        } catch (const std::system_error&) {  // the system gives no thread: nothing is ahead
            done = matrices.size();
        }
    }

    void run() {
        for (size_t number = 0; number < matrices.size(); ++number) {
            std::shared_ptr<PackedWeight> result;
            if (!stopped.load(std::memory_order_relaxed)) {
                if (number + 1 < matrices.size()) tell(matrices[number + 1], Pages::SoonRead);
                result = packed(matrices[number]);
                tell(matrices[number], Pages::Done);
            }
            std::lock_guard<std::mutex> hold(lock);
            made[number] = std::move(result);
            done = number + 1;
            news.notify_all();
        }
    }
};

Ahead::Ahead(std::vector<Published> matrices) : work_(new Work(std::move(matrices))) {}

Ahead::~Ahead() {
    if (work_->forks != forks()) return;
    work_->stopped.store(true, std::memory_order_relaxed);
    if (work_->thread.joinable()) work_->thread.join();
    delete work_;
}

std::shared_ptr<PackedWeight> Ahead::take(size_t number) {
    if (number >= work_->matrices.size() || work_->forks != forks()) return nullptr;
    std::unique_lock<std::mutex> hold(work_->lock);
    work_->news.wait(hold, [&] { return work_->done > number; });
    return std::move(work_->made[number]);
}

}  // namespace paddock
