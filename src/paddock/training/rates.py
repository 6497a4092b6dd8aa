"""How fast the machine could multiply, and how much memory a run took: what a step's time is held against."""

from __future__ import annotations

import functools
import resource
import sys
import time

import torch

SIDES = {"cpu": 1024, "cuda": 8192}  # of the square matrices that are multiplied
TRIES, ENOUGH = 5, 0.3  # products, seconds


@functools.lru_cache(maxsize=8)
def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of the device's best product of two square matrices, measured once.

    The best of several, as what hinders one (another process, a low clock) only ever makes it slower.
    """
    side = SIDES.get(device.type, 2048)
    left, right = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(2))
    best, until = float("inf"), time.perf_counter() + ENOUGH
    tries = 0
    while tries < TRIES or time.perf_counter() < until:
        _wait(device)
        started = time.perf_counter()
        left @ right
        _wait(device)
        tries += 1
        if tries > 1:  # the first one wakes threads and packs nothing yet
            best = min(best, time.perf_counter() - started)
    return 2.0 * side**3 / best


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that the process held so far, or on a GPU, that its tensors did."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
