"""How a token is to be chosen: a frozen, bounded value. What it means is in `sampler.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from paddock.errors import UsageError

MAX_BIASES = 1024


@dataclass(frozen=True)
class Bound:
    """What a number may be. `off` is a value outside the range that switches the feature off."""

    low: float
    high: float
    whole: bool = False
    above: bool = False  # `low` itself is excluded
    off: float | None = None

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        low, high = (f"{end:,}" if self.whole else f"{end:g}" for end in (self.low, self.high))
        text = f"{kind} {'above' if self.above else 'from'} {low} to {high}"
        return text if self.off is None else f"{self.off:g} (off), or {text}"

    def holds(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if self.whole and not isinstance(value, int):
            return False
        if isinstance(value, float) and not math.isfinite(value):
            return False
        inside = self.low < value <= self.high if self.above else self.low <= value <= self.high
        return inside or value == self.off


BOUNDS: dict[str, Bound] = {
    "temperature": Bound(1e-4, 100.0, off=0),
    "top_k": Bound(0, 2**31, whole=True),
    "top_p": Bound(0.0, 1.0, above=True),
    "min_p": Bound(0.0, 1.0),
    "typical_p": Bound(0.0, 1.0, above=True),
    "repetition_penalty": Bound(0.01, 100.0),
    "presence_penalty": Bound(-2.0, 2.0),
    "frequency_penalty": Bound(-2.0, 2.0),
    "seed": Bound(0, 2**64 - 1, whole=True),
}
BIAS = Bound(-100.0, 100.0)


@dataclass(frozen=True)
class Sampling:
    """What is asked of the sampler. Every default is neutral: the model's own distribution.

    temperature: what logits are divided by; 0 takes the likeliest token (greedy). top_k: 0 is off. top_p, typical_p: 1
    is off. min_p: 0 is off. repetition_penalty: 1 is off. logit_bias: token id to what is added to its logit.
    seed: None draws a fresh one for each request. Raises UsageError for any value that cannot be meant.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, bound in BOUNDS.items():
            value = getattr(self, name)
            if not bound.holds(value) and not (name == "seed" and value is None):
                raise UsageError(f"{name} is {shown(value)}", expected=str(bound))
        _check_biases(self.logit_bias)

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    @property
    def penalises(self) -> bool:
        """Whether what was written so far changes what comes next."""
        return self.repetition_penalty != 1.0 or self.presence_penalty != 0.0 or self.frequency_penalty != 0.0


def shown(value: Any) -> str:
    """A user's value for a message: short, and of a number with its type made plain by its form."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _check_biases(biases: Any) -> None:
    if not isinstance(biases, Mapping):
        raise UsageError(f"logit_bias is {shown(biases)}", expected="a mapping of token ids to numbers")
    if len(biases) > MAX_BIASES:
        raise UsageError(f"logit_bias names {len(biases)} tokens", expected=f"at most {MAX_BIASES}")
    for token, bias in biases.items():
        if isinstance(token, bool) or not isinstance(token, int) or token < 0:
            raise UsageError(f"logit_bias names {shown(token)}", expected="token ids, whole numbers from 0")
        if not BIAS.holds(bias):
            raise UsageError(f"logit_bias of token {token} is {shown(bias)}", expected=str(BIAS))
