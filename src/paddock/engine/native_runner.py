"""Steps of the engine on the native kernels: a recorded program over a native paged cache, one call per step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paddock.engine.coordinates import Coordinates
from paddock.engine.memory import memory_for, source_blocks
from paddock.engine.reading import cache_dtype, packed_weights
from paddock.engine.runner import Carried, Rows
from paddock.engine.sources import Sources
from paddock.kernels.native import library
from paddock.kernels.packed import Packed
from paddock.kernels.record import TYPES, Tape
from paddock.model.recording import cache_shapes, recorded, source_shapes
from paddock.model.several import Rank, Ranks, several
from paddock.model.transformer import Transformer


class NativeRunner:
    """Runs any mixture of rows in one native call. No row's bits depend on what stands beside it, or on how a prompt
    was cut.

    The cache has the type that the model's numbers were published in, float16 for quantised ones; its memory is taken
    when it is first written. sources: blocks of source texts, and bytes of each (engine/memory.py).
    """

    chunk: int | None = None

    def __init__(
        self,
        model: Transformer,
        blocks: int,
        cache_type: str | None = None,
        sources: tuple[int, int] | None = None,
    ) -> None:
        module = library()
        assert module is not None, "the native kernels are there where `runs` says so"
        self.blocks = blocks
        self.vocabulary = model.architecture.vocabulary
        self.cache_type = cache_type or TYPES[cache_dtype(model)]
        self.cache = module.Cache(self.cache_type, blocks, cache_shapes(model.architecture))
        self.block_bytes = -(-self.cache.nbytes // blocks)
        if sources is None:
            sources = source_blocks(model, cache_dtype(model).itemsize, 1)
        self.source_blocks, self.source_block_bytes = sources
        weights = packed_weights(model)
        self.program = recorded(model, Tape(self.cache, weights, source_shapes(model.architecture)))
        self.coordinates = Coordinates(model.architecture)
        self.sources = None if model.encoder is None else Sources(model, self.cache_type, weights)
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
        order = sorted(range(len(batch)), key=lambda place: batch[place].adapter)
        for number, place in enumerate(order):
            rows = batch[place]
            places, prefix = self.coordinates.of(rows)
            spans[number] = len(ids), len(rows.ids), rows.start, prefix
            tables[number, : len(rows.table)] = rows.table
            ids += rows.ids
            positions += places
            adapters += [rows.adapter] * len(rows.ids)
            wanted[place] = range(len(ids) - rows.logits, len(ids))
        return self._run([batch[place] for place in order], ids, positions, spans, tables, [*chain(*wanted)], adapters)

    def forget(self, key: int) -> None:
        self.coordinates.forget(key)
        if self.sources is not None:
            self.sources.forget(key)

    @memory_for("for this adapter")
    def carry(self, adapters: Mapping[int, Carried]) -> None:
        if not adapters:
            self._mixed = None
            return
        ranks = {number: _packed(carried) for number, carried in adapters.items()}
        twin, _ = several(self._model, ranks)
        self._mixed = recorded(twin, Tape(self.cache, packed_weights(self._model)))

    def _decode(self, rows: Rows) -> Tensor:
        places, prefix = self.coordinates.of(rows)
        spans = np.array([(0, 1, rows.start, prefix)], np.int64)
        tables = np.array([rows.table], np.int32)
        return self._run([rows], rows.ids, places, spans, tables, [0] * rows.logits, [rows.adapter])

    def _run(
        self,
        batch: Sequence[Rows],
        ids: Sequence[int],
        positions: Sequence[int],
        spans: np.ndarray,
        tables: np.ndarray,
        wanted: Sequence[int],
        adapters: Sequence[int],
    ) -> Tensor:
        """batch: in the order of spans. wanted: rows whose logits are given, in that order."""
        out = np.empty((len(wanted), self.vocabulary), np.float32)
        sources = () if self.sources is None else self.sources.of(batch)
        numbers = (np.array(ids, np.int32), np.array(positions, np.int32), spans, tables, np.array(wanted, np.int32))
        rates = self.coordinates.rates(batch)
        if any(adapters):
            self._mixed.run(*numbers, out, sources, rates, np.array(adapters, np.int32))
        else:
            self.program.run(*numbers, out, sources, rates)
        return torch.from_numpy(out)


def _packed(carried: Carried) -> Ranks:
    """The adapter's matrices in the kernels' layout: packed once, and kept with its model."""
    tape = Tape(None, packed_weights(carried.twin))

    def packed(matrix: Tensor | Packed) -> Packed:
        return matrix if isinstance(matrix, Packed) else tape.packed(matrix)

    return {path: Rank(packed(a), packed(b), scale) for path, (a, b, scale) in carried.ranks.items()}
