"""The Transformer's forward as a native program: what a `Step` is while it is being recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paddock.kernels.record import NotRecordable, Recorded, Rehearsal, Remembered, Sight, Tape, Zeros, vector
from paddock.model.position import bucket_of, frequencies, slopes, wave_frequencies
from paddock.model.spec import (
    Alibi,
    Architecture,
    Attention,
    Buckets,
    DynamicScaling,
    Full,
    Mask,
    Rope,
    Rope2D,
    Sinusoidal,
    YarnScaling,
)
from paddock.model.transformer import Transformer
from paddock.model.visibility import Visibility

FARTHEST = 2**14  # distances that have a value of their own; published models end at 128


class RecordingCache:
    """Has the interface of a `Cache`; keys and values lie in the program's own, or in its sources."""

    def __init__(self, tape: Tape, cross: RecordingSources) -> None:
        self.tape, self.cross = tape, cross

    def put(self, layer: int, k: Recorded, v: Recorded) -> tuple[Remembered, Remembered]:
        return self.tape.remember(layer, k, v)

    def advance(self, tokens: int) -> None:
        """Slots are counted by whoever runs the program."""


class RecordingSources:
    """Has the interface of a cache's `cross`: a decoder finds each layer there, and a source's program fills it."""

    def __init__(self, tape: Tape, architecture: Architecture, filled: bool) -> None:
        crossing = [index for index, layer in enumerate(architecture.layers) if layer.cross is not None]
        self.tape, self.places, self.filled = tape, {layer: place for place, layer in enumerate(crossing)}, filled

    def __contains__(self, layer: int) -> bool:
        return self.filled

    def __getitem__(self, layer: int) -> tuple[Remembered, Remembered]:
        return Remembered(self.places[layer], crossed=True), Remembered(self.places[layer], crossed=True)

    def __setitem__(self, layer: int, pair: tuple[Recorded, Recorded]) -> None:
        self.tape.remember(self.places[layer], *pair, crossed=True)


@dataclass
class Crossing:
    """Of a `Step`, what cross-attention makes a source's keys and values from."""

    memory: Recorded
    cache: RecordingCache


@dataclass
class RecordingStep:
    """Has the interface of a `Step`. Its memo is filled beforehand with what the executor computes by itself: angles
    of rotary positions, waves of fixed ones, and who sees whom."""

    tape: Tape
    architecture: Architecture
    relative_bias: Tensor | None = None  # put here by the stack itself, as of `Step`

    tokens, noise, dropout, recompute, token_gradient = 0, 0.0, 0.0, False, 1.0
    routing, ahead, memory, memory_padding = None, None, None, None

    def __post_init__(self) -> None:
        tape, architecture = self.tape, self.architecture
        self.positions, self.segments = tape.positions, Zeros(tape)
        self.cache = RecordingCache(tape, RecordingSources(tape, architecture, filled=True))
        self.memo: dict[Any, Any] = {}
        if len({layer.attention.position for layer in architecture.layers if _dynamic(layer.attention)}) > 1:
            raise NotRecordable("several ways in which frequencies depend on a text's length")
        for part in {layer.attention for layer in architecture.layers}:
            if part.position is not None and part.position not in self.memo:
                self.memo[part.position] = _angles(tape, part.position)
            sight: Any = _sight(architecture.mask, part, self.relative_bias)
            self.memo[part, Recorded.dtype] = Visibility(sight, causal=False)
        wave = architecture.embedding.positions
        if isinstance(wave, Sinusoidal):
            rates = wave_frequencies(wave, architecture.width, torch.device("cpu"))
            self.memo[wave] = tape.waves(rates, wave.start, wave.interleaved)


def _angles(tape: Tape, position: Any) -> Any:
    place = torch.device("cpu")
    if isinstance(position, Rope2D):
        rates, narrow = frequencies(Rope(position.theta, position.width), 0, place), position.half_tables
        rates = rates.half() if narrow else rates
        first, second = (tape.angles(rates, stream=stream, narrow=narrow) for stream in (0, 1))
        return first, first, second, second
    if not isinstance(position, Rope):
        return None
    gain = position.scaling.attention if isinstance(position.scaling, YarnScaling) else 1.0
    angles = tape.angles(frequencies(position, 0, place), gain, own=isinstance(position.scaling, DynamicScaling))
    return angles, angles


