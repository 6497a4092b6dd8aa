// One layer's paged cache in Python, for the tests of storing and attention.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <optional>

#include "arrays.h"
#include "bind.h"
#include "choose.h"
#include "pool.h"
#include "unlocked.h"

namespace paddock {
namespace {

constexpr int64_t MOST = int64_t{1} << 30;  // of any one length: products of three stay below 2^63 after check_room

CacheType type_of(const std::string& name) {
    if (name == "f32") return CacheType::F32;
    if (name == "f16") return CacheType::F16;
    if (name == "bf16") return CacheType::BF16;
    if (name == "int8") return CacheType::INT8;
    refuse("no cache type " + name + "; there are f32, f16, bf16, int8");
}

int64_t bytes_of(CacheType type) { return type == CacheType::F32 ? 4 : type == CacheType::INT8 ? 1 : 2; }

struct Bytes {
    explicit Bytes(int64_t count) : held(static_cast<size_t>(count + 63)) {}
    uint8_t* get() { return held.data() + (64 - reinterpret_cast<uintptr_t>(held.data()) % 64) % 64; }
    std::vector<uint8_t> held;
};

struct TestedLayer {
    TestedLayer(const std::string& name, int64_t count, int64_t kv_heads, int64_t head_dim)
        : type(type_of(name)), blocks(checked(count, kv_heads, head_dim)), elements(blocks * kv_heads * LANES * head_dim),
          keys(elements * bytes_of(type)), values(elements * bytes_of(type)), key_scales(blocks * kv_heads * LANES * 4),
          value_scales(blocks * kv_heads * LANES * 4) {
        layer = {type, kv_heads, head_dim, keys.get(), values.get(), reinterpret_cast<float*>(key_scales.get()),
                 reinterpret_cast<float*>(value_scales.get())};
    }

    static int64_t checked(int64_t blocks, int64_t kv_heads, int64_t head_dim) {
        bool sound = blocks > 0 && kv_heads > 0 && head_dim > 0 && blocks <= MOST && kv_heads <= MOST && head_dim <= MOST;
        if (!sound || blocks > MOST / kv_heads || blocks * kv_heads > MOST / head_dim) {
            refuse("a cache of " + std::to_string(blocks) + " blocks, " + std::to_string(kv_heads) + " heads and " +
                   std::to_string(head_dim) + " features cannot be made");
        }
        return blocks;
    }

    // The numbers of a sequence's blocks, which must hold slots up to `end`.
    const int32_t* table_of(const Array& table, int64_t end) const {
        const int32_t* numbers = data_of<int32_t>(table, "table", {ANY});
        const int64_t count = static_cast<int64_t>(table.shape(0));
        for (int64_t index = 0; index < count; ++index) {
            if (numbers[index] < 0 || numbers[index] >= blocks) refuse("block " + std::to_string(numbers[index]) + " is not in the cache");
        }
        if (end > count * LANES) refuse("slot " + std::to_string(end - 1) + " lies past the table's " + std::to_string(count) + " blocks");
        return numbers;
    }

