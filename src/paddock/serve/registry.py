"""The models of one server by name, each with its engine."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from paddock.engine.engine import Engine
from paddock.engine.language_model import LanguageModel
from paddock.errors import NotFoundError, UsageError, did_you_mean


@dataclass(frozen=True, eq=False)
class Served:
    """One name that requests may choose. `parent`: the name of the model that an adapter was put on."""

    name: str
    model: LanguageModel
    engine: Engine | None  # None for an encoder, which is only read with
    root: Path
    parent: str | None = None
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def context(self) -> int | None:
        """Tokens that prompt and answer may have together: the model's limit, and the cache's."""
        limits = [self.model.architecture.context]
        if self.engine is not None:
            limits.append(self.engine.capacity)
        known = [limit for limit in limits if limit is not None]
        return min(known) if known else None


class Registry:
    """Names to models. The first one loaded answers requests that name none."""

    def __init__(self) -> None:
        self._served: dict[str, Served] = {}
        self._changing = threading.Lock()

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(tuple(self._served.values()))

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

    def add(self, served: Served) -> None:
        with self._changing:
            if served.name in self._served:
                raise UsageError(f"there is a model {served.name!r} already", fix="unload it first, or choose a name")
            self._served[served.name] = served

    def remove(self, name: str) -> Served:
        """Takes a model and the adapters on it out of the list. Raises NotFoundError."""
        with self._changing:
            served = self.find(name)
            if riders := [other.name for other in self if other.parent == name]:
                raise UsageError(f"{name!r} carries {', '.join(riders)}", fix="unload those first")
            return self._served.pop(served.name)
