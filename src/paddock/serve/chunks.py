"""OpenAI's streams: chunks made of deltas. Chat and completions differ in how a choice looks, and in nothing else."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import aclosing
from json.encoder import encode_basestring
from typing import Any, Protocol

from paddock.serve.accounts import timings, usage_body
from paddock.serve.answering import Delta, Dropped, Ending, Usage, Whole
from paddock.serve.glassbox import GlassBox
from paddock.serve.streaming import Pieces, sse


class Answers(Protocol):
    """What chunks are made of: `Answering`, or an answer of no tokens."""

    @property
    def usage(self) -> Usage: ...

    @property
    def endings(self) -> list[Ending]: ...

    def deltas(self) -> AsyncGenerator[list[Delta], None]: ...

    async def whole(self) -> list[Whole]: ...

    def cancel(self) -> None: ...


class Chunks(ABC):
    """One answer as server-sent events. `head`: what all its chunks have alike. `choices`: how many there are.

    rich: chunks tell of tokens (log-probabilities, the glass box), so there is one even where no text is certain yet.
    """

    def __init__(
        self,
        answers: Answers,
        head: dict[str, Any],
        *,
        choices: int,
        include_usage: bool,
        rich: bool,
        box: GlassBox | None,
        dropped: Dropped | None,
    ) -> None:
        self.answers, self.box, self.rich, self.dropped = answers, box, rich or box is not None, dropped
        self._head = {**head, "usage": None} if include_usage else head
        self._include_usage = include_usage
        self._running = choices
        self._begun: set[int] = set()
        self._around: dict[int, tuple[str, str]] = {}

    @abstractmethod
    def opening(self, choice: int) -> dict[str, Any] | None:
        """A choice's first chunk, if it is one of its own."""

    @abstractmethod
    def content(self, delta: Delta) -> dict[str, Any]:
        """What a delta says, without its ending."""

    @abstractmethod
    def last(self, choice: int, reason: str) -> dict[str, Any]:
        """A choice's last chunk."""

    async def pieces(self) -> Pieces:
        async with aclosing(self.answers.deltas()) as rounds:
            async for deltas in rounds:
                yield "".join([self._of(delta) for delta in deltas])
        if self._include_usage:
            usage = self.answers.usage
            last = {"usage": usage_body(usage, self.dropped), "timings": timings(usage, self.answers.endings)}
            yield sse({**self._head, "choices": [], **last})

    def _of(self, delta: Delta) -> str:
        if self._is_plain(delta):
            if not delta.text:
                return ""
            before, after = self._around.get(delta.choice) or self._frame(delta.choice)
            return f"{before}{encode_basestring(delta.text)}{after}"
        text = "" if delta.choice in self._begun else self._begin(delta.choice)
        if delta.text or delta.reasoning or delta.calls or (self.rich and delta.tokens):
            text += self._chunk(self.content(delta), None if self.box is None else self.box.tokens(delta.tokens))
        return text if delta.ending is None else text + self._end(delta.choice, delta.ending)

    def _is_plain(self, delta: Delta) -> bool:
        """Whether it is text and nothing else, as nearly all are: only the text is made anew then."""
        special = self.rich or delta.reasoning or delta.calls or delta.ending is not None
        return not special and delta.choice in self._begun

    def _frame(self, choice: int) -> tuple[str, str]:
        mark = uuid.uuid4().hex
        before, after = self._chunk(self.content(Delta(choice, mark)), None).split(f'"{mark}"')
        self._around[choice] = (before, after)
        return before, after

    def _begin(self, choice: int) -> str:
        self._begun.add(choice)
        opening = self.opening(choice)
        shown = self.box.opening() if self.box else None
        if opening is None and shown is None:
            return ""
        return self._chunk(opening or self.content(Delta(choice)), shown)

    def _end(self, choice: int, ending: Ending) -> str:
        self._running -= 1
        extra = {}
        if not self._running and not self._include_usage:
            extra["timings"] = timings(self.answers.usage, self.answers.endings)
        shown = None if self.box is None else self.box.ending(ending)
        return self._chunk(self.last(choice, ending.reason), shown, **extra)

    def _chunk(self, choice: dict[str, Any], shown: dict[str, Any] | None, **extra: Any) -> str:
        if shown is not None:
            extra["paddock"] = shown
        return sse({**self._head, "choices": [choice], **extra})
