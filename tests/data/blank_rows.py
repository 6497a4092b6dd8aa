"""Samples of ids, and what a row of GLM's blanks stands for, for the tests of what objectives make of samples."""

from __future__ import annotations

import numpy as np

from paddock.data.batch import IGNORED, Batch
from paddock.data.samples import Sample

PAD, FIRST, LAST, MASK, LONG, START, END = range(7)
WORDS, PLAIN = 60, 20  # ids from PLAIN on are text


def sample(*texts: list[int] | np.ndarray, place: int = 0) -> Sample:
    random = np.random.Generator(np.random.PCG64([9, place]))
    return Sample(tuple(np.asarray(text, np.uint32) for text in texts), place, random)


def chi_square(found: list[int], shares: list[float]) -> float:
    total = sum(found)
    return sum((count - total * share) ** 2 / (total * share) for count, share in zip(found, shares, strict=True))


def rebuilt(batch: Batch) -> tuple[list[int], list[list[int]]]:
    """The text that a row of blanks stands for, and what was cut out, by the rules of the paper alone."""
    assert batch.prefix is not None and batch.positions is not None
    begun, ids = int(batch.prefix[0]), batch.ids[0].tolist()
    shown, spans = ids[:begun], dict[int, list[int]]()
    asked = batch.targets[0].tolist()
    assert asked[:begun] == [IGNORED] * begun
    at = begun
    while at < len(ids) and asked[at] != IGNORED:
        assert ids[at] == START
        place, span, count = int(batch.positions[0, at, 0]), [], 1
        assert shown[place] in (MASK, LONG)
        while True:
            assert batch.positions[0, at].tolist() == [place, count]
            at, count = at + 1, count + 1
            if asked[at - 1] == END:
                break
            assert ids[at] == asked[at - 1]
            span.append(ids[at])
        spans[place] = span
    assert len(spans) == sum(token in (MASK, LONG) for token in shown)
    assert all(spans.values())
    assert batch.positions[0, :begun].tolist() == [[place, 0] for place in range(begun)]
    whole = [token for place, was in enumerate(shown) for token in spans.get(place, [was])]
    return whole, list(spans.values())
