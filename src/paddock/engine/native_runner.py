"""Steps of the engine on the native kernels: a recorded program over a native paged cache, one call per step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paddock.engine.memory import memory_for
from paddock.engine.reading import cache_dtype, packed_weights
from paddock.engine.runner import Carried, Rows
from paddock.kernels.native import library
from paddock.kernels.packed import Packed
from paddock.kernels.record import TYPES, Tape
from paddock.model.recording import cache_shapes, recorded
from paddock.model.several import Rank, Ranks, several
from paddock.model.transformer import Transformer


class NativeRunner:
    """Runs any mixture of rows in one native call. No row's bits depend on what stands beside it, or on how a prompt
    was cut.

    The cache has the type that the model's numbers were published in, float16 for quantised ones; its memory is taken
    when it is first written.
    """

    chunk: int | None = None

    def __init__(self, model: Transformer, blocks: int, cache_type: str | None = None) -> None:
        module = library()
        assert module is not None, "the native kernels are there where `runs` says so"
        self.blocks = blocks
        self.vocabulary = model.architecture.vocabulary
        self.cache_type = cache_type or TYPES[cache_dtype(model)]
        self.cache = module.Cache(self.cache_type, blocks, cache_shapes(model.architecture))
        self.block_bytes = -(-self.cache.nbytes // blocks)
        self.program = recorded(model, Tape(self.cache, packed_weights(model)))
        self._model = model  # tables of embeddings are read where they lie
        self._mixed: Any = None  # the program of steps in which some rows have adapters

    @memory_for("for this step")
    def run(self, batch: Sequence[Rows]) -> Tensor:
        if len(batch) == 1 and len(batch[0].ids) == 1:
            return self._decode(batch[0])
        ids: list[int] = []
        positions: list[int] = []
        adapters: list[int] = []
        wanted: list[range] = [range(0)] * len(batch)
        spans = np.empty((len(batch), 4), np.int64)
        tables = np.zeros((len(batch), max(len(rows.table) for rows in batch)), np.int32)
        # Rows of one adapter stand together: its numbers are read once. What is wanted keeps the batch's order.
        for number, place in enumerate(sorted(range(len(batch)), key=lambda place: batch[place].adapter)):
            rows = batch[place]
            count = len(rows.ids)
            spans[number] = len(ids), count, rows.start, 0
            tables[number, : len(rows.table)] = rows.table
            ids += rows.ids
            positions += range(rows.start, rows.start + count)
            adapters += [rows.adapter] * count
            wanted[place] = range(len(ids) - rows.logits, len(ids))
        places = np.array(positions, np.int32)
        return self._run(np.array(ids, np.int32), places, spans, tables, [*chain(*wanted)], adapters)

    def forget(self, key: int) -> None:
        """Nothing is kept outside of the blocks."""

    @memory_for("for this adapter")
    def carry(self, adapters: Mapping[int, Carried]) -> None:
        if not adapters:
            self._mixed = None
            return
        ranks = {number: _packed(carried) for number, carried in adapters.items()}
        twin, _ = several(self._model, ranks)
        self._mixed = recorded(twin, Tape(self.cache, packed_weights(self._model)))

    def _decode(self, rows: Rows) -> Tensor:
        spans = np.array([(0, 1, rows.start, 0)], np.int64)
        tables = np.array([rows.table], np.int32)
        ids, places = np.array(rows.ids, np.int32), np.array([rows.start], np.int32)
        return self._run(ids, places, spans, tables, [0] * rows.logits, [rows.adapter])

    def _run(
        self,
        ids: np.ndarray,
        positions: np.ndarray,
        spans: np.ndarray,
        tables: np.ndarray,
        wanted: Sequence[int],
        adapters: Sequence[int],
    ) -> Tensor:
        out = np.empty((len(wanted), self.vocabulary), np.float32)
        rows = np.array(wanted, np.int32)
        if any(adapters):
            self._mixed.run(ids, positions, spans, tables, rows, out, np.array(adapters, np.int32))
        else:
            self.program.run(ids, positions, spans, tables, rows, out)
        return torch.from_numpy(out)


def _packed(carried: Carried) -> Ranks:
    """The adapter's matrices in the kernels' layout: packed once, and kept with its model."""
    tape = Tape(None, packed_weights(carried.twin))

    def packed(matrix: Tensor | Packed) -> Packed:
        return matrix if isinstance(matrix, Packed) else tape.packed(matrix)

    return {path: Rank(packed(a), packed(b), scale) for path, (a, b, scale) in carried.ranks.items()}
