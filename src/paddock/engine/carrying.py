"""Adapters that share an engine with their base: its cache, its steps, and the product with the base's weights.

An adapter is there as long as somebody holds its `Adapter`: whoever loaded it, and every request that runs with it. So
it can be let go at any time, and its numbers go when the last of its requests has ended.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import deque

from paddock.engine.memory import SHARE, free_memory, memory_for
from paddock.engine.runner import Carried, Runner
from paddock.errors import ResourceError
from paddock.model.several import Ranks, ranks_of
from paddock.model.transformer import Transformer

MOST = 256  # adapters of one engine: each is looked for at every matrix of a step
_numbers = itertools.count(1)  # never given twice: what a cache still knows under one is nobody else's


class Adapter:
    """A place in an engine, free once nobody holds this. number: by which its rows are known. nbytes: what its numbers
    take. closed: no request may begin with it any more."""

    def __init__(self, number: int, nbytes: int) -> None:
        self.number, self.nbytes, self.closed = number, nbytes, False


def shared_ranks(model: Transformer, twin: Transformer) -> Ranks | None:
    """What `twin` adds to its own rows in an engine of `model`; None where it does more than add low ranks, and for an
    encoder-decoder, whose sources are read before there are rows."""
    return None if twin.encoder is not None else ranks_of(model, twin)


class Adapters:
    """The adapters of one engine, whose `runner` computes them."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._carried: dict[int, Carried] = {}
        self._free: deque[int] = deque()  # numbers that nobody holds any more; filled by finalisers, which take no lock
        self._changing = threading.Lock()

    def __len__(self) -> int:
        return len(self._carried)

    @property
    def nbytes(self) -> int:
        """What their numbers take."""
        return sum(carried.nbytes for carried in tuple(self._carried.values()))

    def __contains__(self, adapter: Adapter) -> bool:
        return adapter.number in self._carried

    def put(self, model: Transformer, twin: Transformer) -> Adapter | None:
        """`twin`, an adapted `model`, as rows of the engine's; None where it needs an engine of its own.

        Raises ResourceError where there are MOST of them, or its numbers take more than half of the memory left.
        """
        ranks = shared_ranks(model, twin)
        if ranks is None:
            return None
        self.sweep()
        carried = Carried(twin, ranks, _size(ranks))
        room = int(free_memory(model.embedding.tokens.weight.device) * SHARE)
        if carried.nbytes > room:
            raise ResourceError(
                f"this adapter takes {carried.nbytes / 1e6:.0f} MB beside {self.nbytes / 1e6:.0f} MB of others",
                expected=f"at most {room / 1e6:.0f} MB, half of the memory that is free",
                fix="unload another",
            )
        with self._changing:
            if len(self._carried) >= MOST:
                raise ResourceError(f"this model carries {MOST} adapters already", fix="unload one first")
            adapter = Adapter(next(_numbers), carried.nbytes)
            with memory_for("for this adapter"):
                self._change({**self._carried, adapter.number: carried})
        weakref.finalize(adapter, self._free.append, adapter.number).atexit = False
        return adapter

    def sweep(self) -> None:
        """Lets go of adapters that nobody holds."""
        if not self._free:
            return
        with self._changing:
            gone = set()
            while self._free:
                gone.add(self._free.popleft())
            self._change({number: carried for number, carried in self._carried.items() if number not in gone})

    def _change(self, carried: dict[int, Carried]) -> None:
        self._runner.carry(carried)
        self._carried = carried


def _size(ranks: Ranks) -> int:
    """Bytes; a matrix that several share counts once."""
    parts = {id(part): part.nbytes for rank in ranks.values() for part in (rank.a, rank.b)}
    return sum(parts.values())
