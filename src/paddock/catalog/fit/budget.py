"""How much memory there is: what a user states, or what this machine has left for one more process."""

from __future__ import annotations

import re

import torch

from paddock.engine.memory import free_memory
from paddock.errors import UsageError, did_you_mean

UNITS = {
    "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
SHORT = {"K": "KB", "M": "MB", "G": "GB", "T": "TB"}
MOST = 2**60


def parse(text: str) -> int:
    """Bytes that a text says: "8GB" is 8 x 10^9, "8GiB" 8 x 2^30. Raises UsageError for a number without a unit."""
    found = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,6})?)\s*([A-Za-z]*)\s*", text, re.ASCII)
    if found is None:
        raise UsageError(f"{text[:40]!r} is no amount of memory", expected="a number and a unit, such as 8GB or 7.5GiB")
    number, unit = found[1], found[2].upper()
    if not unit:
        raise UsageError(f"{text.strip()[:40]!r} has no unit", fix=f"say {number}GB (10^9 bytes) or {number}GiB (2^30)")
    unit = SHORT.get(unit, unit)
    if unit not in UNITS:
        raise UsageError(
            f"{found[2][:20]!r} is no unit of memory", expected="MB, GB, MiB or GiB", fix=did_you_mean(unit, UNITS)
        )
    size = int(float(number) * UNITS[unit])
    if not 0 < size <= MOST:
        raise UsageError(f"{text.strip()[:40]} of memory", expected="more than nothing, and less than 2^60 bytes")
    return size


def free(device: str) -> int:
    """Bytes that one more process can have on "cpu" or "cuda": what the system calls available, or what the control
    group that this process runs in has left, where that is less. Raises UsageError where there is no such device."""
    where = torch.device(device)
    if where.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no GPU here to ask", fix="state what it has: --budget 24GB")
    return free_memory(where)
