// Which of the built variants runs on this machine, and which is in use.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "kernels.h"
#include "peaks.h"
#include "training.h"

namespace paddock {

std::vector<std::string> built_variants();           // in this build, whether or not the machine can run them; best last
std::map<std::string, std::string> refused_variants();  // those that the processor could run, and why they are not used
std::vector<const Kernels*> usable_variants();       // those it can run, best last
const Kernels& kernels();                            // the one in use; at first the best
const Peaks& peaks();                                // of the one in use
const Training& training();                          // of the one in use
bool use_variant(const std::string& name);           // false where the machine or the build has none of that name

}  // namespace paddock
