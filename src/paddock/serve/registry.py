"""The models of one server by name, each with its engine."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from paddock.engine.carrying import Adapter
from paddock.engine.engine import Engine
from paddock.engine.language_model import LanguageModel
from paddock.errors import NotFoundError, UsageError, did_you_mean


@dataclass(frozen=True, eq=False)
class Served:
    """One name that requests may choose. `parent`: the name of the model that an adapter was put on. `adapter`: what it
    is in that model's engine, None where `engine` is its own."""

    name: str
    model: LanguageModel
    engine: Engine | None  # None for an encoder, which is only read with
    root: Path
    parent: str | None = None
    adapter: Adapter | None = None
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def context(self) -> int | None:
        """Tokens that prompt and answer may have together: the model's limit, the operator's, and the cache's."""
        limits = [self.model.planner.context]
        if self.engine is not None:
            limits.append(self.engine.capacity)
        known = [limit for limit in limits if limit is not None]
        return min(known) if known else None


class Registry:
    """Names to models. The first one loaded answers requests that name none.

    Changed by several threads, read by all without a lock: every change puts a new dictionary into the old one's place.
    """

    def __init__(self) -> None:
        self._served: dict[str, Served] = {}
        self._coming: set[str] = set()
        self._changing = threading.Lock()

    def __iter__(self) -> Iterator[Served]:
        return iter(self._served.values())

    def __len__(self) -> int:
        return len(self._served)

    def find(self, name: str | None) -> Served:
        """Raises NotFoundError."""
        served = self._served
        if name is None or name == "":
            if not served:
                raise NotFoundError("no model is loaded", fix="load one")
            return next(iter(served.values()))
        if name not in served:
            known = ", ".join(served) or "none"
            raise NotFoundError(
                f"there is no model {name[:80]!r} here; there are: {known}", fix=did_you_mean(name[:80], served)
            )
        return served[name]

    @contextlib.contextmanager
    def coming(self, name: str, parent: str | None = None) -> Iterator[None]:
        """Keeps a name free while what it will mean is loaded. Raises UsageError for one that is taken.

        parent: the name of the model that an adapter goes on, which cannot be removed meanwhile.
        """
        with self._changing:
            self._check_free(name)
            if parent is not None:
                self.find(parent)
            mark = f"{name}\0{parent or ''}"
            self._coming |= {name, mark}
        try:
            yield
        finally:
            with self._changing:
                self._coming -= {name, mark}

    def add(self, served: Served) -> None:
        """Raises UsageError for a name that is taken."""
        with self._changing:
            if served.name in self._served:
                raise _taken(served.name)
            self._served = {**self._served, served.name: served}

    def renew(self, served: Served, engine: Engine | None, adapter: Adapter | None = None) -> None:
        """The same model with another engine, unless it was removed meanwhile."""
        with self._changing:
            now = self._served.get(served.name)
            if now is not None and now.model is served.model:
                self._served = {**self._served, served.name: replace(served, engine=engine, adapter=adapter)}

    def remove(self, name: str) -> Served:
        """Takes a model out of the list. Raises NotFoundError, and UsageError while adapters are on it."""
        with self._changing:
            served = self.find(name)
            riders = [other.name for other in self if other.parent == name]
            riders += [mark.split("\0")[0] for mark in self._coming if mark.endswith(f"\0{name}")]
            if riders:
                raise UsageError(f"{name!r} carries {', '.join(riders)}", fix="unload those first")
            self._served = {other.name: other for other in self if other is not served}
            return served

    def _check_free(self, name: str) -> None:
        if name in self._served or name in self._coming:
            raise _taken(name)


def _taken(name: str) -> UsageError:
    return UsageError(f"there is a model {name!r} already", fix="unload it first, or choose another name")
