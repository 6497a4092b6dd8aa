"""What is made of a model's weights as they are, and made anew when they have changed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from paddock.model.transformer import Transformer

Made = TypeVar("Made")

_all: WeakSet[Working[Any]] = WeakSet()
_left: list[Any] = []  # of a parent: threads that a forked child lacks may have been inside


class Working(Generic[Made]):
    """What `make` makes of `model`, an engine or a reader: when first asked for, and again once weights have changed.

    Programs hold the weights they were recorded with, and an engine the beginnings of texts that were read with them.
    So after weights were changed in place (`with torch.no_grad(): weight.mul_(2)`, load_state_dict) who asks next gets
    a new one, and what is being written goes on with the old; changes behind PyTorch's back, through `.data` or NumPy,
    are not noticed. A forked child makes its own as well.
    """

    def __init__(self, model: Transformer, make: Callable[[], Made]) -> None:
        self._make = make
        self._parameters = [each for each in model.parameters() if not each.is_inference()]  # those count no changes
        self._changes = self._count()
        self._making = threading.Lock()
        self._made: Made | None = None
        _all.add(self)

    def get(self) -> Made:
        with self._making:
            changes = self._count()
            if self._made is None or changes != self._changes:
                self._made = None  # its memory is free for the next
                self._made = self._make()
                self._changes = changes
            return self._made

    def _count(self) -> int:
        return sum(each._version for each in self._parameters)

    def forked(self) -> None:
        """In the child: what a parent's thread was changing stays half changed, so nothing of it is even freed."""
        _left.append(self._made)
        self._making = threading.Lock()
        self._made = None


def _forked() -> None:
    for each in list(_all):
        each.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
