"""Traces of sampling as plain rows, for `--explain` and whoever else wants to see why a token was chosen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from paddock.engine.sampler import Trace
from paddock.tokenizer import Tokenizer


@dataclass(frozen=True)
class Option:
    """A candidate at one stage; `piece` is the vocabulary's own spelling."""

    token: int
    piece: str
    probability: float


@dataclass(frozen=True)
class StageRow:
    """What one stage left. `removed`: candidates it dropped. `top`: the likeliest left, probabilities renormalised."""

    name: str
    survivors: int
    removed: int
    top: tuple[Option, ...]


@dataclass(frozen=True)
class StepRow:
    """One token in full: every stage, then the draw.

    draw: the uniform number, None for greedy. The chosen token is the one whose `interval` of cumulated probability
    (likeliest first) holds it. raw_probability: the chosen token's before anything was changed.
    """

    step: int
    stages: tuple[StageRow, ...]
    draw: float | None
    interval: tuple[float, float]
    chosen: Option
    raw_probability: float


def explain(traces: Iterable[Trace], tokenizer: Tokenizer | None = None, top: int = 5) -> list[StepRow]:
    """A row per traced step, with at most `top` candidates a stage. Without a tokenizer pieces are empty."""
    return [_step(number, trace, tokenizer, top) for number, trace in enumerate(traces, 1)]


def _step(number: int, trace: Trace, tokenizer: Tokenizer | None, top: int) -> StepRow:
    rows = []
    before = trace.stages[0].survivors
    for stage in trace.stages:
        options = tuple(_option(token, probability, tokenizer) for token, probability in stage.top[:top])
        rows.append(StageRow(stage.name, stage.survivors, before - stage.survivors, options))
        before = stage.survivors
    interval = (trace.below, trace.below + trace.probability)
    chosen = _option(trace.token, trace.probability, tokenizer)
    return StepRow(number, tuple(rows), trace.draw, interval, chosen, trace.raw)


def _option(token: int, probability: float, tokenizer: Tokenizer | None) -> Option:
    return Option(token, tokenizer.piece(token) if tokenizer is not None else "", probability)
