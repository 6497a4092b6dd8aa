"""How rotary frequencies are scaled for texts longer than those a model was trained on: parts of `spec.Rope`.

Frozen values, no tensors; `position.frequencies` computes what they say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from paddock.errors import UnsupportedError


def require(right: bool, what: str, expected: str) -> None:
    """Parts refuse sizes that no model can have: a description read from a file must not fail later, in arithmetic."""
    if not right:
        raise UnsupportedError(what, expected=expected)


@dataclass(frozen=True)
class LinearScaling:
    """Position interpolation: every frequency divided by `factor` (Giraffe, Vicuna-16k)."""

    factor: float


@dataclass(frozen=True)
class DynamicScaling:
    """NTK-aware: the base grows with the planned length once that exceeds `original` positions."""

    factor: float
    original: int


@dataclass(frozen=True)
class YarnScaling:
    """YaRN (arXiv 2309.00071): interpolate slow frequencies, keep fast ones, and sharpen attention by `attention`."""

    factor: float
    original: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention: float = 1.0
    truncate: bool = True

    def __post_init__(self) -> None:
        require(min(self.beta_fast, self.beta_slow) > 0, "YaRN's beta_fast or beta_slow is 0", "a number of turns")


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3.1: slow frequencies divided by `factor`, fast ones kept, a linear blend between."""

    factor: float
    low: float
    high: float
    original: int


@dataclass(frozen=True)
class FactorScaling:
    """One published divisor per frequency: how GGUF files record Llama 3's scaling."""

    factors: tuple[float, ...]


@dataclass(frozen=True)
class PowerScaling:
    """Giraffe's power basis (arXiv 2308.10882): frequency i of n is multiplied by (1 - i/n)^exponent.

    The fast frequencies hardly change, the slow ones are stretched most.
    """

    exponent: float

    def __post_init__(self) -> None:
        right = math.isfinite(self.exponent) and self.exponent > 0
        require(right, f"a power basis of exponent {self.exponent}", "a number above 0")


@dataclass(frozen=True)
class TruncatedScaling:
    """Giraffe's truncated basis (arXiv 2308.10882): only frequencies that turn fully within `cutoff` positions stay.

    With t = 2π / cutoff: frequencies from t on are kept, those from t/8 to t all become 2π / (16 cutoff), and slower
    ones 0, so that their features see no position (which is meant).
    """

    cutoff: float

    def __post_init__(self) -> None:
        right = math.isfinite(self.cutoff) and self.cutoff >= 1
        require(right, f"a basis truncated at {self.cutoff} positions", "a number from 1")


Scaling = LinearScaling | DynamicScaling | YarnScaling | Llama3Scaling | FactorScaling | PowerScaling | TruncatedScaling
