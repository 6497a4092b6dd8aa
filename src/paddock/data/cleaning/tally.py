"""The books of cleaning: what went into each stage and came out, why the rest did not, and examples to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from paddock.data.cleaning.stage import Item, Outcome
from paddock.data.cleaning.words import digest

SAMPLES = 20  # examples of a reason
EXCERPT = 500  # characters of an example
CHANGED = "changed"


@dataclass
class Tally:
    """Of one stage. reasons and removed_characters: of what it removed, by reason; changes: by what was changed."""

    documents_in: int = 0
    characters_in: int = 0
    documents_out: int = 0
    characters_out: int = 0
    documents_changed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    removed_characters: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)

    def count(self, item: Item, outcome: Outcome) -> None:
        size = len(item.document.text) if isinstance(item.document.text, str) else 0
        self.documents_in += 1
        self.characters_in += size
        if outcome.document is None:
            self.reasons[outcome.reason] += 1
            self.removed_characters[outcome.reason] += size
            return
        self.documents_out += 1
        self.characters_out += len(outcome.document.text)
        if outcome.document is not item.document:
            self.documents_changed += 1
            self.changes.update(outcome.changes)

    def add(self, said: Mapping[str, Any]) -> None:
        """Adds what `as_dict` gave."""
        for name, value in said.items():
            if isinstance(value, Mapping):
                getattr(self, name).update(value)
            else:
                setattr(self, name, getattr(self, name) + value)

    def as_dict(self) -> dict[str, Any]:
        said = dict(vars(self))
        return {name: dict(sorted(v.items())) if isinstance(v, Counter) else v for name, v in said.items()}

    def check(self) -> None:
        """The books balance: nothing is lost without a reason."""
        assert self.documents_in == self.documents_out + self.reasons.total(), "documents do not add up"


class Samples:
    """Up to SAMPLES examples for each stage and reason.

    Those whose number hashes lowest: a random choice that is the same in every run, and for a whole follows from its
    parts.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str], list[tuple[int, dict[str, Any]]]] = {}

    def see(self, stage: int, item: Item, outcome: Outcome) -> None:
        reason = outcome.reason if outcome.document is None else CHANGED
        place = int.from_bytes(digest(f"{stage} {reason} {item.number}", 8), "little")
        held = self._kept.setdefault((stage, reason), [])
        if len(held) == SAMPLES and place >= held[-1][0]:
            return
        self._put(stage, reason, place, _sample(stage, reason, item, outcome))

    def _put(self, stage: int, reason: str, place: int, sample: dict[str, Any]) -> None:
        held = self._kept.setdefault((stage, reason), [])
        held.append((place, sample))
        held.sort(key=lambda each: each[0])
        del held[SAMPLES:]

    def add(self, said: list[list[Any]]) -> None:
        """Adds what `as_list` gave."""
        for place, sample in said:
            self._put(sample["stage"], sample["reason"], place, sample)

    def as_list(self) -> list[list[Any]]:
        return [[place, sample] for key in sorted(self._kept) for place, sample in self._kept[key]]

    def in_order(self) -> list[dict[str, Any]]:
        """By stage, reason and number."""
        found = [sample for held in self._kept.values() for _, sample in held]
        return sorted(found, key=lambda sample: (sample["stage"], sample["reason"], sample["number"]))


def _sample(stage: int, reason: str, item: Item, outcome: Outcome) -> dict[str, Any]:
    text, detail = item.document.text, outcome.detail
    if not isinstance(text, str):
        text = repr(text)
    if outcome.document is not None:
        # Around the first change, as it is now: what was private stays private.
        now = outcome.document.text
        first = next((at for at, (a, b) in enumerate(zip(text, now, strict=False)) if a != b), min(len(text), len(now)))
        text = now[max(0, first - EXCERPT // 2) :]
        detail = ", ".join(f"{name} {count}" for name, count in sorted(outcome.changes.items()))
    sample = {"stage": stage, "reason": reason, "number": item.number, "place": item.document.place}
    return {**sample, "detail": detail, "like": outcome.like, "text": _writable(text[:EXCERPT])}


def _writable(text: str) -> str:
    """Half characters, which UTF-8 cannot write, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
