"""Which scripts a text is written in: shares of its letters by Unicode block, with nothing to train."""

from __future__ import annotations

from functools import cache

import numpy as np

from paddock.data.cleaning.stage import Item, Outcome, Stage, removed

# Unicode blocks by their first and last code point (Unicode 16, Blocks.txt).
RANGES: dict[str, tuple[tuple[int, int], ...]] = {
    "latin": (
        (0x41, 0x5A),
        (0x61, 0x7A),
        (0xC0, 0xD6),
        (0xD8, 0xF6),
        (0xF8, 0x24F),
        (0x1E00, 0x1EFF),
        (0xFF21, 0xFF5A),
    ),
    "greek": ((0x370, 0x3FF), (0x1F00, 0x1FFF)),
    "cyrillic": ((0x400, 0x52F), (0x1C80, 0x1C8F), (0x2DE0, 0x2DFF), (0xA640, 0xA69F)),
    "armenian": ((0x530, 0x58F),),
    "hebrew": ((0x590, 0x5FF), (0xFB1D, 0xFB4F)),
    "arabic": ((0x600, 0x6FF), (0x750, 0x77F), (0x8A0, 0x8FF), (0xFB50, 0xFDFF), (0xFE70, 0xFEFF)),
    "devanagari": ((0x900, 0x97F),),
    "bengali": ((0x980, 0x9FF),),
    "tamil": ((0xB80, 0xBFF),),
    "telugu": ((0xC00, 0xC7F),),
    "thai": ((0xE00, 0xE7F),),
    "georgian": ((0x10A0, 0x10FF), (0x1C90, 0x1CBF)),
    "hangul": ((0x1100, 0x11FF), (0x3130, 0x318F), (0xAC00, 0xD7AF)),
    "ethiopic": ((0x1200, 0x139F),),
    "kana": ((0x3040, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F)),
    "han": ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),
}
OTHER = "other"
NAMES = (*RANGES, OTHER)


@cache
def _table() -> np.ndarray:
    """The script's number of every code point, -1 for what is no letter. One byte each, 1.1 MB."""
    table = np.full(0x110000, -1, np.int8)
    for code in range(0x80, 0x20000):
        if chr(code).isalpha():
            table[code] = len(RANGES)
    for number, ranges in enumerate(RANGES.values()):
        for first, last in ranges:
            table[first : last + 1] = number
    return table


def shares(text: str) -> dict[str, float]:
    """The share of each script among the letters of a text, those that are there; {} for a text without letters."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    found = _table()[codes]
    counts = np.bincount(found[found >= 0], minlength=len(NAMES))
    total = int(counts.sum())
    return {name: count / total for name, count in zip(NAMES, counts.tolist(), strict=True) if count}


class Scripts(Stage):
    """Keeps documents whose letters are of the scripts in `keep`, to a share of at least `share`."""

    def __init__(self, keep: tuple[str, ...], share: float) -> None:
        self.keep, self.share = keep, share

    def apply(self, item: Item) -> Outcome:
        found = shares(item.document.text)
        if not found:
            return removed("no letters")
        kept = sum(found.get(name, 0.0) for name in self.keep)
        if kept >= self.share:
            return Outcome(item.document)
        most = max(found, key=lambda name: (found[name], name))
        reason = "scripts mixed" if most in self.keep else f"script {most}"
        return removed(reason, f"{kept:.1%} {' or '.join(self.keep)}, least {self.share:.1%}")
