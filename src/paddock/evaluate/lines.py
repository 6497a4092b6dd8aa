"""The lines test: a record of numbered lines with random values, and the value of one of them is asked for.

After LongChat's retrieval test, as Giraffe (arXiv 2308.10882) used it. Nothing of it can be known from elsewhere, and
one wrong digit is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paddock.errors import UsageError
from paddock.evaluate.lengths import NUMBER, Place, Question

HEAD = "Lines and their values:\n"
LINE = "line {key}: {value}\n"
ASK = "Which value has line {key}?\nline {key}:"
EDGE = 0.1  # the first and the last tenth


@dataclass(frozen=True)
class Lines:
    """digits: of a line's number and of its value."""

    digits: int = 4
    written: int = 12

    def __post_init__(self) -> None:
        if not 1 <= self.digits <= 8:
            raise UsageError(f"numbers of {self.digits} digits", expected="from 1 to 8")

    def question(self, units: int, place: Place, random: np.random.Generator) -> Question:
        keys, values = self.record(units, random)
        at = target(units, place, random)
        lines = "".join(LINE.format(key=key, value=value) for key, value in zip(keys, values, strict=True))
        return Question(HEAD + lines + ASK.format(key=keys[at]), str(values[at]), depth=at / max(units - 1, 1))

    def right(self, question: Question, text: str) -> bool:
        found = NUMBER.search(text)
        return found is not None and found.group() == question.answer

    def record(self, lines: int, random: np.random.Generator) -> tuple[list[int], list[int]]:
        """Numbers, all different, and values of so many lines. Raises UsageError for more than there are numbers."""
        low, high = 10 ** (self.digits - 1), 10**self.digits
        if lines > high - low:
            raise UsageError(
                f"{lines} lines, and there are {high - low} numbers of {self.digits} digits", fix="raise --digits"
            )
        keys = random.choice(high - low, lines, replace=False) + low
        return keys.tolist(), random.integers(low, high, lines).tolist()


def target(units: int, place: Place, random: np.random.Generator) -> int:
    """Which of the units is asked for: one of the first tenth, of the last, or of the tenth in the middle."""
    wide = max(1, int(EDGE * units))
    start = {"first": 0, "middle": (units - wide) // 2, "last": units - wide}[place]
    return start + int(random.integers(wide))
