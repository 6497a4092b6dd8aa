// The parts of paddock.kernels._native.
#pragma once
#include <nanobind/nanobind.h>

namespace paddock {
void bind_weight(nanobind::module_& module);
void bind_ops(nanobind::module_& module);
void bind_cache(nanobind::module_& module);
void bind_measure(nanobind::module_& module);
void bind_training(nanobind::module_& module);
void bind_products(nanobind::module_& module);
}  // namespace paddock
