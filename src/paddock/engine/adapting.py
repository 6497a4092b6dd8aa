"""A model with an adapter on it: the same weights, shared, and the adapter's beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from paddock.checkpoint import adapter_kinds, class_heads
from paddock.checkpoint.checkpoint import Checkpoint
from paddock.engine.memory import memory_for
from paddock.engine.reading import share_packed
from paddock.errors import UsageError
from paddock.model.transformer import Transformer


@memory_for("for this adapter")
def with_adapter(model: Transformer, path: str | Path, config: Mapping[str, Any]) -> Transformer:
    """A Transformer like `model`, whose configuration is `config`, with the adapter in the folder `path`."""
    if adapter_kinds.carries(model):
        raise UsageError("this model carries an adapter already", fix="put the second one on the plain model")
    twin = adapter_kinds.put(model, path, config)
    share_packed(model, twin)
    return twin


def as_adapted(checkpoint: Checkpoint, twin: Transformer, path: str | Path) -> Checkpoint:
    """The base's checkpoint, saying what `twin` is: an adapter may bring a head over classes."""
    told = class_heads.read(Path(path).expanduser())
    return replace(checkpoint, config={**checkpoint.config, **told}, architecture=twin.architecture)


def check_plain(model: Transformer, done: str) -> None:
    """Raises UsageError for a model with an adapter, which cannot be `done` to as if it were one."""
    if adapter_kinds.carries(model):
        raise UsageError(f"a model that carries an adapter cannot be {done} as a whole", fix="use the plain model")
