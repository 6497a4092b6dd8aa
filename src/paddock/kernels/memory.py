"""Memory that a training step frees is kept for the next ones, which ask for much the same."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable

TRIM, PAD, MAPPED = -1, -2, -3  # glibc's M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD (malloc.h)
LARGEST = 2**25  # glibc refuses a higher M_MMAP_THRESHOLD on 64 bits
STEP = 2**26
OWN = 2**20  # bytes from which a block is mapped by itself where memory counts most


def keep_freed_memory() -> bool:
    """Tells glibc's allocator to give nothing back to the system and to map only blocks above 32 MiB by themselves.

    Otherwise every step maps its activations anew, and the system clears each page of them: a sixth of a step's
    processor time in docs/notes/2026-11-22-training-speed.md. For the whole process, from now on. False where there is
    no such allocator.
    """
    change = of_libc("mallopt")
    return change is not None and all([change(MAPPED, LARGEST), change(TRIM, 2**31 - 1), change(PAD, STEP)])


def map_large_blocks() -> bool:
    """Tells glibc's allocator to map every block from 1 MiB on by itself, so that what is freed is the system's again.

    For who would rather have memory than time (`recompute`): no holes are left then, with which a LoRA run of 290 M
    parameters that recomputes its blocks took 1.58 GB, and takes 1.14 without. For the whole process, from now on.
    False where there is no such allocator.
    """
    change = of_libc("mallopt")
    return change is not None and bool(change(MAPPED, OWN))


def give_back_freed_memory() -> bool:
    """Gives the system all that is free now, wherever it lies. True where there was any.

    Steps of unequal sizes leave holes that no later block fits, and the heap grows round them: without this a run of
    6.6 M parameters on rows of unequal lengths went from 0.9 to 3.1 GiB in 350 steps.
    """
    trim = of_libc("malloc_trim")
    return trim is not None and bool(trim(0))


@functools.cache
def of_libc(name: str) -> Callable[..., int] | None:
    """A function of the C library, which is opened once for each; None where the system or the library has none."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
