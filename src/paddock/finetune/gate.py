"""What a user sees of the masks before anything is trained, and what is wrong with a sequence that nobody should train.

A mask that is all zeros or all ones gives a loss curve that looks like any other. So every sequence is checked, and
some are shown, with what is learned of them in colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paddock.data.preparing.supervised import ids_of
from paddock.tokenizer.tokenizer import Tokenizer

LONGEST = 600  # characters of a part that are shown


@dataclass(frozen=True)
class Statistics:
    """Of all sequences. tokens: all of them; supervised: those that are learned. share_...: the supervised share of one
    sequence's tokens, the least, the median and the most. longest: tokens of the longest."""

    sequences: int
    tokens: int
    supervised: int
    share_min: float
    share_median: float
    share_max: float
    longest: int

    @property
    def told(self) -> str:
        """In words."""
        shares = f"{self.share_min:.1%} / {self.share_median:.1%} / {self.share_max:.1%}"
        return (
            f"{self.sequences:,} sequences of {self.tokens:,} tokens, {self.supervised:,} of them learned "
            f"({self.supervised / self.tokens:.1%}; least / median / most of a sequence: {shares}); "
            f"the longest has {self.longest:,}"
        )


@dataclass(frozen=True)
class Shown:
    """A sequence to look at. place: where its example is from. parts: (text, learned), control tokens spelt out."""

    place: str
    tokens: int
    supervised: int
    parts: tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class Preview:
    """What is shown before a run begins: statistics, and sequences with the least, a middling and the most to learn."""

    statistics: Statistics
    samples: tuple[Shown, ...]


def fault(sequence: np.ndarray, everything: bool) -> str | None:
    """What is wrong with a supervised sequence. everything: that all of it is learned was asked for."""
    asked = sequence[1:] >= 0  # the first token follows from nothing
    if not asked.any():
        return "nothing to learn"
    if asked.all() and not everything:
        return "nothing before what is learned"
    return None


def preview(sequences: Sequence[np.ndarray], places: Sequence[str], tokenizer: Tokenizer) -> Preview:
    """Of the sequences of a run, at least one."""
    counts = [(int((each >= 0).sum()), len(each)) for each in sequences]
    shares = np.array([asked / size for asked, size in counts])
    order = np.argsort(shares, kind="stable")
    chosen = dict.fromkeys(int(order[place]) for place in (0, len(order) // 2, len(order) - 1))
    statistics = Statistics(
        len(counts),
        sum(size for _, size in counts),
        sum(asked for asked, _ in counts),
        float(shares.min()),
        float(np.median(shares)),
        float(shares.max()),
        max(size for _, size in counts),
    )
    return Preview(statistics, tuple(shown(sequences[one], places[one], tokenizer) for one in chosen))


def shown(sequence: np.ndarray, place: str, tokenizer: Tokenizer) -> Shown:
    """One sequence as text. A character that takes several tokens stands where its last one does."""
    stream = tokenizer.stream(skip_special=False)
    parts: list[tuple[str, bool]] = []
    texts = [stream.push(int(id)) for id in ids_of(sequence)]
    texts[-1] += stream.finish()
    for text, learned in zip(texts, (sequence >= 0).tolist(), strict=True):
        if parts and parts[-1][1] == learned:
            parts[-1] = (parts[-1][0] + text, learned)
        else:
            parts.append((text, learned))
    short = tuple((_shortened(text), learned) for text, learned in parts)
    return Shown(place, len(sequence), int((sequence >= 0).sum()), short)


def _shortened(text: str) -> str:
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]} … {len(text) - LONGEST:,} characters … {text[-half:]}"
