// The threads that share the work of one operation. They live as long as the process; between calls that follow each
// other closely they spin, and after that they sleep and cost nothing.
#pragma once
#include <cstdint>

namespace paddock {

using Task = void (*)(void* context, int64_t task, int thread);

// run(context, task, thread) for every task in 0 .. tasks - 1, each once, in no set order; the caller takes part as
// thread 0, the others are 1 .. threads() - 1. Returns when all are done. Calls by several threads take turns; a call
// from inside a task runs inline. The first exception of a task is thrown again here, after the other tasks ran.
void parallel(int64_t tasks, Task run, void* context);

// The same for anything that can be called as f(task, thread).
template <class F>
void parallel(int64_t tasks, F&& f) {
    parallel(tasks, [](void* context, int64_t task, int thread) { (*static_cast<F*>(context))(task, thread); }, &f);
}

constexpr int MOST_THREADS = 512;
int threads();                // how many take part in a call, the caller included
void set_threads(int count);  // 1 .. MOST_THREADS
int default_threads();        // physical cores that this process may use

}  // namespace paddock
