"""What a model's text says, split into the answer, the thought before it, and calls of tools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class CallPiece:
    """A piece of one call: `index` counts the calls of an answer; `id` and `name` come once, with its first piece."""

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Spoken:
    """What became certain with a piece of text."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[CallPiece, ...] = ()


class Speech(Protocol):
    """Reads one answer's text in pieces; the pieces' borders change nothing in what comes out."""

    def push(self, text: str) -> Spoken: ...

    def finish(self) -> Spoken:
        """What was held back, now that no more text comes."""
        ...


class Plain:
    """All of it is the answer."""

    def push(self, text: str) -> Spoken:
        return Spoken(text)

    def finish(self) -> Spoken:
        return Spoken()
