// The parts of paddock.kernels._native.
#pragma once
#include <nanobind/nanobind.h>

namespace paddock {
void bind_weight(nanobind::module_& module);
}  // namespace paddock
