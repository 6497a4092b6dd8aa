"""One answer, whatever dialect asked for it: from a plan to deltas, and from the same deltas to the whole.

    Plan (model, n requests) ──> Answering ──deltas──> a dialect's chunks      (streamed)
                                              └──fold──> Whole ──> its body     (at once)

The streamed and the whole answer cannot differ: the whole is nothing but its deltas put together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Literal

from paddock.engine.continuation import Continuation
from paddock.engine.request import Event, Request
from paddock.errors import OverloadError
from paddock.serve.registry import Served
from paddock.serve.speech import CallPiece, Plain, Speech, Spoken
from paddock.serve.worker import Feed, Worker

Reason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True)
class Dropped:
    """What was left out of a prompt because truncation was asked for."""

    messages: int = 0
    tokens: int = 0

    def __str__(self) -> str:
        return f"messages={self.messages}, tokens={self.tokens}"


@dataclass(frozen=True)
class Plan:
    """What is to be computed: one request for each choice of each prompt, those of one prompt side by side.

    decoders: what turns each request's ids into text; used once. speech: makes the reader of one choice's text.
    prompts: how many there are. named: the request names the tool that is called, which ends the answer with "stop".
    """

    served: Served
    requests: tuple[Request, ...]
    decoders: tuple[Continuation | None, ...]
    speech: Callable[[], Speech] = Plain
    prompts: int = 1
    dropped: Dropped | None = None
    named: bool = False


@dataclass(frozen=True)
class Ending:
    """How a choice ended. `stop_reason`: the stop string or the id of the end token. `seed`: what repeats it."""

    reason: Reason
    stop_reason: str | int | None
    tokens: int
    cached: int
    seed: int | None
    prefill_seconds: float
    decode_seconds: float


@dataclass(frozen=True)
class Delta:
    """What became certain of one choice; `tokens` are the ones it was made of, with what was asked to know of them."""

    choice: int
    text: str = ""
    reasoning: str = ""
    calls: tuple[CallPiece, ...] = ()
    tokens: tuple[Event, ...] = ()
    ending: Ending | None = None


@dataclass
class Whole:
    """A choice from its first delta to its last."""

    text: str = ""
    reasoning: str = ""
    calls: dict[int, CallPiece] = field(default_factory=dict)
    tokens: list[Event] = field(default_factory=list)
    ending: Ending | None = None

    def add(self, delta: Delta) -> None:
        self.text += delta.text
        self.reasoning += delta.reasoning
        self.tokens += delta.tokens
        self.ending = delta.ending or self.ending
        for piece in delta.calls:
            before = self.calls.get(piece.index, CallPiece(piece.index))
            self.calls[piece.index] = CallPiece(
                piece.index, before.arguments + piece.arguments, before.id or piece.id, before.name or piece.name
            )


@dataclass(frozen=True)
class Usage:
    """Tokens. cached: how many of the prompt's were not computed again. reasoning: those that made thoughts known."""

    prompt: int
    completion: int
    cached: int
    reasoning: int = 0


class _Choice:
    """One request on its way."""

    def __init__(self, feed: Feed, speech: Speech) -> None:
        self.feed, self.speech = feed, speech
        self.ending: Ending | None = None
        self.called = False
        self.thought = 0  # tokens that brought reasoning


