"""What a model's text says, split into the answer, the thought before it, and calls of tools."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Protocol

from paddock.tokenizer.callreader import CallReader, Said
from paddock.tokenizer.thoughts import ThoughtReader


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


class Told:
    """The thought, the answer, and calls of tools, by the readers of the model's format."""

    def __init__(self, thoughts: ThoughtReader | None = None, calls: CallReader | None = None) -> None:
        self._thoughts, self._calls = thoughts, calls

    def push(self, text: str) -> Spoken:
        reasoning, answer = self._thoughts.push(text) if self._thoughts else ("", text)
        return _spoken(reasoning, self._calls.push(answer) if self._calls else Said(answer))

    def finish(self) -> Spoken:
        reasoning, answer = self._thoughts.finish() if self._thoughts else ("", "")
        if self._calls is None:
            return Spoken(answer, reasoning)
        said, last = self._calls.push(answer), self._calls.finish()
        return _spoken(reasoning, Said(said.text + last.text, said.calls + last.calls))


def _spoken(reasoning: str, said: Said) -> Spoken:
    calls = tuple(
        CallPiece(piece.index, piece.arguments, None if piece.name is None else new_call_id(), piece.name)
        for piece in said.calls
    )
    return Spoken(said.text, reasoning, calls)


def new_call_id() -> str:
    return f"call_{secrets.token_hex(12)}"
