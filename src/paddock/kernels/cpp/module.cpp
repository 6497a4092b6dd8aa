// paddock.kernels._native: the kernels as seen from Python.
#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bind.h"
#include "choose.h"
#include "pool.h"
#include "unlocked.h"
#if __has_include("bind_program.h")
#include "bind_program.h"
#endif

namespace nb = nanobind;
using namespace paddock;

namespace {

std::vector<std::string> names() {
    std::vector<std::string> found;
    for (const Kernels* each : usable_variants()) found.emplace_back(each->name);
    return found;
}

void use(const std::string& name) {
    if (use_variant(name)) return;
    std::string known;
    for (const std::string& each : names()) known += (known.empty() ? "" : ", ") + each;
    throw nb::value_error(("no kernels " + name + " on this machine; there are " + known).c_str());
}

void check_threads(int64_t count) {
    if (count < 1 || count > MOST_THREADS) {
        throw nb::value_error(("threads must be 1 to " + std::to_string(MOST_THREADS) + ", not " + std::to_string(count)).c_str());
    }
    Unlocked unlocked;
    set_threads(static_cast<int>(count));
}

}  // namespace

NB_MODULE(_native, module) {
    nb::set_leak_warnings(false);  // models that live until the process ends are no news to a user
    module.doc() = "Native kernels for this machine's processor. Use paddock.kernels.native.";
    module.def("variants", &names, "Names of the variants that this machine can run, best last.");
    module.def("built", &built_variants, "Names of the variants in this build, those this machine cannot run included.");
    module.def("refused", &refused_variants, "Those that the processor could run and that are not used: names and reasons.");
    module.def("use", &use, nb::arg("name"), "Uses that variant from now on.");
    module.def("current", [] { return kernels().name; }, "Name of the variant in use.");
    module.def("threads", &threads, "Threads that share one operation, the caller's included.");
    module.def("default_threads", &default_threads, "Physical cores that this process may use.");
    module.def("set_threads", &check_threads, nb::arg("count"));
    bind_weight(module);
    bind_ops(module);
    bind_cache(module);
    bind_measure(module);
    bind_training(module);
    bind_products(module);
#if __has_include("bind_program.h")
    bind_program(module);
#endif
}
