// The interpreter's lock, let go while kernels run.
#pragma once
#include <nanobind/nanobind.h>

#include <chrono>
#include <thread>

namespace paddock {

// nanobind's gil_scoped_release, but for a daemon thread that comes back when the interpreter has ended: up to Python
// 3.13 that ends the thread by unwinding its stack, which C++ frames answer with abort. It stays here instead, as in 3.14.
class Unlocked {
public:
    Unlocked() : state_(PyEval_SaveThread()) {}
    ~Unlocked() {
        try {
            PyEval_RestoreThread(state_);
        } catch (...) {
            for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
        }
    }
    Unlocked(const Unlocked&) = delete;
    Unlocked& operator=(const Unlocked&) = delete;

private:
    PyThreadState* state_;
};

}  // namespace paddock
