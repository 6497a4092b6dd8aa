"""Which steps of a run are saved: `every:500`, `log2+every:1000` (Pythia's), `none`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from paddock.errors import UsageError

EXPECTED = 'every:N, log2, log2+every:N or none, as in "every:500" or "log2+every:1000"'


@dataclass(frozen=True)
class SaveSchedule:
    """every: each that many steps (0: never). log2: steps 0, 1, 2, 4, 8, ... below `every`, as Pythia has them.

    The steps of a schedule with `log2` are there to be studied, and all stay; those of a plain `every` are there to go
    on from, and only the newest `keep` stay.
    """

    every: int = 0
    log2: bool = False

    @property
    def stays(self) -> bool:
        return self.log2

    def due(self, step: int) -> bool:
        """Whether the state after `step` steps is to be saved."""
        if self.log2 and (step == 0 or (step & (step - 1) == 0 and (not self.every or step < self.every))):
            return True
        return bool(self.every) and step > 0 and step % self.every == 0

    def steps(self, last: int) -> Iterator[int]:
        """Every step that is due, up to `last`."""
        if self.log2:
            yield from (step for step in (0, *_powers(last)) if not self.every or step < self.every)
        if self.every:
            yield from range(self.every, last + 1, self.every)


def _powers(last: int) -> Iterator[int]:
    for power in count():
        if 2**power > last:
            return
        yield 2**power


def parse(text: str) -> SaveSchedule:
    """A schedule from its spelling in a recipe. Raises UsageError."""
    if text == "none":
        return SaveSchedule()
    terms = text.split("+")
    log2, every = terms.count("log2"), [term for term in terms if term != "log2"]
    if log2 > 1 or len(every) > 1 or (every and not re.fullmatch(r"every:[0-9]{1,9}", every[0])):
        raise UsageError(f"checkpoints are asked for by {text[:80]!r}", expected=EXPECTED)
    number = int(every[0].removeprefix("every:")) if every else 0
    if every and number == 0:
        raise UsageError(f"checkpoints are asked for by {text!r}, every 0 steps", expected=EXPECTED)
    return SaveSchedule(number, bool(log2))
