"""The native kernels: whether this build has them, which variant runs, and on how many threads.

The environment is read here, not in C++, so that a word that cannot be meant is refused like any other:
PADDOCK_KERNELS names the variant (`reference` for none), PADDOCK_THREADS, or else OMP_NUM_THREADS, the threads.
"""

from __future__ import annotations

import functools
import importlib
import os
from types import ModuleType

from paddock.errors import UsageError, did_you_mean

KERNELS, THREADS, SHARED_THREADS = "PADDOCK_KERNELS", "PADDOCK_THREADS", "OMP_NUM_THREADS"
REFERENCE = "reference"
MOST_THREADS = 512
# ggml's block types that the kernels compute with, as checkpoint/block_types.py names them.
BLOCKS = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
FIX = "install a C++ compiler (g++ or clang), then install Paddock again"


def library() -> ModuleType | None:
    """The extension module, set to the variant and the threads that the environment asks for; None for the reference.

    The environment counts when it changes, so `use` and `set_threads` of the module last. UsageError for a variant
    that is not there, or threads that are no number.
    """
    return _chosen(os.environ.get(KERNELS, ""), os.environ.get(THREADS, ""), os.environ.get(SHARED_THREADS, ""))


def available() -> list[str]:
    """What PADDOCK_KERNELS may say on this machine, best last."""
    module = extension()
    return [REFERENCE, *(module.variants() if module else [])]


def built() -> list[str]:
    """The variants of this build, those that this processor cannot run included."""
    module = extension()
    return list(module.built()) if module else []


def refused() -> dict[str, str]:
    """Variants that this processor could run and that are not used all the same: name to reason."""
    module = extension()
    return dict(module.refused()) if module else {}


def absence() -> str | None:
    """Why the extension module cannot be used, or None where it can."""
    try:
        importlib.import_module("paddock.kernels._native")
    except ModuleNotFoundError:
        return "no native kernels in this build"
    except ImportError as error:  # built for another Python or C++ library
        return f"the native kernels cannot be loaded ({error})"
    return None


def chosen() -> str:
    """One line for people: "native avx512bf16, 2 threads", or the reference and why."""
    module = library()
    if module is not None:
        count = module.threads()
        return f"native {module.current()}, {count} thread{'s' if count > 1 else ''}"
    return f"reference (PyTorch): {absence() or f'{KERNELS}={REFERENCE}'}"


def extension() -> ModuleType | None:
    """The extension module as it is now set, whatever the environment says; None where this build has none."""
    return None if absence() else importlib.import_module("paddock.kernels._native")


@functools.lru_cache(maxsize=1)
def _chosen(kernels: str, threads: str, shared: str) -> ModuleType | None:
    if kernels and kernels not in (known := available()):
        raise _unknown(kernels, known)
    count = _threads(threads, shared)
    module = None if kernels == REFERENCE else extension()
    if module is not None:
        module.use(kernels or module.variants()[-1])
        module.set_threads(count or module.default_threads())
    return module


def _unknown(name: str, known: list[str]) -> UsageError:
    missing = absence()
    if missing:
        return UsageError(f"{KERNELS}={name}: {missing}", expected=REFERENCE, fix=FIX)
    why = refused().get(name, "this processor cannot run those")
    what = why if name in built() else "this build has none of that name"
    return UsageError(f"{KERNELS}={name}: {what}", expected=", ".join(known), fix=did_you_mean(name, known))


def _threads(own: str, shared: str) -> int | None:
    """The number asked for. OpenMP's variable may hold a list, of which the first counts, or what only OpenMP knows."""
    if own:
        if not (own.isascii() and own.isdigit() and 1 <= int(own[:9]) <= MOST_THREADS):
            raise UsageError(f"{THREADS}={own}", expected=f"a number from 1 to {MOST_THREADS}")
        return int(own)
    first = shared.split(",")[0].strip()
    return min(int(first), MOST_THREADS) if first.isascii() and first[:9].isdigit() and int(first[:9]) > 0 else None
