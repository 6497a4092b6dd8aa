"""Numbers that tell prose from debris, after Gopher (Rae et al., 2021, table A1), C4 and RedPajama v2.

Lengths are in characters (Unicode code points). A word of the counting signals is what white space parts; a word of the
repetition signals is `words.words`, so that they hold for scripts without spaces too.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from paddock.data.cleaning.words import shingles, word_hashes, words

STOP_WORDS = frozenset(["the", "be", "to", "of", "and", "that", "have", "with"])  # Gopher's eight
BULLETS = ("•", "‣", "▪", "●", "◦", "-", "*", "–", "—")
ENDS = tuple(".!?\"'”’…。！？」』")
_LETTER = re.compile(r"[^\W\d_]")
_PUNCTUATION = "\"'“”‘’().,;:!?[]"


@dataclass(frozen=True)
class Page:
    """A text, and what several signals need of it, found once."""

    text: str
    stop_words: frozenset[str] = STOP_WORDS

    @cached_property
    def tokens(self) -> list[str]:
        return self.text.split()

    @cached_property
    def lines(self) -> list[str]:
        return [line.strip() for line in self.text.splitlines() if line.strip()]

    @cached_property
    def paragraphs(self) -> list[str]:
        return [part.strip() for part in re.split(r"\n[ \t]*+\n", self.text) if part.strip()]

    @cached_property
    def terms(self) -> list[str]:
        return words(self.text)

    @cached_property
    def term_hashes(self) -> np.ndarray:
        return word_hashes(self.terms)

    @cached_property
    def term_lengths(self) -> np.ndarray:
        return np.fromiter(map(len, self.terms), np.int64)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _line_share(test: Callable[[str], bool]) -> Callable[[Page], float]:
    return lambda page: _share(sum(map(test, page.lines)), len(page.lines))


def _character_share(test: Callable[[str], bool]) -> Callable[[Page], float]:
    # Every different character is looked at once: a text has few.
    return lambda page: _share(sum(n for c, n in Counter(page.text).items() if test(c)), len(page.text))


def _word_share(test: Callable[[str], bool]) -> Callable[[Page], float]:
    return lambda page: _share(sum(map(test, page.tokens)), len(page.tokens))


def _repeated(pieces: Sequence[str], by_length: bool) -> float:
    """The share of pieces (or of their characters) that are a copy of an earlier one."""
    seen: set[str] = set()
    copies = [piece for piece in pieces if piece in seen or seen.add(piece)]  # type: ignore[func-returns-value]
    if by_length:
        return _share(sum(map(len, copies)), sum(map(len, pieces)))
    return _share(len(copies), len(pieces))


def _top_ngram(size: int) -> Callable[[Page], float]:
    """The share of characters in the most frequent n-gram, if it comes twice."""

    def signal(page: Page) -> float:
        if len(page.terms) <= size:
            return 0.0
        _, first, counts = np.unique(shingles(page.term_hashes, size), return_index=True, return_counts=True)
        if counts.max() < 2:
            return 0.0
        lengths = np.convolve(page.term_lengths, np.ones(size, np.int64), "valid")
        # Of n-grams of the same count the longest; overlaps ("ha ha ha") may not count a character twice.
        taken = int((counts * lengths[first])[counts == counts.max()].max())
        return min(1.0, taken / max(1, int(page.term_lengths.sum())))

    return signal


def _repeated_ngrams(size: int) -> Callable[[Page], float]:
    """The share of characters in words that some n-gram repeats: in its second and later places, each word once."""

    def signal(page: Page) -> float:
        if len(page.terms) <= size:
            return 0.0
        grams = shingles(page.term_hashes, size)
        again = np.ones(len(grams), bool)
        again[np.unique(grams, return_index=True)[1]] = False
        edges = np.zeros(len(page.terms) + 1, np.int64)
        edges[:-size] += again
        edges[size:] -= again
        return _share(float(page.term_lengths[np.cumsum(edges[:-1]) > 0].sum()), float(page.term_lengths.sum()))

    return signal


def _entropy(page: Page) -> float:
    counts = np.unique(page.term_hashes, return_counts=True)[1]
    shares = counts / max(1, counts.sum())
    return float(-(shares * np.log(shares)).sum()) if len(counts) else 0.0


SIGNALS: dict[str, Callable[[Page], float]] = {
    "characters": lambda page: len(page.text),
    "words": lambda page: len(page.tokens),
    "lines": lambda page: len(page.lines),
    "mean_word_length": lambda page: _share(sum(map(len, page.tokens)), len(page.tokens)),
    "mean_line_length": lambda page: _share(sum(map(len, page.lines)), len(page.lines)),
    "longest_line": lambda page: max(map(len, page.lines), default=0),
    "symbols_per_word": lambda page: _share(
        page.text.count("#") + page.text.count("...") + page.text.count("…"), len(page.tokens)
    ),
    "bullet_lines": _line_share(lambda line: line.startswith(BULLETS)),
    "ellipsis_lines": _line_share(lambda line: line.endswith(("...", "…"))),
    "ended_lines": _line_share(lambda line: line.endswith(ENDS)),
    "words_with_letters": _word_share(lambda word: _LETTER.search(word) is not None),
    "capital_words": _word_share(lambda word: word.isupper() and len(word) > 1),
    "stop_words": lambda page: len({w.strip(_PUNCTUATION).lower() for w in page.tokens} & page.stop_words),
    "alphanumeric": _character_share(str.isalnum),
    "digits": _character_share(str.isdigit),
    "white_space": _character_share(str.isspace),
    "different_words": lambda page: _share(len(set(page.terms)), len(page.terms)),
    "word_entropy": _entropy,
    "braces": lambda page: page.text.count("{"),
    "lorem_ipsum": lambda page: page.text.lower().count("lorem ipsum"),
    "javascript_lines": _line_share(lambda line: "javascript" in line.lower()),
    "repeated_lines": lambda page: _repeated(page.lines, False),
    "repeated_line_characters": lambda page: _repeated(page.lines, True),
    "repeated_paragraphs": lambda page: _repeated(page.paragraphs, False),
    "repeated_paragraph_characters": lambda page: _repeated(page.paragraphs, True),
    **{f"top_{size}gram": _top_ngram(size) for size in (2, 3, 4)},
    **{f"repeated_{size}grams": _repeated_ngrams(size) for size in (5, 6, 7, 8, 9, 10)},
}

Limits = dict[str, tuple[float | None, float | None]]  # the least and the most a signal may be

_GOPHER: Limits = {
    "words": (50, 100_000),
    "mean_word_length": (3, 10),
    "symbols_per_word": (None, 0.1),
    "bullet_lines": (None, 0.9),
    "ellipsis_lines": (None, 0.3),
    "words_with_letters": (0.8, None),
    "stop_words": (2, None),
    "repeated_lines": (None, 0.3),
    "repeated_line_characters": (None, 0.2),
    "repeated_paragraphs": (None, 0.3),
    "repeated_paragraph_characters": (None, 0.2),
    **{f"top_{size}gram": (None, most) for size, most in ((2, 0.20), (3, 0.18), (4, 0.16))},
    **{f"repeated_{size}grams": (None, round(0.20 - 0.01 * size, 2)) for size in (5, 6, 7, 8, 9, 10)},
}
# gopher: English prose of the web. any: what holds in every language and script. none: nothing but what is asked for.
PRESETS: dict[str, Limits] = {
    "gopher": _GOPHER,
    "any": {
        "characters": (200, None),
        **{name: limit for name, limit in _GOPHER.items() if "repeated" in name or name == "ellipsis_lines"},
        "alphanumeric": (0.5, None),
        "lorem_ipsum": (None, 0),
    },
    "none": {},
}


def signals(
    text: str, names: Sequence[str] = tuple(SIGNALS), stop_words: frozenset[str] = STOP_WORDS
) -> dict[str, float]:
    """The signals of a text by name; every one is finite."""
    page = Page(text, stop_words)
    values = {name: float(SIGNALS[name](page)) for name in names}
    assert all(map(math.isfinite, values.values()))
    return values
