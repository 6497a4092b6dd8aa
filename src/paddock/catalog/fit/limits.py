"""The largest context and the largest number of texts that fit, and the smallest changes that make a plan fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from paddock.catalog.fit import held, serving
from paddock.catalog.fit.serving import MOST_TEXTS, UNLIMITED, Settings
from paddock.catalog.fit.subject import Subject
from paddock.errors import UsageError

STEP = 256  # tokens: contexts are offered in multiples of it
LEAST = 512  # tokens: a shorter context is no way to make a model fit
LONGEST = 1 << 20  # tokens tried where the model states no limit
# From the least loss to the smallest.
KINDS = ("q8_0", "q6_k", "q5_k", "q4_k", "q4_0")


def largest(low: int, high: int, fits: Callable[[int], bool]) -> int:
    """The largest number from `low` to `high` that fits, 0 for none; what fits once fits for all below."""
    if not fits(low):
        return 0
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def largest_context(subject: Subject, settings: Settings, budget: int) -> int:
    """Tokens of each text, up to the model's own context."""
    most = subject.context or LONGEST
    return largest(1, most, lambda size: serving.fits(subject, replace(settings, context=size), budget))


def largest_concurrency(subject: Subject, settings: Settings, budget: int) -> int:
    """Texts at once, of the settings' context."""
    return largest(1, MOST_TEXTS, lambda size: serving.fits(subject, replace(settings, concurrency=size), budget))


def changes(subject: Subject, settings: Settings, budget: int) -> tuple[str, ...]:
    """Options that each make it fit, the smallest change first: shorter texts, fewer at once, coarser weights, both."""
    found = [*_fewer(subject, settings, budget), *_coarser(subject, settings, budget)]
    return tuple(dict.fromkeys(found))


def _fewer(subject: Subject, settings: Settings, budget: int) -> Iterator[str]:
    if size := _shorter(subject, settings, budget):
        yield f"--context {size}"
    if settings.concurrency > 1 and (count := largest_concurrency(subject, settings, budget)):
        yield f"--concurrency {count}"


def _shorter(subject: Subject, settings: Settings, budget: int) -> int:
    """A context that fits, shorter than asked; 0 where none is worth having."""
    asked = settings.context or subject.context or UNLIMITED
    found = largest(1, asked, lambda size: serving.fits(subject, replace(settings, context=size), budget))
    found = found // STEP * STEP if found > STEP else found
    return found if min(LEAST, asked) <= found < asked else 0


def _coarser(subject: Subject, settings: Settings, budget: int) -> Iterator[str]:
    ways: list[tuple[str, Settings]] = []
    wide = subject.dtype == "float32" and not subject.quantised
    if wide and settings.dtype in ("auto", "float32") and settings.quantize is None:
        ways.append(("--dtype bfloat16", replace(settings, dtype="bfloat16")))
    if settings.device == "cpu":
        smaller = KINDS[KINDS.index(settings.quantize) + 1 :] if settings.quantize in KINDS else KINDS
        ways += [(f"--quantize {kind}", replace(settings, dtype="auto", quantize=kind)) for kind in smaller]
    with_less: list[str] = []
    for option, way in ways:
        try:
            alone = serving.fits(subject, way, budget)
        except UsageError:  # no native kernels here
            continue
        if alone:
            yield option
            return
        if not with_less and (size := _shorter(subject, way, budget)):
            with_less.append(f"{option} --context {size}")
    yield from with_less


def weights_alone(subject: Subject, quantize: str | None = None) -> int:
    """Bytes of the weights as they would be held on the CPU."""
    packing = held.packing_of(subject, quantize, "auto", "cpu")
    return sum(each.bytes for each in held.held(subject, packing, "auto", "cpu"))
