"""The storage of the cache's blocks in PyTorch, and views of it that a forward takes for an ordinary cache."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from paddock.engine.blocks import BLOCK
from paddock.model.cache import Cache
from paddock.model.spec import Architecture


class Pages:
    """Keys and values of all blocks, layer by layer: (kv_heads, slots, head_dim).

    Storage grows as blocks are first used, twofold, up to `blocks`; on a GPU, where growing would need both sizes at
    once, all is taken with the first block.
    """

    def __init__(self, architecture: Architecture, blocks: int, dtype: torch.dtype, device: torch.device) -> None:
        self.blocks, self.dtype, self.device = blocks, dtype, device
        self.shapes = [(layer.attention.kv_heads, layer.attention.head_dim) for layer in architecture.layers]
        self.held = 0
        self.keys = [self._empty(shape, 0) for shape in self.shapes]
        self.values = [self._empty(shape, 0) for shape in self.shapes]

    def reserve(self, block: int) -> None:
        """Sees to it that the block with this number is there."""
        if block < self.held:
            return
        wanted = self.blocks if self.device.type == "cuda" else min(self.blocks, max(block + 1, 2 * self.held, 8))
        for store in (self.keys, self.values):
            for layer, old in enumerate(store):
                new = self._empty(self.shapes[layer], wanted)
                new[:, : old.shape[1]] = old
                store[layer] = new
        self.held = wanted

    def _empty(self, shape: tuple[int, int], blocks: int) -> Tensor:
        heads, features = shape
        return torch.empty(heads, blocks * BLOCK, features, dtype=self.dtype, device=self.device)


class Page(Cache):
    """What one sequence has in `pages`, through its table; `put` and `advance` as of a contiguous cache.

    cross: an encoder-decoder's keys and values over the source, kept from step to step by whoever makes this.
    """

    def __init__(
        self, pages: Pages, table: Sequence[int], length: int, capacity: int, cross: dict[int, tuple[Tensor, Tensor]]
    ) -> None:
        self.pages, self.length, self.capacity, self.cross = pages, length, capacity, cross
        self.keys, self.values = pages.keys, pages.values
        in_a_row = all(b - a == 1 for a, b in pairwise(table))
        self._first = table[0] * BLOCK if in_a_row else None  # then nothing is gathered: the storage itself is read
        if not in_a_row:
            blocks = torch.tensor(table, device=pages.device)
            self._slots = (blocks[:, None] * BLOCK + torch.arange(BLOCK, device=pages.device)).flatten()

    def put(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        stop = self.length + k.shape[2]
        keys, values = self.keys[layer], self.values[layer]
        if self._first is not None:
            first = self._first
            keys[:, first + self.length : first + stop] = k[0]
            values[:, first + self.length : first + stop] = v[0]
            return keys[None, :, first : first + stop], values[None, :, first : first + stop]
        new, all = self._slots[self.length : stop], self._slots[:stop]
        keys.index_copy_(1, new, k[0])
        values.index_copy_(1, new, v[0])
        return keys.index_select(1, all)[None], values.index_select(1, all)[None]

    def reorder(self, rows: Tensor) -> None:
        raise AssertionError("the beams of a search share no pages")


class Pile(Cache):
    """One new token of each of many sequences: their keys and values padded at the left to the longest.

    lengths: slots in use per sequence, before the new token. Padding repeats the sequence's own first slot, which holds
    numbers; the step's `padding` hides it.
    """

    def __init__(self, pages: Pages, tables: Sequence[Sequence[int]], lengths: Sequence[int]) -> None:
        self.pages, self.cross = pages, {}
        self.keys, self.values = pages.keys, pages.values
        self.length = max(lengths)
        self.capacity = self.length + 1
        device = pages.device
        most = max(len(table) for table in tables)
        padded = torch.tensor([[*table, *[0] * (most - len(table))] for table in tables], device=device)
        own = torch.tensor(lengths, device=device)[:, None]
        places = torch.arange(self.capacity, device=device) - (self.length - own)  # own slots, aligned at the right
        self.padding = places >= 0
        places = places.clamp(min=0)
        self._slots = padded.gather(1, places // BLOCK) * BLOCK + places % BLOCK

    def put(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = self.keys[layer], self.values[layer]
        new = self._slots[:, -1]
        keys.index_copy_(1, new, k[:, :, 0].transpose(0, 1))
        values.index_copy_(1, new, v[:, :, 0].transpose(0, 1))
        return keys[:, self._slots].transpose(0, 1), values[:, self._slots].transpose(0, 1)

    def reorder(self, rows: Tensor) -> None:
        raise AssertionError("the beams of a search share no pages")
