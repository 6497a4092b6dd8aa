"""Where sentences end, told of token ids: what each piece of a vocabulary says of it."""

from __future__ import annotations

import numpy as np

from paddock.data.preparing.sentences import BLANK, CLOSING, ENDING, STOPPING
from paddock.errors import TokenizerError, UsageError
from paddock.tokenizer import Tokenizer

CLOSERS = "\"'”’»›)]}」』】）》〉"
ENDS = ("。", "！", "？", "…", "｡", "।", "؟", "۔")  # the end, whatever comes behind them
STOPS = (".", "!", "?")  # the end where a blank comes behind them: not in 3.14 or example.org


def sentence_signs(tokenizer: Tokenizer) -> np.ndarray:
    """(vocabulary,) uint8: bits of `data.preparing.sentences`, for `Blanks.signs`.

    A mark whose bytes are spread over several pieces is not seen. An abbreviation's full stop ("Mr. Smith") is.
    Raises UsageError where no piece ends a sentence.
    """
    signs = np.array([_signs(_text(tokenizer, id)) for id in range(len(tokenizer))], np.uint8)
    if not (signs & (ENDING | STOPPING)).any():
        raise UsageError(
            f"no piece of {tokenizer!r} ends a sentence",
            expected="pieces with . ! ? or their like at their ends",
            fix="set objective.sentences to 0",
        )
    return signs


def _text(tokenizer: Tokenizer, id: int) -> str:
    """What a piece adds within a text, its blanks too; nothing for a control token."""
    try:
        return tokenizer.bytes_of(id).decode("utf-8", "replace")
    except TokenizerError:  # an id between two that have pieces
        return ""


def _signs(text: str) -> int:
    signs = BLANK if text[:1].isspace() else 0
    bare = text.strip(" ").rstrip(CLOSERS)
    if not bare:
        return signs | (CLOSING if text.strip(" ") and not signs else 0)
    if not text.strip():  # an empty line behind an end is no sentence of its own
        return BLANK | ENDING | CLOSING
    if "\n" in text or bare.endswith(ENDS):
        return signs | ENDING
    return signs | (STOPPING if bare.endswith(STOPS) else 0)