def _sight(mask: Mask, part: Attention, relative_bias: Tensor | None) -> Sight:
    causal, window = not isinstance(mask, Full), part.window or 0
    if isinstance(part.position, Alibi):
        penalty, factor = slopes(part.position, part.heads), part.multiplier if part.position.before_scale else 1.0
        if part.position.rounded:
            return Sight(causal, window, vector(torch.tensor(penalty).bfloat16()), rounded=True, factor=factor)
        return Sight(causal, window, np.array(penalty, dtype=np.float32) * np.float32(factor))
    near = _near(part.position, relative_bias) if isinstance(part.position, Buckets) else None
    return Sight(causal, window, near=near)


def _near(buckets: Buckets, relative_bias: Tensor | None) -> np.ndarray | None:
    """(heads, distances) what a stack has learned of each distance; None before it says so."""
    if buckets.max_distance > FARTHEST:
        raise NotRecordable(f"distances up to {buckets.max_distance}")
    if relative_bias is None:
        return None
    distances = torch.arange(-buckets.max_distance, buckets.max_distance + 1)
    return vector(relative_bias.detach()[bucket_of(buckets, distances)].T)


def recorded(model: Transformer, tape: Tape, head: bool = True) -> Any:
    """The model's forward as a native program, recorded on `tape`; an encoder-decoder's is its decoder's.

    It gives the logits of the wanted rows, or without `head` the hidden state of every row. Raises NotRecordable for a
    model that the native operations do not cover.
    """
    step: Any = RecordingStep(tape, model.architecture)
    ids: Any = tape.ids
    with torch.no_grad():
        hidden: Any = model.hidden(ids, step)
        result: Any = model.logits(tape.select(hidden)) if head else hidden  # type: ignore[arg-type]
    return tape.finish(result)


def recorded_source(model: Transformer, tape: Tape) -> Any:
    """An encoder-decoder's encoder as a native program: it fills a text's source with the keys and values that the
    decoder's cross-attention reads, and gives the memory they are made of. Raises NotRecordable."""
    encoder, ids = model.encoder, tape.ids
    assert encoder is not None, f"{model.architecture.family} has no encoder"
    step: Any = RecordingStep(tape, encoder.architecture)
    with torch.no_grad():
        memory: Any = encoder.hidden(ids, step)  # type: ignore[arg-type]
        cross = RecordingSources(tape, model.architecture, filled=False)
        crossing: Any = Crossing(memory, RecordingCache(tape, cross))
        blocks: Any = model.blocks
        for block in blocks:
            if block.part.cross is not None:
                block.cross.keys_and_values(crossing)
    return tape.finish(memory)


def recordable(model: Transformer) -> bool:
    """Whether the native operations cover all that this model does."""
    try:
        recorded(model, Rehearsal(), head=model.head is not None)
        if model.encoder is not None:
            recorded_source(model, Rehearsal())
    except NotRecordable:
        return False
    return True


def _dynamic(part: Attention) -> bool:
    return isinstance(part.position, Rope) and isinstance(part.position.scaling, DynamicScaling)


def own_rope(architecture: Architecture) -> Rope | None:
    """The rotary positions whose frequencies depend on how long a text may become: a run gives each sequence's."""
    found: list[Any] = [layer.attention.position for layer in architecture.layers if _dynamic(layer.attention)]
    return found[0] if found else None


def cache_shapes(architecture: Architecture) -> list[tuple[int, int]]:
    """Key-value heads and their width, layer by layer: what a native cache is made of."""
    return [(layer.attention.kv_heads, layer.attention.head_dim) for layer in architecture.layers]


def source_shapes(architecture: Architecture) -> list[tuple[int, int]]:
    """The same of the layers that cross: what a source is made of."""
    return [(layer.cross.kv_heads, layer.cross.head_dim) for layer in architecture.layers if layer.cross is not None]