class Answering:
    """The deltas of all choices, as they come. Begins when made; `cancel` ends what is left, and may be called twice.

    Raises OverloadError, ResourceError and UsageError when made, before anything was computed. `first`: when the first
    token came (`time.monotonic`), None before.
    """

    def __init__(self, worker: Worker, plan: Plan) -> None:
        self.plan, self.started = plan, time.monotonic()
        self.first: float | None = None
        engine, adapter = plan.served.engine, plan.served.adapter
        assert engine is not None, "only a model that writes is asked to answer"
        asked = zip(plan.requests, plan.decoders, strict=True)
        tasks = [engine.task(request, decoder, adapter=adapter) for request, decoder in asked]
        self._choices: list[_Choice] = []
        try:
            for place, task in enumerate(tasks):
                feed = worker.submit(engine, task, room=len(tasks) - place)
                self._choices.append(_Choice(feed, plan.speech()))
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        for choice in self._choices:
            if choice.ending is None:
                choice.feed.cancel()

    async def deltas(self) -> AsyncGenerator[list[Delta], None]:
        """What each round of the engine brought. Raises what the engine failed with; leaving it early cancels."""
        try:
            async with aclosing(self._rounds()) as rounds:
                async for place, events in rounds:
                    self.first = self.first or time.monotonic()
                    yield self._read(place, self._choices[place], events)
        finally:
            self.cancel()

    async def _rounds(self) -> AsyncGenerator[tuple[int, list[Event]], None]:
        """Which choice got which events. One choice is awaited as it is, several are waited for together."""
        if len(self._choices) == 1:
            while self._choices[0].ending is None:
                yield 0, await self._choices[0].feed.next()
            return
        waiting = {asyncio.ensure_future(choice.feed.next()): place for place, choice in enumerate(self._choices)}
        try:
            while waiting:
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for future in sorted(done, key=waiting.__getitem__):
                    place = waiting.pop(future)
                    yield place, future.result()
                    if self._choices[place].ending is None:
                        waiting[asyncio.ensure_future(self._choices[place].feed.next())] = place
        finally:
            for future in waiting:
                future.cancel()

    async def whole(self) -> list[Whole]:
        """Every choice, whole."""
        choices = [Whole() for _ in self._choices]
        async for deltas in self.deltas():
            for delta in deltas:
                choices[delta.choice].add(delta)
        return choices

    @property
    def usage(self) -> Usage:
        """So far. A prompt counts once however many choices it has, as OpenAI counts it; several prompts add up."""
        firsts = self._choices[:: len(self._choices) // self.plan.prompts]
        return Usage(
            prompt=sum(len(choice.feed.task.request.prompt) for choice in firsts),
            completion=sum(len(choice.feed.task.answer.written) for choice in self._choices),
            cached=sum(choice.feed.task.sequence.reused or 0 for choice in firsts),
            reasoning=sum(choice.thought for choice in self._choices),
        )

    @property
    def endings(self) -> list[Ending]:
        """Those of the choices that have ended, in their order."""
        return [choice.ending for choice in self._choices if choice.ending is not None]

    def _read(self, place: int, choice: _Choice, events: Sequence[Event]) -> list[Delta]:
        if not events:
            raise OverloadError("the answer was broken off before its end", down=True, retry_after=1)
        # One token at a time, so that nothing depends on how many came at once.
        plain = isinstance(choice.speech, Plain)
        parts: list[tuple[Spoken, list[Event]]] = []
        for event in events:
            piece = choice.speech.push(event.text)
            choice.thought += bool(piece.reasoning)
            _append(parts, piece, [event], plain)
        last = events[-1]
        if last.finish_reason is not None:
            _append(parts, choice.speech.finish(), [], plain)
        choice.called = choice.called or any(said.calls for said, _ in parts)
        if last.finish_reason is not None:
            reason: Reason = last.finish_reason
            if choice.called and reason == "stop" and not self.plan.named:
                reason = "tool_calls"
            choice.ending = self._ending(choice, reason, last.stop_reason)
        deltas = [Delta(place, said.text, said.reasoning, said.calls, tuple(tokens)) for said, tokens in parts]
        if choice.ending is not None:
            deltas[-1] = replace(deltas[-1], ending=choice.ending)
        return deltas

    def _ending(self, choice: _Choice, reason: Reason, stop_reason: str | int | None) -> Ending:
        task = choice.feed.task
        seed = None if task.request.sampling.greedy else task.answer.seed
        return Ending(
            reason, stop_reason, len(task.answer.written), task.sequence.reused or 0, seed, task.seconds[0],
            task.seconds[1],
        )  # fmt: skip


def _append(parts: list[tuple[Spoken, list[Event]]], piece: Spoken, events: list[Event], plain: bool) -> None:
    """Puts a piece to the last part, or begins another: a part is of one kind alone, with the tokens that it was made
    of behind those that made nothing yet. Of plain text there is one part."""
    if parts:
        first, before = parts[-1]
        kinds = _kinds(first)
        if plain or not kinds or (len(kinds) == 1 and _kinds(piece) == kinds) or not (events or _kinds(piece)):
            parts[-1] = _together(first, piece), before + events
            return
    parts.append((piece, events))


def _kinds(said: Spoken) -> list[str]:
    return [kind for kind, there in (("thought", said.reasoning), ("text", said.text), ("call", said.calls)) if there]


def _together(first: Spoken, second: Spoken) -> Spoken:
    return Spoken(first.text + second.text, first.reasoning + second.reasoning, first.calls + second.calls)
