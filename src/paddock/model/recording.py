"""The Transformer's forward as a native program: what a `Step` is while it is being recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from paddock.kernels.record import NotRecordable, Recorded, Rehearsal, Remembered, Sight, Tape, Zeros
from paddock.model.position import frequencies, slopes
from paddock.model.spec import (
    Alibi,
    Architecture,
    Attention,
    Buckets,
    DynamicScaling,
    Full,
    Mask,
    Prefix,
    Rope,
    Rope2D,
    YarnScaling,
)
from paddock.model.transformer import Transformer
from paddock.model.visibility import Visibility


class RecordingCache:
    """Has the interface of a `Cache`; keys and values lie in the program's own."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape

    def put(self, layer: int, k: Recorded, v: Recorded) -> tuple[Remembered, Remembered]:
        return self.tape.remember(layer, k, v)

    def advance(self, tokens: int) -> None:
        """Slots are counted by whoever runs the program."""


class RecordingStep:
    """Has the interface of a `Step`. Its memo is filled beforehand with what the executor computes by itself: angles
    of rotary positions, and who sees whom."""

    tokens, noise, dropout, recompute, token_gradient = 0, 0.0, 0.0, False, 1.0
    routing, ahead = None, None

    def __init__(self, tape: Tape, architecture: Architecture) -> None:
        self.positions = tape.positions
        self.segments = Zeros(tape)
        self.cache = RecordingCache(tape)
        self.memo: dict[Any, Any] = {}
        for part in {layer.attention for layer in architecture.layers}:
            if part.position is not None and part.position not in self.memo:
                self.memo[part.position] = _angles(tape, part.position)
            self.memo[part, Recorded.dtype] = Visibility(_sight(architecture.mask, part), causal=False)  # type: ignore[arg-type]


def _angles(tape: Tape, position: Any) -> Any:
    if isinstance(position, Rope2D | Buckets):
        raise NotRecordable(f"positions of the kind {type(position).__name__}")
    if not isinstance(position, Rope):
        return None
    if isinstance(position.scaling, DynamicScaling):
        raise NotRecordable("frequencies that depend on a text's length")
    gain = position.scaling.attention if isinstance(position.scaling, YarnScaling) else 1.0
    angles = tape.angles(frequencies(position, 0, torch.device("cpu")), gain)
    return angles, angles


def _sight(mask: Mask, part: Attention) -> Sight:
    if isinstance(mask, Prefix):
        raise NotRecordable("a prefix mask")
    penalty = None
    if isinstance(part.position, Alibi):
        if part.position.rounded:
            raise NotRecordable("distance penalties rounded to bfloat16")
        penalty = np.array(slopes(part.position, part.heads), dtype=np.float32)
        if part.position.before_scale:
            penalty *= np.float32(part.multiplier)
    return Sight(part.heads, not isinstance(mask, Full), part.window or 0, penalty)


def recorded(model: Transformer, tape: Tape, head: bool = True) -> Any:
    """The model's forward as a native program, recorded on `tape`.

    It gives the logits of the wanted rows, or without `head` the hidden state of every row. Raises NotRecordable for a
    model that the native operations do not cover.
    """
    architecture = model.architecture
    if architecture.encoder is not None or any(layer.cross is not None for layer in architecture.layers):
        raise NotRecordable("an encoder and a decoder")
    step: Any = RecordingStep(tape, architecture)
    ids: Any = tape.ids
    with torch.no_grad():
        hidden: Any = model.hidden(ids, step)
        result: Any = model.logits(tape.select(hidden)) if head else hidden  # type: ignore[arg-type]
    return tape.finish(result)


def recordable(model: Transformer) -> bool:
    """Whether the native operations cover all that this model does."""
    try:
        recorded(model, Rehearsal(), head=model.head is not None)
    except NotRecordable:
        return False
    return True


def cache_shapes(architecture: Architecture) -> list[tuple[int, int]]:
    """Key-value heads and their width, layer by layer: what a native cache is made of."""
    return [(layer.attention.kv_heads, layer.attention.head_dim) for layer in architecture.layers]
