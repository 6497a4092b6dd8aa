"""Orders in which published files store the rows of attention weights."""

from __future__ import annotations

from torch import Tensor, cat


def half_rotation(weight: Tensor, heads: int) -> Tensor:
    """(heads × head width, ...) rows from interleaved order (pairs 2i, 2i+1) to half-rotation order (i, i + half)."""
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def interleaved_rotation(weight: Tensor, heads: int) -> Tensor:
    """The inverse of `half_rotation`."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def grouped(weight: Tensor, heads: int, kv_heads: int, head_width: int) -> Tensor:
    """Rows [all q | all k | all v] to one group per key-value head: [its q heads | k | v], [...], ..."""
    sizes = (heads * head_width, kv_heads * head_width, kv_heads * head_width)
    parts = [part.unflatten(0, (kv_heads, -1, head_width)) for part in weight.split(sizes)]
    return cat(parts, dim=1).flatten(0, 2)


# Each moves whole rows and looks at nothing in them, so it does for quantised rows what it does for numbers.
ROW_ORDERS = (half_rotation, interleaved_rotation, grouped)
