"""What answers and what reads with a model: made when first asked for, of the weights as they then are."""

from __future__ import annotations

import os
import threading
from typing import Any
from weakref import WeakSet

from paddock.engine.engine import Engine
from paddock.engine.reading import Reader
from paddock.engine.runners import engine_for
from paddock.model.transformer import Transformer

_all: WeakSet[Working] = WeakSet()
_left: list[Any] = []  # of a parent: threads that a forked child lacks may have been inside


class Working:
    """A model's engine and reader.

    Programs hold the weights they were recorded with, and an engine the beginnings of texts that were read with them.
    So after weights were changed in place (`with torch.no_grad(): weight.mul_(2)`, load_state_dict) both are made anew
    for who asks next, and what is being written goes on with the old ones; changes behind PyTorch's back, through
    `.data` or NumPy, are not noticed. A forked child makes its own as well.
    """

    def __init__(self, model: Transformer) -> None:
        self._model = model
        self._parameters = [each for each in model.parameters() if not each.is_inference()]  # those count no changes
        self._changes = self._count()
        self._making = threading.Lock()
        self._engine: Engine | None = None
        self._reader: Reader | None = None
        _all.add(self)

    @property
    def engine(self) -> Engine:
        with self._making:
            self._look()
            if self._engine is None:
                self._engine = engine_for(self._model)
            return self._engine

    @property
    def reader(self) -> Reader:
        with self._making:
            self._look()
            if self._reader is None:
                self._reader = Reader(self._model)
            return self._reader

    def _count(self) -> int:
        return sum(each._version for each in self._parameters)

    def _look(self) -> None:
        changes = self._count()
        if changes != self._changes:
            self._engine = self._reader = None
            self._changes = changes

    def forked(self) -> None:
        """In the child: what a parent's thread was changing stays half changed, so nothing of it is even freed."""
        _left.append((self._engine, self._reader))
        self._making = threading.Lock()
        self._engine = self._reader = None


def _forked() -> None:
    for each in list(_all):
        each.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
