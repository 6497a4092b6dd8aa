// The pool without Python, for the sanitizers: every task once, nested calls, exceptions, changing numbers of threads,
// several callers, and a forked child. Exit code 1 where something is wrong.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#ifndef _WIN32
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "pool.h"

using namespace paddock;

static int failures = 0;

static void check(bool good, const char* what) {
    if (good) return;
    failures++;
    std::printf("FAILED %s\n", what);
}

static bool each_once(int64_t tasks) {
    std::vector<int> seen(static_cast<size_t>(tasks));  // a task is one thread's, so plain numbers do
    std::atomic<bool> known{true};
    parallel(tasks, [&](int64_t task, int thread) {
        seen[static_cast<size_t>(task)]++;
        if (thread < 0 || thread >= threads()) known = false;
    });
    for (int count : seen) {
        if (count != 1) return false;
    }
    return known;
}

static void counts() {
    for (int count : {1, 2, 5, 2, 16}) {
        set_threads(count);
        check(threads() == count, "set_threads");
        for (int64_t tasks : {0, 1, 2, 3, 17, 1000}) {
            for (int round = 0; round < 50; ++round) check(each_once(tasks), "each task once");
        }
    }
}

static void sleepers() {
    set_threads(4);
    for (int round = 0; round < 30; ++round) {
        check(each_once(64), "after a sleep");
        std::this_thread::sleep_for(std::chrono::microseconds(round * 20));
    }
}

static void nested() {
    set_threads(3);
    std::atomic<int> done{0};
    parallel(8, [&](int64_t, int) { parallel(5, [&](int64_t, int) { done++; }); });
    check(done == 40, "nested calls");
}

static void exceptions() {
    set_threads(3);
    std::atomic<int> done{0};
    std::string caught;
    try {
        parallel(50, [&](int64_t task, int) {
            done++;
            if (task % 10 == 3) throw std::runtime_error("task");
        });
    } catch (const std::runtime_error& error) {
        caught = error.what();
    }
    check(caught == "task" && done == 50, "an exception of a task comes out, after the others ran");
    check(each_once(100), "after an exception");
    set_threads(1);
    check(each_once(3), "one thread");
    bool thrown = false;
    try {
        parallel(3, [](int64_t, int) { throw std::runtime_error("inline"); });
    } catch (const std::runtime_error&) {
        thrown = true;
    }
    check(thrown, "an exception of one thread");
}

static void callers() {
    set_threads(3);
    std::atomic<bool> good{true};
    std::vector<std::thread> all;
    for (int caller = 0; caller < 4; ++caller) {
        all.emplace_back([&] {
            for (int round = 0; round < 200; ++round) {
                if (!each_once(20)) good = false;
            }
        });
    }
    for (std::thread& each : all) each.join();
    check(good, "several callers");
}

static void forks() {
#ifndef _WIN32
    set_threads(3);
    check(each_once(10), "before a fork");
    const pid_t child = fork();
    if (child == 0) {
        alarm(20);
        _exit(each_once(100) && threads() == 3 ? 0 : 1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    check(status == 0, "a forked child");
    check(each_once(10), "after a fork");
#endif
}

int main() {
    check(default_threads() >= 1 && default_threads() <= MOST_THREADS, "default_threads");
    counts();
    sleepers();
    nested();
    exceptions();
    callers();
    forks();
    std::printf(failures ? "%d failures\n" : "ok\n", failures);
    return failures != 0;
}
