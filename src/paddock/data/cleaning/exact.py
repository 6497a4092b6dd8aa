"""Exact duplicates: whole documents, and paragraphs or lines that came before anywhere (as cc_net does)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from paddock.data.cleaning.stage import Item, Outcome, Stage, removed
from paddock.data.cleaning.words import bare, digest, whole

TEXT, LINE = 16, 8  # bytes of a hash: two texts among 2^60, two lines among 2^30, may be taken for one


class Exact(Stage):
    """Removes a document whose text, white space and composition of characters aside, came before.

    Memory: about 150 bytes for each different document.
    """

    RECORD = np.dtype([("digest", f"V{TEXT}"), ("number", "<i8")])

    def __init__(self) -> None:
        self._seen: dict[bytes, int] = {}
        self._new: list[tuple[bytes, int]] = []

    def apply(self, item: Item) -> Outcome:
        key = digest(whole(item.document.text), TEXT)
        before = self._seen.setdefault(key, item.number)
        if before != item.number:
            return removed("exact duplicate", f"the same text as document {before}", before)
        self._new.append((key, item.number))
        return Outcome(item.document)

    def learned(self) -> bytes:
        data = np.array(self._new, self.RECORD).tobytes()
        self._new.clear()
        return data

    def restore(self, data: bytes) -> None:
        records = np.frombuffer(data, self.RECORD)
        self._seen.update(zip(map(bytes, records["digest"]), records["number"].tolist(), strict=True))


class Lines(Stage):
    """Takes out lines (or paragraphs, parted by empty lines) that came before, in any document; what is left must have
    `characters`.

    Lines are compared in lower case without digits' values, accents and punctuation. A line with fewer than `shortest`
    such characters stays: "}" and "Yes" are no copies. Memory: about 100 bytes for each different line.
    """

    def __init__(self, unit: str, shortest: int, characters: int) -> None:
        self.between = "\n" if unit == "line" else "\n\n"
        self.unit, self.shortest, self.characters = unit, shortest, characters
        self._seen: set[int] = set()
        self._new: list[int] = []

    def apply(self, item: Item) -> Outcome:
        document = item.document
        pieces = document.text.split(self.between)
        kept = [piece for piece in pieces if self._is_new(piece)]
        dropped = len(pieces) - len(kept)
        if not dropped:
            return Outcome(document)
        text = self.between.join(kept)
        if len(text.strip()) < self.characters:
            return removed(
                f"all {self.unit}s came before" if not text.strip() else f"too little left of its {self.unit}s",
                f"{dropped} of {len(pieces)} {self.unit}s came before",
            )
        return Outcome(replace(document, text=text), changes={f"{self.unit}s": dropped})

    def _is_new(self, piece: str) -> bool:
        stripped = bare(piece)
        if len(stripped) < self.shortest:
            return True
        key = int.from_bytes(digest(stripped, LINE), "little")
        if key in self._seen:
            return False
        self._seen.add(key)
        self._new.append(key)
        return True

    def learned(self) -> bytes:
        data = np.array(self._new, "<u8").tobytes()
        self._new.clear()
        return data

    def restore(self, data: bytes) -> None:
        self._seen.update(np.frombuffer(data, "<u8").tolist())
