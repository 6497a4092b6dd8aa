// Memory of the calling thread that lasts from call to call: fresh pages at every call would cost as much as the work.
#pragma once
#include <cstdint>
#include <memory>
#include <new>

namespace paddock {

constexpr int64_t KEPT = 1 << 26;  // bytes that a thread keeps of each kind

// Aligned to 64, and as the last caller of this `Kind` left it.
template <class Kind>
void* scratch(int64_t bytes) {
    struct Free {
        void operator()(uint8_t* memory) const { ::operator delete[](memory, std::align_val_t{64}); }
    };
    thread_local std::unique_ptr<uint8_t[], Free> room;
    thread_local int64_t held = 0;
    if (bytes > held || (held > KEPT && bytes <= KEPT)) {
        room.reset(), held = 0;
        room.reset(static_cast<uint8_t*>(::operator new[](static_cast<size_t>(bytes), std::align_val_t{64})));
        held = bytes;
    }
    return room.get();
}

}  // namespace paddock
