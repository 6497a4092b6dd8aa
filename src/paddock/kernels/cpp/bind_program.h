#pragma once
#include <nanobind/nanobind.h>

namespace paddock {
void bind_program(nanobind::module_& module);
}
