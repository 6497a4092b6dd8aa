// What a forked child must not take over from its parent: it has none of its parent's other threads, so a lock that one of
// them held would never open, and what that thread was changing stays half changed.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <stdexcept>

namespace paddock {

int64_t forks();  // between this process and the one that loaded the module

// A T of this process's own: a child begins with a new one. The parent's is left as it is, for it may be in use there.
template <class T>
class Own {
public:
    Own() : here_(new Made) {}
    ~Own() {
        Made* made = here_.load();
        if (made->forks == paddock::forks()) delete made;
    }
    Own(const Own&) = delete;
    Own& operator=(const Own&) = delete;

    T& get() {
        Made* made = here_.load(std::memory_order_acquire);
        if (made->forks == paddock::forks()) return made->value;
        Made* fresh = new Made;
        if (here_.compare_exchange_strong(made, fresh)) return fresh->value;
        delete fresh;  // another thread of the child was first
        return made->value;
    }

private:
    struct Made {
        T value;
        int64_t forks = paddock::forks();
    };
    std::atomic<Made*> here_;
};

// One thread at a time changes something; who comes to what a thread of the parent was changing at the fork is refused.
class Turn {
public:
    class Taken {
    public:
        explicit Taken(Turn& turn) : inside_(turn.inside_), lock_(turn.lock_.get()) {
            if (inside_) {
                throw std::runtime_error("this process was forked while a thread of its parent ran this model, whose state is lost: load the model in the child, or start it by 'spawn'");
            }
            inside_ = true;
        }
        ~Taken() { inside_ = false; }
        Taken(const Taken&) = delete;
        Taken& operator=(const Taken&) = delete;

    private:
        std::atomic<bool>& inside_;
        std::lock_guard<std::mutex> lock_;
    };

private:
    Own<std::mutex> lock_;
    std::atomic<bool> inside_{false};
};

}  // namespace paddock
