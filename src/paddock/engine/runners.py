"""Which runner computes a model, and the engine around it."""

from __future__ import annotations

from functools import partial
from typing import Any

from paddock.engine.blocks import BLOCK
from paddock.engine.carrying import Adapter, shared_ranks
from paddock.engine.engine import Engine
from paddock.engine.memory import cache_blocks, cache_place, source_blocks
from paddock.engine.native_runner import NativeRunner
from paddock.engine.reading import cache_dtype, runs_natively
from paddock.engine.runner import Runner
from paddock.engine.torch_runner import TorchRunner
from paddock.engine.working import Working
from paddock.model.transformer import Transformer

SEQUENCES = 64  # requests that run at once


def runner_for(
    model: Transformer,
    sequences: int = SEQUENCES,
    blocks: int | None = None,
    text: int | None = None,
    memory: int | None = None,
) -> Runner:
    """The fastest runner there is for this model on its device.

    blocks: the cache's capacity; by default as many as `sequences` texts of the full context (of `text` tokens, where
    that is less) need, within half of the memory that is free, or within `memory` bytes; an encoder-decoder's source
    texts are within that too.
    """
    native = runs_natively(model)
    item = (cache_dtype(model) if native else cache_place(model)[0]).itemsize
    if blocks is None:
        block_bytes = BLOCK * model.architecture.cache_values_per_token() * item
        blocks = cache_blocks(model, block_bytes, sequences, text, memory)
    sources = source_blocks(model, item, sequences, memory)
    return NativeRunner(model, blocks, sources=sources) if native else TorchRunner(model, blocks, sources=sources)


def engine_for(
    model: Transformer,
    *,
    blocks: int | None = None,
    sequences: int = SEQUENCES,
    text: int | None = None,
    memory: int | None = None,
    **options: Any,
) -> Engine:
    """An engine of its own for `model`; the cache is sized as `runner_for` says. `options` are those of Engine."""
    runner = runner_for(model, sequences, blocks, text, memory)
    options = {"share_written": isinstance(runner, NativeRunner), **options}
    return Engine(runner, model.architecture, sequences=sequences, **options)


class Home:
    """Where a model's requests are answered: in an engine of its own, made when it is first asked for, or in the one of
    `base`, the home of the model that it shares its weights with, where it adds no more than low ranks to that."""

    def __init__(self, model: Transformer, base: Home | None = None) -> None:
        self._model = model
        # Nothing here refers to itself: an unloaded model's memory is free at once, not when cycles are looked for.
        self._found: Working[tuple[Engine, Adapter | None]] = Working(model, partial(_place, model, base))

    def find(self) -> tuple[Engine, Adapter | None]:
        """The engine, and what a request is to run with in it."""
        return self._found.get()

    def joined(self, twin: Transformer) -> tuple[Engine, Adapter] | None:
        """The engine, with a place in it for `twin`; None where that needs an engine of its own."""
        if shared_ranks(self._model, twin) is None:  # then the model's engine need not be made for it
            return None
        engine, other = self.find()
        adapter = engine.adapters.put(self._model, twin) if other is None else None
        return None if adapter is None else (engine, adapter)


def _place(model: Transformer, base: Home | None) -> tuple[Engine, Adapter | None]:
    return (None if base is None else base.joined(model)) or (engine_for(model), None)
