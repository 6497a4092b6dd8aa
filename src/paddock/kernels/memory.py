"""Memory that a training step frees is kept for the next one, which asks for just the same."""

from __future__ import annotations

import ctypes
import sys

TRIM, PAD, MAPPED = -1, -2, -3  # glibc's M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD (malloc.h)
LARGEST = 2**25  # glibc refuses a higher M_MMAP_THRESHOLD on 64 bits
STEP = 2**26


def keep_freed_memory() -> bool:
    """Tells glibc's allocator to give nothing back to the system and to map only blocks above 32 MiB by themselves.

    Otherwise every step maps its activations anew, and the system clears each page of them: a sixth of a step's
    processor time in docs/notes/2026-11-22-training-speed.md. For the whole process, from now on. False where there is
    no such allocator.
    """
    if not sys.platform.startswith("linux"):
        return False
    change = getattr(ctypes.CDLL(None), "mallopt", None)
    if change is None:
        return False
    return all([change(MAPPED, LARGEST), change(TRIM, 2**31 - 1), change(PAD, STEP)])
