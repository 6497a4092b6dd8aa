"""How long it takes, from what a machine can do at most. Bounds first, then what a share of them would give."""

from __future__ import annotations

from dataclasses import dataclass

from paddock.errors import UsageError
from paddock.model.spec import Architecture
from paddock.training.scale import flops_per_token, multiplied

ASSUMED = 0.4  # of a GPU's rate that training uses (MFU), as in docs/scale.md


@dataclass(frozen=True)
class Speed:
    """rate: matrix operations a second in what is computed in. read: bytes a second. source: who says so."""

    rate: float
    read: float
    source: str

    def __post_init__(self) -> None:
        if not (self.rate > 0 and self.read > 0):
            raise UsageError(f"a machine of {self.rate:g} operations and {self.read:g} bytes a second")


@dataclass(frozen=True)
class Training:
    """Seconds of a step and of `tokens` in all; operations of one token, forward and backward."""

    flops: float
    step: float
    tokens: int
    seconds: float
    share: float


@dataclass(frozen=True)
class Serving:
    """Bounds: tokens a second that one text can be read and written at, at the most."""

    prompt: float
    decode: float
    bytes_per_token: int


def estimate(
    architecture: Architecture,
    speed: Speed,
    *,
    length: int,
    batch: int,
    tokens: int = 0,
    devices: int = 1,
    share: float = ASSUMED,
    recompute: bool = False,
    frozen: bool = False,
) -> Training:
    """Training: a step of `batch` rows of `length` tokens, and `tokens` of them in all, on `devices` of this speed.

    share: of the rate that is used. recompute: blocks are computed once more. frozen: most matrices take no gradient,
    so that of the six operations for each number four remain.
    """
    if not 0 < share <= 1 or devices < 1 or min(length, batch) < 1 or tokens < 0:
        raise UsageError(f"{devices} devices at {share} of their rate", expected="at least one, and a share up to 1")
    counted = flops_per_token(architecture, length)
    times = (4 if frozen else 6) + (2 if recompute else 0)
    each = counted * times / 6 / (speed.rate * devices * share)
    return Training(counted, each * length * batch, tokens, each * tokens, share)


def serving(architecture: Architecture, speed: Speed, held: int, cache: int) -> Serving:
    """held: bytes of the weights as they are held. cache: bytes of one text's cache, all of which are
    read for each token; of a mixture's weights those of the active experts."""
    used = held * active_share(architecture) + cache
    flops = 2.0 * multiplied(architecture)
    return Serving(speed.rate / flops, min(speed.read / used, speed.rate / flops), round(used))


def active_share(architecture: Architecture) -> float:
    """Of the numbers of the matrices, how many one token is multiplied with."""
    from paddock.training.scale import parameters

    tables = architecture.vocabulary * architecture.width
    tied = architecture.head is not None and architecture.head.tied
    return min(1.0, multiplied(architecture) / max(1, parameters(architecture) - (0 if tied else tables)))
