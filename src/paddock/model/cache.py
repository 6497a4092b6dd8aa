"""What attention remembers: keys and values of every token so far, one slot per token, layer by layer."""

from __future__ import annotations

import torch
from torch import Tensor

from paddock.model.spec import Architecture


class Cache:
    """A contiguous cache for `batch` texts of at most `capacity` tokens.

    Layers write with `put`; whoever runs the model calls `advance` once a forward is done. A decoder's keys and values
    over its encoder's output are kept beside them, as they are the same at every step.
    """

    def __init__(
        self, architecture: Architecture, batch: int, capacity: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        shapes = [
            (batch, layer.attention.kv_heads, capacity, layer.attention.head_dim) for layer in architecture.layers
        ]
        self.capacity = capacity
        self.length = 0  # slots in use
        self.keys = [torch.empty(shape, dtype=dtype, device=device) for shape in shapes]
        self.values = [torch.empty(shape, dtype=dtype, device=device) for shape in shapes]
        self.cross: dict[int, tuple[Tensor, Tensor]] = {}

    def put(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Stores k, v (batch, kv_heads, tokens, head_dim) after what is there; returns all of the layer's so far."""
        stop = self.length + k.shape[2]
        assert stop <= self.capacity, f"cache of {self.capacity} slots asked for {stop}"
        self.keys[layer][:, :, self.length : stop] = k
        self.values[layer][:, :, self.length : stop] = v
        return self.keys[layer][:, :, :stop], self.values[layer][:, :, :stop]

    def advance(self, tokens: int) -> None:
        self.length += tokens

    def reorder(self, rows: Tensor) -> None:
        """Row i becomes what row rows[i] was: beam search continues some beams twice and drops others."""
        for store in (self.keys, self.values):
            for layer, tensor in enumerate(store):
                store[layer] = tensor.index_select(0, rows)
        self.cross = {layer: (k.index_select(0, rows), v.index_select(0, rows)) for layer, (k, v) in self.cross.items()}
