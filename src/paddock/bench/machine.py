"""What the machine can do at most: bytes read and multiply-adds per second, measured before they are divided by."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from paddock.engine.memory import memory_for
from paddock.kernels.native import library

BUFFER = 1 << 30  # bytes; far more than caches hold
SIDE = 2048  # of the square matrices that PyTorch multiplies
REPEATS = 5
KINDS = {"int8": torch.int8, "bf16": torch.bfloat16, "f32": torch.float32}


@dataclass(frozen=True)
class Machine:
    """read: bytes per second. multiply_adds: per second, by number type; a type the machine has no product for is not
    there. source: what measured it."""

    read: float
    multiply_adds: dict[str, float]
    threads: int
    source: str

    def rate(self, kind: str) -> float | None:
        """The multiply-adds per second of a type; where the machine lacks its product, of the next wider one."""
        kinds = list(KINDS)
        wider = kinds[kinds.index(kind) :]
        return next((self.multiply_adds[name] for name in wider if name in self.multiply_adds), None)


def threads() -> int:
    """How many threads share an operation."""
    module = library()
    return int(module.threads()) if module is not None else torch.get_num_threads()


@memory_for("to measure this machine with a buffer of 1 GB")
def measure(device: torch.device | str = "cpu", seconds: float = 1.0, buffer: int = BUFFER) -> Machine:
    """Reads and multiplies for `seconds` each: by the native kernels on the CPU, else by PyTorch on `device`.

    Raises ResourceError where there is no room for `buffer` bytes.
    """
    place, module = torch.device(device), library()
    if place.type == "cpu" and module is not None:
        count = module.threads()
        rates = {kind: module.peak_rate(kind, count, seconds / 3) for kind in KINDS}
        found = {kind: rate for kind, rate in rates.items() if rate is not None}
        return Machine(module.read_bandwidth(buffer, count, seconds), found, count, f"native {module.current()}")
    data = torch.ones(buffer // 4, device=place)
    read = data.nbytes / _best(place, seconds, data.sum)
    del data
    found = {}
    for kind in ("bf16", "f32"):
        square = torch.ones(SIDE, SIDE, dtype=KINDS[kind], device=place)
        found[kind] = SIDE**3 / _best(place, seconds / 2, partial(torch.mm, square, square))
    return Machine(read, found, torch.get_num_threads(), "PyTorch")


def _best(place: torch.device, seconds: float, work: Callable[[], object]) -> float:
    """The shortest time of `work`, repeated for about so long."""
    times: list[float] = []
    while sum(times) < seconds or len(times) < REPEATS:
        started = time.perf_counter()
        work()
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        times.append(time.perf_counter() - started)
    return min(times)
