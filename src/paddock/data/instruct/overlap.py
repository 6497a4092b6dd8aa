"""Contamination: what of one set of examples is found again in another, by runs of words that both have.

A run of 13 words is what GPT-3's authors took two texts to have in common by more than chance (arXiv 2005.14165,
appendix C); of scripts without spaces a word is a character. Shorter texts count where they are equal as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from paddock.data.cleaning.words import shingles, word_hashes, words
from paddock.data.instruct.records import Example, Message, parts_of
from paddock.errors import UsageError

RUN = 13  # words
SHORTEST = 4  # words of a text that is compared as a whole
MAX_RUNS = 200_000_000  # of what is protected: 1.6 GB


@dataclass(frozen=True)
class Overlap:
    """A training example that says again what is kept for measuring.

    number: of the training example, from 0. shared: how many of its runs of words are protected. runs: how many it has.
    """

    number: int
    place: str
    shared: int
    runs: int


class Protected:
    """The runs of words of what is kept for measuring."""

    def __init__(self, examples: Iterable[Example], run: int = RUN) -> None:
        if run < 2:
            raise UsageError(f"runs of {run} words", expected="at least 2, and 13 as is usual")
        self.run = run
        parts: list[np.ndarray] = []
        count = 0
        for example in examples:
            parts.append(_runs(example, run))
            count += len(parts[-1])
            if count > MAX_RUNS:
                raise UsageError(f"more than {MAX_RUNS} runs of words to compare with", fix="compare with fewer files")
        self._runs = np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.uint64)

    def shared(self, example: Example) -> tuple[int, int]:
        """How many runs of an example are protected, and how many it has."""
        found = _runs(example, self.run)
        if not len(self._runs):
            return 0, len(found)
        # By halving: np.isin would sort all that is protected again for each example.
        nearest = self._runs[np.searchsorted(self._runs, found).clip(max=len(self._runs) - 1)]
        return int((nearest == found).sum()), len(found)

    def overlaps(self, examples: Iterable[Example]) -> Iterator[Overlap]:
        """The examples that share a run with what is protected, in order."""
        for number, example in enumerate(examples):
            shared, runs = self.shared(example)
            if shared:
                yield Overlap(number, example.origin.place, shared, runs)


def texts_of(example: Example) -> list[str]:
    """Everything an example says, in order; of preferences the prompt once."""
    return [text for _, part in parts_of(example) for text in ([part] if isinstance(part, str) else _contents(part))]


def _contents(messages: Iterable[Message]) -> list[str]:
    """What messages say; an instruction's `input` is part of it."""
    found = []
    for message in messages:
        if message.role != "system":  # the same words before every conversation prove nothing
            found.append(message.content)
            if isinstance(more := message.more.get("input"), str):
                found.append(more)
    return found


def _runs(example: Example, run: int) -> np.ndarray:
    """Hashes of an example's runs of words (count,) uint64, of each of its texts by itself; one for a short whole."""
    every = [word_hashes(words(text)) for text in texts_of(example)]
    found = [shingles(hashes, run) for hashes in every if len(hashes) >= run]
    if found:
        return np.concatenate(found)
    whole = np.concatenate(every) if every else np.zeros(0, np.uint64)
    return shingles(whole, max(run, len(whole))) if len(whole) >= SHORTEST else np.zeros(0, np.uint64)
