#include "pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "cores.h"

#ifndef _WIN32
#include <pthread.h>
#endif

namespace paddock {
namespace {

// How long a thread without work stays awake. Operations of a step follow each other within a few microseconds; waking
// a sleeper costs more than this many of them.
constexpr auto AWAKE = std::chrono::microseconds(50);

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) && !defined(_MSC_VER)
    __asm__ volatile("yield");
#endif
}

thread_local bool inside = false;  // this thread runs a task

class Pool {
public:
    explicit Pool(int count) {
        for (int number = 1; number < count; ++number) {
            try {
                workers_.emplace_back([this, number] { work(number); });
            } catch (const std::system_error&) {  // the system gives no more threads: fewer do the same work
                break;
            }
        }
    }

    ~Pool() {
        {
            std::lock_guard<std::mutex> hold(sleep_);
            quit_.store(true);
        }
        wake_.notify_all();
        for (std::thread& worker : workers_) worker.join();
    }

    void run(int64_t tasks, Task task, void* context) {
        task_ = task;
        context_ = context;
        tasks_ = tasks;
        next_.store(0, std::memory_order_relaxed);
        failed_ = false;
        // Opens the gate: the job's number with nobody inside. Sequentially consistent, like the sleepers' own two
        // steps, so that either this thread sees a sleeper or the sleeper sees the job.
        gate_.store((++job_) << INSIDE_BITS);
        if (sleepers_.load() > 0) {
            std::lock_guard<std::mutex> hold(sleep_);
            wake_.notify_all();
        }
        take(0);
        // Closes it: who has not come by now need not, and is not waited for.
        uint64_t gate = gate_.fetch_or(CLOSED, std::memory_order_acq_rel);
        for (int round = 0; gate & INSIDE; gate = gate_.load(std::memory_order_acquire)) {
            if (++round < 4096) {
                pause();
            } else {
                std::this_thread::yield();  // the one waited for may need this core
            }
        }
        if (failed_) std::rethrow_exception(error_);
    }

private:
    // The gate: job number << 16 | closed << 15 | workers inside. A worker enters by counting itself in while the job
    // is open, so the job's fields never change under it.
    static constexpr int INSIDE_BITS = 16;
    static constexpr uint64_t CLOSED = 1u << 15, INSIDE = CLOSED - 1;

    void take(int thread) {
        inside = true;
        for (int64_t task; (task = next_.fetch_add(1, std::memory_order_relaxed)) < tasks_;) {
            try {
                task_(context_, task, thread);
            } catch (...) {
                std::lock_guard<std::mutex> hold(sleep_);
                if (!failed_) error_ = std::current_exception();
                failed_ = true;
            }
        }
        inside = false;
    }

    void work(int number) {
        for (uint64_t seen = 0;;) {
            uint64_t gate = await(seen);
            if (quit_.load(std::memory_order_relaxed)) return;
            seen = gate >> INSIDE_BITS;
            while (!(gate & CLOSED) && (gate >> INSIDE_BITS) == seen) {
                if (!gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) continue;
                take(number);
                gate_.fetch_sub(1, std::memory_order_release);
                break;
            }
        }
    }

    // Returns the gate once its job is another than `seen`, or the pool ends.
    uint64_t await(uint64_t seen) {
        auto since = std::chrono::steady_clock::now();
        uint64_t gate;
        for (int round = 1; ((gate = gate_.load(std::memory_order_acquire)) >> INSIDE_BITS) == seen; ++round) {
            if (quit_.load(std::memory_order_relaxed)) return gate;
            pause();
            if (round % 64 || std::chrono::steady_clock::now() - since < AWAKE) continue;
            std::unique_lock<std::mutex> hold(sleep_);
            sleepers_.fetch_add(1);
            wake_.wait(hold, [&] { return (gate_.load() >> INSIDE_BITS) != seen || quit_.load(); });
            sleepers_.fetch_sub(1);
        }
        return gate;
    }

    alignas(64) std::atomic<uint64_t> gate_{CLOSED};
    alignas(64) std::atomic<int64_t> next_{0};
    alignas(64) std::atomic<int> sleepers_{0};
    std::atomic<bool> quit_{false};
    uint64_t job_ = 0;
    Task task_ = nullptr;
    void* context_ = nullptr;
    int64_t tasks_ = 0;
    bool failed_ = false;
    std::exception_ptr error_;
    std::mutex sleep_;
    std::condition_variable wake_;
    std::vector<std::thread> workers_;
};

// Everything that a forked child must find fresh: it has none of its parent's threads, and the parent's lock may have
// been held. Never freed at exit, when sleeping workers still look at it; the system ends them with the process.
struct Shared {
    std::mutex turn;  // one call at a time
    Pool* pool = nullptr;
};

std::atomic<int> wanted{0};

std::atomic<Shared*>& shared() {
    static std::atomic<Shared*> here{[] {
#ifndef _WIN32
        pthread_atfork(nullptr, nullptr, [] { shared().store(new Shared); });
#endif
        return new Shared;
    }()};
    return here;
}

}  // namespace

int threads() {
    int count = wanted.load(std::memory_order_relaxed);
    if (count == 0) {
        count = default_threads();
        wanted.store(count, std::memory_order_relaxed);
    }
    return count;
}

int default_threads() { return std::min(physical_cores(), MOST_THREADS); }

void set_threads(int count) {
    Shared& here = *shared().load();
    std::lock_guard<std::mutex> hold(here.turn);
    if (count == threads()) return;
    delete here.pool;
    here.pool = nullptr;
    wanted.store(count, std::memory_order_relaxed);
}

void parallel(int64_t tasks, Task run, void* context) {
    if (tasks <= 1 || inside || threads() == 1) {
        for (int64_t task = 0; task < tasks; ++task) run(context, task, 0);
        return;
    }
    Shared& here = *shared().load(std::memory_order_acquire);
    std::lock_guard<std::mutex> hold(here.turn);
    if (!here.pool) here.pool = new Pool(threads());
    here.pool->run(tasks, run, context);
}

}  // namespace paddock
