"""Memory the engine takes: refused before it is taken where that can be known, and in words where it cannot."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from paddock.engine.blocks import BLOCK, blocks_for
from paddock.errors import ResourceError
from paddock.kernels import system_memory
from paddock.model.cache import Cache
from paddock.model.spec import Architecture
from paddock.model.transformer import Transformer

PIECE = 512  # tokens of a prompt read at once: bounds the memory of activations
SHARE = 0.5  # of the memory that is free when an engine begins, its cache may grow to this
PAGE = 4096  # bytes: a source's keys, and its values, of every layer begin on one (kernels/cpp/cache.cpp)

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
    half of the memory that is free; where even one such text takes more, as much of it as the machine has. An
    encoder-decoder's is half of that: the other is for its source texts.

    text: tokens of the longest text there will be, where that is less than the context. memory: bytes that it may take
    instead of that half.
    """
    context = min((limit for limit in (model.architecture.context, text) if limit is not None), default=None)
    return _blocks(model, context, block_bytes, sequences, memory)


def source_blocks(model: Transformer, item: int, sequences: int, memory: int | None = None) -> tuple[int, int]:
    """How many blocks of source texts an engine may keep beside its cache, and the bytes of one: as `cache_blocks`,
    with the encoder's context. item: bytes of a number. Both 0 where there is no encoder."""
    encoder, size = model.architecture.encoder, source_block_bytes(model.architecture, item)
    return (0, 0) if encoder is None else (_blocks(model, encoder.context, size, sequences, memory), size)


def source_block_bytes(architecture: Architecture, item: int) -> int:
    """What BLOCK tokens of a source take: the keys and values that every crossing layer keeps, and the encoder's own
    while it reads them. 0 for a model that crosses nothing."""
    if architecture.encoder is None:
        return 0
    crossing = [layer.cross for layer in architecture.layers if layer.cross is not None]
    kept = sum(2 * _in_pages(BLOCK * cross.kv_heads * cross.head_dim * item) for cross in crossing)
    return kept + BLOCK * architecture.encoder.cache_values_per_token() * item


def _blocks(model: Transformer, context: int | None, block_bytes: int, sequences: int, memory: int | None) -> int:
    device = cache_place(model)[1]
    part = int(free_memory(device) * SHARE) if memory is None else memory
    share = part // (1 if model.architecture.encoder is None else 2) // block_bytes
    if context is None:
        return max(share, 1)
    one = blocks_for(context)
    return max(min(one, _memory(device) // block_bytes), min(share, one * sequences), 1)


def _in_pages(size: int) -> int:
    return -(-size // PAGE) * PAGE


def check_source_fits(tokens: int, blocks: int, block_bytes: int) -> None:
    """The same of an encoder-decoder's source text, which is kept beside the cache."""
    if blocks_for(tokens) > blocks:
        size, room = blocks_for(tokens) * block_bytes, blocks * block_bytes
        raise ResourceError(
            f"a source text of {tokens} tokens takes {size / 1e9:.2g} GB, and sources have {room / 1e9:.2g} GB",
            expected=f"at most {blocks * BLOCK} tokens",
            fix="shorten the text, or split it",
        )


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
