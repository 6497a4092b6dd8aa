"""Whether sizes of the catalogue run on this machine, and how far their weights must be rounded for that."""

from __future__ import annotations

from collections.abc import Callable

from paddock.catalog.catalogue import Found
from paddock.catalog.choosing import Fit, Question
from paddock.catalog.comparing import weights
from paddock.catalog.fit import budget, serving
from paddock.catalog.fit.serving import Settings
from paddock.catalog.fit.subject import of_entry
from paddock.catalog.schema import Model, Size
from paddock.errors import UsageError

USUAL = 4096  # tokens of a text that is planned for where nobody says how long it is
ROOM = 0.85  # of the memory that weights may take where nothing says what the rest takes
KINDS = {"bf16": None, "8 bits": "q8_0", "4 bits": "q4_k"}


def free() -> int:
    """Bytes that one more process can have on the CPU."""
    return budget.free("cpu")


def fits(found: Found, question: Question) -> Fit | None:
    """The least rounding with which one text can be served in the question's memory; None where 4 bits are too much.

    A size whose architecture Paddock does not know is judged by its weights alone, which must leave some room.
    """
    size = found.size
    assert size is not None
    subject = of_entry(found)
    if subject.architecture is None:
        for rounding, count in weights(size).items():
            if count <= ROOM * question.memory:
                return Fit(rounding, count, planned=False)
        return None
    context = min(question.context or USUAL, subject.context or question.context or USUAL)
    for rounding, kind in KINDS.items():
        if weights(size)[rounding] > question.memory:  # a quick answer: no plan is less than its weights
            continue
        settings = Settings(context=context, quantize=kind, budget=question.memory)
        try:
            peak = max(phase.bytes for phase in serving.Need(subject, settings).phases)
        except UsageError:  # no native kernels here, which rounding while loading needs
            continue
        if peak <= question.memory:
            return Fit(rounding, peak, planned=True)
    return None


def runs_here(memory: int) -> Callable[[Model, Size], bool]:
    """Says of a size whether Paddock runs it in so many bytes, rounded to 4 bits if it must be."""

    def runs(model: Model, size: Size) -> bool:
        found = fits(Found(model, size), Question(model.tasks[0], memory))
        return found is not None and found.planned

    return runs