    CacheType type;
    int64_t blocks, elements;
    Bytes keys, values, key_scales, value_scales;
    CacheLayer layer;
};

void check_slot(int64_t slot) {
    if (slot < 0 || slot > MOST) refuse("first_slot is " + std::to_string(slot));
}

void store(const TestedLayer& self, const Array& k, const Array& v, const Array& table, int64_t first_slot) {
    const CacheLayer& layer = self.layer;
    const float* key = data_of<float>(k, "k", {ANY, layer.kv_heads, layer.head_dim});
    const int64_t rows = static_cast<int64_t>(k.shape(0)), stride = layer.kv_heads * layer.head_dim;
    const float* value = data_of<float>(v, "v", {rows, layer.kv_heads, layer.head_dim});
    check_slot(first_slot);
    const int32_t* numbers = self.table_of(table, first_slot + rows);
    Unlocked unlocked;
    kernels().store(layer, key, stride, value, stride, rows, numbers, first_slot);
}

struct Query {
    int64_t first_slot, keys;
    bool causal;
    int64_t prefix, window;
    double scale;
};

void check(const Query& query, int64_t rows, int64_t heads, int64_t kv_heads) {
    check_slot(query.first_slot);
    if (rows < 1 || heads < 1 || heads % kv_heads) {
        refuse(std::to_string(rows) + " queries of " + std::to_string(heads) + " heads do not fit " + std::to_string(kv_heads) + " key-value heads");
    }
    if (query.keys < 1 || query.keys > MOST || (query.causal && query.keys < query.first_slot + rows)) {
        refuse("keys is " + std::to_string(query.keys) + "; expected all slots up to the last query's");
    }
    if (query.prefix < 0 || query.prefix > query.keys) refuse("prefix is " + std::to_string(query.prefix));
    if (query.window < 0) refuse("window is " + std::to_string(query.window));
}

nb::ndarray<nb::numpy, float> attend(const TestedLayer& self, const Array& q, const Array& table, int64_t first_slot, int64_t keys,
                                     bool causal, int64_t prefix, int64_t window, double scale, const std::optional<Array>& slopes,
                                     const std::optional<Array>& near, bool rounded, float factor) {
    const CacheLayer& layer = self.layer;
    const float* queries = data_of<float>(q, "q", {ANY, ANY, layer.head_dim});
    const int64_t rows = static_cast<int64_t>(q.shape(0)), heads = static_cast<int64_t>(q.shape(1));
    const Query query = {first_slot, keys, causal, prefix, window, scale};
    check(query, rows, heads, layer.kv_heads);
    const float* slope = slopes ? data_of<float>(*slopes, "slopes", {heads}) : nullptr;
    const float* values = near ? data_of<float>(*near, "near", {heads, ANY}) : nullptr;
    const int64_t columns = near ? static_cast<int64_t>(near->shape(1)) : padded_near(0), farthest = (columns - padded_near(0)) / 2;
    if (columns != padded_near(farthest) || farthest < 0) refuse("near has " + std::to_string(columns) + " columns");
    const int32_t* numbers = self.table_of(table, keys);
    const int64_t sharing = heads / layer.kv_heads, stride = heads * layer.head_dim;
    const int64_t room = attend_scratch(rows, sharing, keys);
    Made<float> out({rows, heads, layer.head_dim});
    Unlocked unlocked;
    Bytes scratch(threads() * (room + 16) * 4);
    parallel(layer.kv_heads, [&](int64_t kv_head, int thread) {
        const int64_t start = kv_head * sharing * layer.head_dim;
        Attend task = {queries + start, stride, out.data + start, stride, rows, sharing, kv_head, numbers, first_slot, keys, causal,
                       prefix, window, static_cast<float>(scale), slope ? slope + kv_head * sharing : nullptr,
                       reinterpret_cast<float*>(scratch.get()) + thread * ((room + 15) / 16 * 16),
                       rounded, factor, values ? values + kv_head * sharing * columns : nullptr, farthest};
        kernels().attend(layer, task);
    });
    return out.array;
}

}  // namespace

void bind_cache(nb::module_& module) {
    using namespace nb::literals;
    nb::class_<TestedLayer>(module, "CacheLayer", "Keys and values of one layer, in blocks of 16 slots.")
        .def(nb::init<const std::string&, int64_t, int64_t, int64_t>(), "type"_a, "blocks"_a, "kv_heads"_a, "head_dim"_a)
        .def("store", &store, "k"_a, "v"_a, "table"_a, "first_slot"_a, "k, v: (tokens, kv_heads, head_dim) of one sequence.")
        .def("attend", &attend, "q"_a, "table"_a, "first_slot"_a, "keys"_a, "causal"_a, "prefix"_a = 0, "window"_a = 0,
             "scale"_a = 1.0, "slopes"_a = nb::none(), "near"_a = nb::none(), "rounded"_a = false, "factor"_a = 1.0F, "q (tokens, heads, head_dim) to the same shape.");
}

}  // namespace paddock
