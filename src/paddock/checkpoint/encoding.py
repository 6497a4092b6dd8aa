"""float32 to ggml's blocks: the inverse of `blocks.py`, a chunk of rows at a time.

Layouts: ggml-org/llama.cpp, `ggml-common.h`. What they store is found here by search: of several trial scales each
block takes the one with the least weighted squared error after its scale (and minimum) were fitted to the rounded
values by least squares. Where `importance` is given (the mean square of each input over a calibration text, which
llama.cpp calls an importance matrix), a weight's error counts as much as its input is loud.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from paddock.checkpoint import kencoding
from paddock.checkpoint.block_types import TensorType
from paddock.checkpoint.blocks import DTYPES
from paddock.checkpoint.fitting import affine, bytes_of, levels, pack, scale_only
from paddock.errors import CheckpointError

CHUNK = 1 << 17  # weights encoded at a time: what a search keeps of them stays in a core's cache

Encoder = Callable[[Tensor, Tensor | None], Tensor]


def encode(kind: TensorType, rows: Tensor, importance: Tensor | None = None) -> Tensor:
    """(rows, columns) of any float type to (rows, bytes per row) uint8.

    `importance`: (columns,) non-negative. Columns must be whole blocks. Raises CheckpointError for NaN, infinity, and
    numbers too large for `kind`; the caller names the tensor.
    """
    count, columns = rows.shape
    result = torch.empty(count, columns // kind.weights * kind.nbytes, dtype=torch.uint8)
    step = max(1, CHUNK // columns)

    def work(start: int) -> None:
        part = rows[start : start + step].float().contiguous()
        _check(part, kind)
        result[start : start + step] = _encoded(kind, part, importance).view(len(part), -1)

    with _one_thread_each() as pool:
        for _ in pool.map(work, range(0, count, step)):
            pass
    return result


@contextlib.contextmanager
def _one_thread_each() -> Iterator[ThreadPoolExecutor]:
    """As many workers as PyTorch has threads, each alone with its rows: hundreds of small operations in a row, each
    shared out and waited for, would take ten times as long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # workers take this over as they start
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)


def _encoded(kind: TensorType, part: Tensor, importance: Tensor | None) -> Tensor:
    if kind.name in DTYPES:
        return bytes_of(part.to(DTYPES[kind.name]))
    weights = None if importance is None else importance.float().expand_as(part).reshape(-1, kind.weights)
    return ENCODERS[kind.name](part.reshape(-1, kind.weights), weights)


def _check(part: Tensor, kind: TensorType) -> None:
    """Scales are float16, and the largest weight is at least 8 of them; that of plain numbers is the type's own."""
    if part.numel() == 0:
        return
    largest = max(abs(extreme.item()) for extreme in part.aminmax())
    if not largest < float("inf"):  # NaN too
        raise CheckpointError("holds values that are not numbers (NaN or infinite)")
    limit = torch.finfo(DTYPES[kind.name]).max if kind.name in DTYPES else 65504.0
    if largest > limit:
        raise CheckpointError(f"holds {largest:g}, too large for {kind.name}", fix="use bf16 or f32")


def _q8_0(x: Tensor, importance: Tensor | None) -> Tensor:
    """32 weights in 34 bytes. The scale puts the largest at 127; 8 bits leave a search nothing to gain."""
    scale = (x.abs().amax(1, keepdim=True) / 127).half()
    return torch.cat((bytes_of(scale), levels(x, scale.float(), -127, 127).to(torch.int8).view(torch.uint8)), 1)


def _centred(x: Tensor, importance: Tensor | None, half: int) -> tuple[Tensor, Tensor]:
    """float16 scales (n, 1), and levels from 0 to 2 × half - 1 (n, 32), where `half` stands for 0."""
    scale = scale_only(x, importance, half).half()
    return scale, (levels(x, scale.float(), -half, half - 1) + half).to(torch.uint8)


def _q4_0(x: Tensor, importance: Tensor | None) -> Tensor:
    scale, values = _centred(x, importance, 8)
    return torch.cat((bytes_of(scale), pack(values, 4, 16)), 1)


def _q5_0(x: Tensor, importance: Tensor | None) -> Tensor:
    scale, values = _centred(x, importance, 16)
    return torch.cat((bytes_of(scale), pack(values >> 4, 1, 1), pack(values & 15, 4, 16)), 1)


def _lifted(x: Tensor, importance: Tensor | None, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """float16 scales and minima (n, 1), and levels from 0 to `most` (n, 32)."""
    scale, low = affine(x, importance, most, below_zero=False)
    scale, low = scale.half(), low.half()
    return scale, low, levels(x - low.float(), scale.float(), 0, most).to(torch.uint8)


def _q4_1(x: Tensor, importance: Tensor | None) -> Tensor:
    scale, low, values = _lifted(x, importance, 15)
    return torch.cat((bytes_of(scale), bytes_of(low), pack(values, 4, 16)), 1)


def _q5_1(x: Tensor, importance: Tensor | None) -> Tensor:
    scale, low, values = _lifted(x, importance, 31)
    return torch.cat((bytes_of(scale), bytes_of(low), pack(values >> 4, 1, 1), pack(values & 15, 4, 16)), 1)


ENCODERS: dict[str, Encoder] = {
    "Q8_0": _q8_0,
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q4_K": kencoding.q4_k,
    "Q5_K": kencoding.q5_k,
    "Q6_K": kencoding.q6_k,
}
