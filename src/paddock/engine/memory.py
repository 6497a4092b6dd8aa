"""Memory the engine takes: refused before it is taken where that can be known, and in words where it cannot."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from paddock.errors import ResourceError
from paddock.model.cache import Cache
from paddock.model.transformer import Transformer

# How PyTorch says that an allocation failed, where it raises no class of its own for it.
FAILED = ("not enough memory", "allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


@contextlib.contextmanager
def memory_for(what: str) -> Iterator[None]:
    """Turns an allocation that fails inside, on the CPU or a GPU, into a ResourceError that says `what` it was for."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        failed = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not failed and not any(words in str(error) for words in FAILED):
            raise
        raise ResourceError(
            f"there is not enough memory {what}",
            fix="take shorter or fewer texts, dtype='bfloat16', or another device",
        ) from None


def new_cache(model: Transformer, capacity: int, rows: int = 1) -> Cache:
    """A cache of `capacity` tokens for one text that may become `rows` later, in the model's type and on its device.

    Raises ResourceError when it cannot fit the machine, with the numbers.
    """
    weight = model.embedding.tokens.weight
    size = rows * capacity * model.architecture.cache_values_per_token() * weight.dtype.itemsize
    available = _memory(weight.device)
    if size > available:
        raise _does_not_fit(capacity, rows, size, available)
    try:
        return Cache(model.architecture, 1, capacity, weight.dtype, weight.device)
    except (RuntimeError, MemoryError):  # torch reports an allocation that failed as either
        raise _does_not_fit(capacity, rows, size, available) from None


def _memory(device: torch.device) -> int:
    """Bytes that can be had on the device: all that a machine has, what is free on a GPU."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # PyTorch's own, not in use
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _does_not_fit(capacity: int, rows: int, size: int, available: int) -> ResourceError:
    texts = f"{rows} texts of {capacity} tokens" if rows > 1 else f"{capacity} tokens"
    return ResourceError(
        f"the cache for {texts} takes {size / 1e9:.1f} GB, more than the {available / 1e9:.1f} GB there are",
        fix="ask for fewer new tokens (max_new_tokens)",
    )
