"""What native cross-attention reads: keys and values of encoders' texts, computed once and kept while needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from paddock.engine.blocks import blocks_for
from paddock.engine.memory import PIECE
from paddock.engine.runner import Rows
from paddock.kernels.native import library
from paddock.kernels.record import Kept, Tape
from paddock.model.recording import cache_shapes, recorded_source, source_shapes
from paddock.model.transformer import Transformer


class Sources:
    """Reads source texts with an encoder-decoder's encoder, whole and several at once, and keeps what its decoder
    attends to, by the sequence's key. No text's numbers depend on those beside it."""

    def __init__(self, model: Transformer, cache_type: str, weights: Kept) -> None:
        assert model.encoder is not None, "only encoder-decoders have sources"
        self.model, self.cache_type, self.weights = model, cache_type, weights
        self.shapes = source_shapes(model.architecture)
        self.width = model.encoder.architecture.width
        self._kept: dict[int, Any] = {}
        self._blocks = 0
        self._program: Any = None

    def of(self, batch: Sequence[Rows]) -> list[Any]:
        """Each sequence's source, read now if it begins or is not known."""
        for group in _groups([rows for rows in batch if rows.start == 0 or rows.key not in self._kept]):
            self._read(group)
        return [self._kept[rows.key] for rows in batch]

    def forget(self, key: int) -> None:
        self._kept.pop(key, None)

    def _read(self, group: Sequence[Rows]) -> None:
        module, lengths = library(), [len(rows.source) for rows in group]
        assert module is not None, "the native kernels were there when this was made"
        blocks = [blocks_for(length) for length in lengths]
        self._fit(sum(blocks))
        sources = [module.Source(self.cache_type, length, self.shapes) for length in lengths]
        firsts, tables = np.cumsum([0, *blocks[:-1]]), np.zeros((len(group), max(blocks)), np.int32)
        for table, first, count in zip(tables, firsts, blocks, strict=True):
            table[:count] = np.arange(first, first + count)
        spans = np.zeros((len(group), 4), np.int64)
        spans[:, 0], spans[:, 1] = np.cumsum([0, *lengths[:-1]]), lengths
        ids = np.concatenate([np.asarray(rows.source, np.int32) for rows in group])
        positions = np.concatenate([np.arange(length, dtype=np.int32) for length in lengths])
        memory = np.empty((len(ids), self.width), np.float32)
        self._program.run(ids, positions, spans, tables, np.empty(0, np.int32), memory, sources)
        self._kept.update({rows.key: source for rows, source in zip(group, sources, strict=True)})

    def _fit(self, blocks: int) -> None:
        """A program whose cache holds so many blocks: the encoder's own attention goes through one."""
        if blocks <= self._blocks:
            return
        module, encoder = library(), self.model.encoder
        assert module is not None and encoder is not None, "as when this was made"
        cache = module.Cache(self.cache_type, 2 * blocks, cache_shapes(encoder.architecture))
        self._program = recorded_source(self.model, Tape(cache, self.weights, self.shapes))
        self._blocks = 2 * blocks  # only now: without memory for it, the next text asks again


def _groups(new: Sequence[Rows]) -> Iterator[list[Rows]]:
    """Texts to be read at once: PIECE tokens together, or a longer one alone."""
    group: list[Rows] = []
    for rows in new:
        if group and sum(len(other.source) for other in group) + len(rows.source) > PIECE:
            yield group
            group = []
        group.append(rows)
    if group:
        yield group
