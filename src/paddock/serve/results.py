"""Answers as a client has them: pieces as they come, and the whole that they make."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from paddock.errors import ServiceError


@dataclass(frozen=True)
class Piece:
    """What came of an answer. `logprobs`: as the server wrote them, where they were asked for."""

    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None


@dataclass(frozen=True)
class Timings:
    """Seconds, as the server tells them: `prompt` to read the prompt, `decode` for all after the first token."""

    prompt: float = 0.0
    decode: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What was written, with the names that `paddock.load(...).generate` has for it.

    finish_reason: "stop", "length" or "tool_calls". tool_calls and logprobs are as OpenAI's API writes them. Counts of
    tokens are 0 where the server does not tell them.
    """

    text: str
    finish_reason: str
    stop_reason: str | int | None = None
    reasoning: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    timings: Timings = field(default_factory=Timings)
    logprobs: tuple[dict[str, Any], ...] | None = None
    model: str = ""

    @property
    def tokens_per_second(self) -> float:
        """Tokens decoded per second, the prompt's time not counted; 0 where that is not known."""
        return (self.completion_tokens - 1) / self.timings.decode if self.timings.decode > 0 else 0.0


class Gathering:
    """Puts the objects of one answer together, streamed or whole; of several choices the first.

    Methods raise KeyError, TypeError and the like for what is not in the shape of OpenAI's API.
    """

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self._logprobs: list[dict[str, Any]] = []
        self._reason: str | None = None
        self._stop: str | int | None = None
        self._usage: dict[str, Any] = {}
        self._timings: dict[str, Any] = {}
        self._model = ""

    def take(self, event: dict[str, Any]) -> list[Piece]:
        """An object of a stream, or a whole answer: what it brought."""
        self._model = _text(event.get("model")) or self._model
        self._usage = event.get("usage") or self._usage
        self._timings = event.get("timings") or self._timings
        return [self._choice(choice) for choice in event["choices"] if choice.get("index", 0) == 0]

    def _choice(self, choice: dict[str, Any]) -> Piece:
        said = choice.get("delta") or choice.get("message") or {}
        piece = Piece(
            _text(choice.get("text")) + _text(said.get("content")),
            _text(said.get("reasoning_content")),
            choice.get("finish_reason"),
            choice.get("logprobs"),
        )
        self._texts.append(piece.text)
        self._reasoning.append(piece.reasoning)
        for place, call in enumerate(said.get("tool_calls") or ()):
            self._call(call.get("index", place), call)
        if piece.logprobs is not None:
            self._logprobs.append(piece.logprobs)
        self._reason = piece.finish_reason or self._reason
        self._stop = choice.get("stop_reason", self._stop)
        return piece

    def _call(self, index: int, call: dict[str, Any]) -> None:
        """A call, or a piece of one: its id and name come once, its arguments in pieces."""
        known = self._calls.setdefault(index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        function = call.get("function") or {}
        known["id"] = call.get("id") or known["id"]
        known["function"]["name"] += _text(function.get("name"))
        known["function"]["arguments"] += _text(function.get("arguments"))

    def answer(self) -> Answer:
        """Raises ServiceError where the end has not come."""
        if self._reason is None:
            raise ServiceError("the answer was broken off before its end", fix="ask again")
        return Answer(
            text="".join(self._texts),
            finish_reason=self._reason,
            stop_reason=self._stop,
            reasoning="".join(self._reasoning),
            tool_calls=tuple(self._calls[index] for index in sorted(self._calls)),
            prompt_tokens=int(self._usage.get("prompt_tokens") or 0),
            completion_tokens=int(self._usage.get("completion_tokens") or 0),
            cached_tokens=int((self._usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0),
            timings=Timings(_seconds(self._timings, "prompt_ms"), _seconds(self._timings, "predicted_ms")),
            logprobs=tuple(self._logprobs) if self._logprobs else None,
            model=self._model,
        )


def _text(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise TypeError(type(value))
    return value or ""


def _seconds(timings: dict[str, Any], name: str) -> float:
    return float(timings.get(name) or 0) / 1000
