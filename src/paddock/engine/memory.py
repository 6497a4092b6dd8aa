"""Memory the engine takes: refused before it is taken where that can be known, and in words where it cannot."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from paddock.engine.blocks import BLOCK, blocks_for
from paddock.errors import ResourceError
from paddock.kernels import system_memory
from paddock.model.cache import Cache
from paddock.model.transformer import Transformer

PIECE = 512  # tokens of a prompt read at once: bounds the memory of activations
SHARE = 0.5  # of the memory that is free when an engine begins, its cache may grow to this

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


def cache_place(model: Transformer) -> tuple[torch.dtype, torch.device]:
    """The type and the device of the model's keys and values."""
    weight = model.embedding.tokens.weight
    return weight.dtype, weight.device


def cache_blocks(
    model: Transformer, block_bytes: int, sequences: int, text: int | None = None, memory: int | None = None
) -> int:
    """How many blocks an engine's cache may have: enough for `sequences` texts of the full context, but no more than
    half of the memory that is free; where even one such text takes more, as much of it as the machine has.

    text: tokens of the longest text there will be, where that is less than the context. memory: bytes that it may take
    instead of that half.
    """
    device = cache_place(model)[1]
    context = min((limit for limit in (model.architecture.context, text) if limit is not None), default=None)
    share = (int(free_memory(device) * SHARE) if memory is None else memory) // block_bytes
    if context is None:
        return max(share, 1)
    one = blocks_for(context)
    return max(min(one, _memory(device) // block_bytes), min(share, one * sequences), 1)


def check_fits(tokens: int, blocks: int, block_bytes: int) -> None:
    """Raises ResourceError, with the numbers, where a cache of so many blocks cannot hold a text of `tokens` tokens."""
    if blocks_for(tokens) > blocks:
        size, room = blocks_for(tokens) * block_bytes, blocks * block_bytes
        raise ResourceError(
            f"the cache for {tokens} tokens takes {size / 1e9:.1f} GB, more than the {room / 1e9:.1f} GB there are",
            expected=f"at most {blocks * BLOCK} tokens",
            fix="ask for fewer new tokens (max_new_tokens)",
        )


def new_cache(model: Transformer, capacity: int, rows: int = 1) -> Cache:
    """A cache of `capacity` tokens for one text that may become `rows` later, in the model's type and on its device.

    Raises ResourceError when it cannot fit the machine, with the numbers.
    """
    dtype, device = cache_place(model)
    size = rows * capacity * model.architecture.cache_values_per_token() * dtype.itemsize
    available = _memory(device)
    if size > available:
        raise _does_not_fit(capacity, rows, size, available)
    try:
        return Cache(model.architecture, 1, capacity, dtype, device)
    except (RuntimeError, MemoryError):  # torch reports an allocation that failed as either
        raise _does_not_fit(capacity, rows, size, available) from None


def _memory(device: torch.device) -> int:
    """Bytes that can be had on the device: all that this process may have of a machine, what is free on a GPU."""
    return _free_on_gpu(device) if device.type == "cuda" else system_memory.total()


def free_memory(device: torch.device) -> int:
    """Bytes that nobody uses now, what the system keeps of files included, within the limits of this process."""
    return _free_on_gpu(device) if device.type == "cuda" else system_memory.available()


def _free_on_gpu(device: torch.device) -> int:
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # PyTorch's own, not in use
    return int(torch.cuda.mem_get_info(device)[0]) + kept


def _does_not_fit(capacity: int, rows: int, size: int, available: int) -> ResourceError:
    texts = f"{rows} texts of {capacity} tokens" if rows > 1 else f"{capacity} tokens"
    return ResourceError(
        f"the cache for {texts} takes {size / 1e9:.1f} GB, more than the {available / 1e9:.1f} GB there are",
        fix="ask for fewer new tokens (max_new_tokens)",
    )
