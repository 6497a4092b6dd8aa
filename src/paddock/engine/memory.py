"""Memory the engine takes for a request, refused before it is taken."""

from __future__ import annotations

import os

import torch

from paddock.errors import ResourceError
from paddock.model.cache import Cache
from paddock.model.transformer import Transformer


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
    """Bytes of memory the device has in all."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _does_not_fit(capacity: int, rows: int, size: int, available: int) -> ResourceError:
    texts = f"{rows} texts of {capacity} tokens" if rows > 1 else f"{capacity} tokens"
    return ResourceError(
        f"the cache for {texts} takes {size / 1e9:.1f} GB, more than the {available / 1e9:.1f} GB of this machine",
        fix="ask for fewer new tokens (max_new_tokens)",
    )
