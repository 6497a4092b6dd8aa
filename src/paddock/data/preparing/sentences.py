"""Sentences in a text of token ids, by what is known of each id."""

from __future__ import annotations

import numpy as np

# What a piece's text says: it ends a sentence; it does if a blank follows; it only closes quotes or brackets; it begins
# with a blank.
ENDING, STOPPING, CLOSING, BLANK = 1, 2, 4, 8


def sentences(text: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """(sentences, 2): where each starts and stops, in order; together they are the whole text.

    text: (tokens,) ids. signs: (vocabulary,) bits. What closes quotes or brackets behind an end belongs to the sentence
    that they close.
    """
    if len(text) == 0:
        return np.zeros((0, 2), np.int64)
    said = signs[text]
    closing = (said & CLOSING) > 0
    places = np.arange(len(text))
    # Up to where the run of closing pieces behind each place goes: the place of the next other piece, less one.
    others = np.where(closing, len(text), places)
    after = np.append(np.minimum.accumulate(others[::-1])[::-1], len(text))[1:]
    blank = np.append((said & BLANK) > 0, True)[after] | np.append((said & ENDING) > 0, True)[after]
    ends = ((said & ENDING) > 0) | (((said & STOPPING) > 0) & blank)
    stops = np.unique(np.append(after[ends], len(text)))
    return np.stack((np.append(0, stops[:-1]), stops), 1)
