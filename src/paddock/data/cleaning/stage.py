"""What a stage of cleaning is: it keeps a document, changes it, or removes it for a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from paddock.data.document import Document


class Item(NamedTuple):
    """A document on its way, and its number: which one of the input it was, from 0."""

    number: int
    document: Document


@dataclass(frozen=True)
class Outcome:
    """What a stage made of a document.

    document: as it goes on; None: removed. reason: why, one of few; detail: what was found, for people; like: the
    number of the document it is a copy of. changes: how often what was changed in it.
    """

    document: Document | None
    reason: str = ""
    detail: str = ""
    like: int | None = None
    changes: Mapping[str, int] = field(default_factory=dict)


def removed(reason: str, detail: str = "", like: int | None = None) -> Outcome:
    return Outcome(None, reason, detail, like)


class Stage:
    """One stage at work. Documents come in order, each once; a stage that remembers some of them can be killed.

    `learned` gives what it has taken in since it was last asked, as bytes, and `restore` takes such bytes back in
    order: a run that goes on after a kill restores what whole chunks taught, and sees the rest again.
    """

    def apply(self, item: Item) -> Outcome:
        raise AssertionError("a stage says what it does")

    def learned(self) -> bytes:
        return b""

    def restore(self, data: bytes) -> None:
        assert not data, "nothing was learned by a stage without memory"
