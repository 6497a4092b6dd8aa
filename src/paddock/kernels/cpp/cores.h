// How many cores this process may keep busy.
#pragma once

namespace paddock {
int physical_cores();
}
