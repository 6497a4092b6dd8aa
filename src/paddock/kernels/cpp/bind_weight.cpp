// Weight in Python: a matrix packed for this machine.
#include <nanobind/nanobind.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <tuple>

#include "ahead.h"
#include "arrays.h"
#include "bind.h"
#include "choose.h"
#include "pool.h"
#include "unlocked.h"
#include "weight.h"

namespace paddock {
namespace {

using Shared = std::shared_ptr<PackedWeight>;

Format format_of(const std::string& name) {
    const FormatFacts* found = format_named(name.c_str());
    if (found) return found->format;
    std::string known;
    for (int index = 0; index < FORMAT_COUNT; ++index) known += std::string(index ? ", " : "") + FORMATS[index].name;
    refuse("no format " + name + "; there are " + known);
}

void check_size(Format format, int64_t rows, int64_t columns) {
    constexpr int64_t MOST = int64_t{1} << 40;  // keeps every product of sizes below 2^63
    int64_t block = facts(format).block;
    if (rows < 1 || columns < 1 || rows > MOST / columns || columns % block) {
        refuse("a matrix of " + std::to_string(rows) + " rows and " + std::to_string(columns) + " columns cannot be " +
               facts(format).name + "; expected at least one row and a multiple of " + std::to_string(block) + " columns");
    }
}

Shared pack_published(const std::string& name, int64_t rows, int64_t columns, const Array& blocks) {
    Format format = format_of(name);
    check_size(format, rows, columns);
    int64_t row_bytes = columns / facts(format).block * facts(format).block_bytes;
    if (row_bytes == 0) refuse(name + " has no published blocks; use " + (format == Format::NF4 ? "pack_nf4" : "pack_affine"));
    const uint8_t* data = data_of<uint8_t>(blocks, "blocks", {rows * row_bytes});
    Unlocked unlocked;
    return pack_weight(format, data, row_bytes, rows, columns);
}

Shared pack_codes(const std::string& name, const Array& codes, const Array& scales, const Array& zeros) {
    Format format = format_of(name);
    if (format != Format::INT4 && format != Format::INT8) refuse("pack_affine makes int4 and int8, not " + name);
    int64_t rows, columns;
    const uint8_t* values = matrix<uint8_t>(codes, "codes", rows, columns);
    check_size(format, rows, columns);
    const uint16_t* scale = data_of<uint16_t>(scales, "scales (float16 bits)", {rows, columns / GROUP});
    const uint8_t* zero = data_of<uint8_t>(zeros, "zeros", {rows, columns / GROUP});
    Unlocked unlocked;
    return pack_weight_affine(format, values, scale, zero, rows, columns);
}

Shared pack_levels(const Array& codes, const Array& scales) {
    int64_t rows, columns;
    const uint8_t* values = matrix<uint8_t>(codes, "codes", rows, columns);
    check_size(Format::NF4, rows, columns);
    const float* scale = data_of<float>(scales, "scales", {rows, columns / facts(Format::NF4).block});
    Unlocked unlocked;
    return pack_weight_nf4(values, scale, rows, columns);
}

void rows_of(const PackedWeight& weight, const int64_t* ids, int64_t count, float* out) {
    parallel(count, [&](int64_t index, int) {
        kernels().weight_row(weight, ids ? ids[index] : index, out + index * weight.columns);
    });
}

nb::ndarray<nb::numpy, float> unpack(const PackedWeight& weight) {
    Made<float> out({weight.rows, weight.columns});
    Unlocked unlocked;
    rows_of(weight, nullptr, weight.rows, out.data);
    return out.array;
}

nb::ndarray<nb::numpy, float> take(const PackedWeight& weight, const Array& ids) {
    const int64_t* rows = data_of<int64_t>(ids, "ids", {ANY});
    int64_t count = static_cast<int64_t>(ids.shape(0));
    for (int64_t index = 0; index < count; ++index) {
        if (rows[index] < 0 || rows[index] >= weight.rows) {
            refuse("id " + std::to_string(rows[index]) + " is not one of " + std::to_string(weight.rows) + " rows");
        }
    }
    Made<float> out({count, weight.columns});
    Unlocked unlocked;
    rows_of(weight, rows, count, out.data);
    return out.array;
}

// An Ahead and the bytes that it reads, which it is done with before they go.
class Begun {
public:
    using Place = std::tuple<std::string, int64_t, int64_t, int64_t>;  // format, rows, columns, offset

    Begun(Array bytes, const std::vector<Place>& places) : bytes_(std::move(bytes)), ahead_(matrices(bytes_, places)) {}
    ~Begun() {
        Unlocked unlocked;
        ahead_.reset();
    }

    Shared take(size_t number) {
        Unlocked unlocked;
        return ahead_->take(number);
    }

private:
    static std::unique_ptr<Ahead> matrices(const Array& bytes, const std::vector<Place>& places) {
        const uint8_t* data = data_of<uint8_t>(bytes, "bytes", {ANY});
        const auto size = static_cast<int64_t>(bytes.shape(0));
        std::vector<Published> all;
        for (const auto& [name, rows, columns, offset] : places) {
            Published matrix = {format_of(name), rows, columns, data};
            check_size(matrix.format, rows, columns);
            const int64_t row_bytes = matrix.row_bytes();
            if (row_bytes == 0) refuse(name + " has no published blocks");
            if (offset < 0 || offset > size || rows > (size - offset) / row_bytes) {
                refuse("a matrix at " + std::to_string(offset) + " does not end within " + std::to_string(size) + " bytes");
            }
            matrix.blocks += offset;
            all.push_back(matrix);
        }
        return std::make_unique<Ahead>(std::move(all));
    }

    Array bytes_;
    std::unique_ptr<Ahead> ahead_;
};

}  // namespace

void bind_weight(nb::module_& module) {
    nb::class_<PackedWeight>(module, "Weight", "A matrix (rows = outputs, columns = inputs) packed for the kernels.")
        .def_static("pack", &pack_published, nb::arg("format"), nb::arg("rows"), nb::arg("columns"), nb::arg("blocks"),
                    "From published bytes, row by row.")
        .def_static("pack_affine", &pack_codes, nb::arg("format"), nb::arg("codes"), nb::arg("scales"), nb::arg("zeros"),
                    "int4 or int8 from codes (rows, columns), scales and zeros (rows, columns / 32).")
        .def_static("pack_nf4", &pack_levels, nb::arg("codes"), nb::arg("scales"),
                    "NF4 from codes (rows, columns) and scales (rows, columns / 64).")
        .def_prop_ro("format", [](const PackedWeight& self) { return facts(self.format).name; })
        .def_ro("rows", &PackedWeight::rows)
        .def_ro("columns", &PackedWeight::columns)
        .def_prop_ro("nbytes", &PackedWeight::bytes)
        .def("unpack", &unpack, "What the matrix means, float32 (rows, columns).")
        .def("take", &take, nb::arg("ids"), "Rows `ids` (int64) as float32 (len(ids), columns).");
    nb::class_<Begun>(module, "Ahead", "Matrices of a mapped file, packed by a thread from now on, in the order given.")
        .def(nb::init<Array, const std::vector<Begun::Place>&>(), nb::arg("bytes"), nb::arg("places"),
             "places: (format, rows, columns, offset of the published blocks) of each. bytes: a mapped file's, whose pages are "
             "let go as soon as they are read; of memory that is no file's they would be lost.")
        .def("take", &Begun::take, nb::arg("number"), "A Weight, once; None where it has to be packed as usual.");
}

}  // namespace paddock
