// What the two halves of a program's Python side share: recording (bind_program.cpp) and running (bind_run.cpp).
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "program.h"

namespace nb = nanobind;

namespace paddock {

using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Ints = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Spans = nb::ndarray<const int64_t, nb::shape<-1, 4>, nb::c_contig, nb::device::cpu>;
using Tables = nb::ndarray<const int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Shapes = std::vector<std::pair<int64_t, int64_t>>;
using Matrix = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Sources = std::vector<std::shared_ptr<Source>>;
using Out = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

inline void require(bool right, const char* what) {
    if (!right) throw std::invalid_argument(what);
}

// One forward. Raises ValueError for anything that would index outside of what is there.
void run_program(Program& program, const Ints& ids, const Ints& positions, const Spans& spans, const Tables& tables, const Ints& wanted,
                 const Out& out, const Sources& sources, const std::optional<Matrix>& rates, const std::optional<Ints>& adapters);
void bind_program(nb::module_& module);

}  // namespace paddock
