#include "forked.h"

#ifndef _WIN32
#include <pthread.h>
#endif

namespace paddock {

int64_t forks() {
    static std::atomic<int64_t> count{0};
#ifndef _WIN32
    static const bool watched = pthread_atfork(nullptr, nullptr, [] { count.fetch_add(1); }) == 0;
    static_cast<void>(watched);
#endif
    return count.load(std::memory_order_relaxed);
}

}  // namespace paddock
