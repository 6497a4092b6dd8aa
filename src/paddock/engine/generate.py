"""The single-sequence loop: read the prompt, then choose one token after another.

    prompt ids ── prefill (pieces of 512) ──> cache + last logits
                                                  │
               ┌──> choose ──> decode ──> stop? ──┤ yes: the last event
               └── one more forward  <────────────┘ no

It knows token ids; text comes in only through the tokenizer's stream decoder, for stop strings and the event's pieces.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from paddock.engine.memory import memory_for, new_cache
from paddock.engine.request import Completion, Event, FinishReason, Request, Timings, TokenLogprob
from paddock.engine.sampler import Choice, History, choose, generator
from paddock.engine.stopping import StopScanner
from paddock.errors import PaddockError, UsageError
from paddock.kernels.threads import threads_for
from paddock.model.step import Step
from paddock.model.transformer import Transformer

PIECE = 512  # tokens of a prompt read at once: bounds the memory of activations


class Decoder(Protocol):
    """Ids to text, one at a time, after the text of the prompt (`Continuation`)."""

    prompt: str

    def push(self, id: int) -> str: ...

    def finish(self) -> str: ...


@memory_for("to read this prompt")
def prefill(model: Transformer, request: Request, rows: int = 1) -> tuple[Step, Tensor]:
    """Reads the prompt. Gives the last step, whose cache has room for the whole answer, and logits (vocabulary,).

    An encoder-decoder's encoder reads the prompt, its decoder the `start` ids. `rows` is how many texts the cache is
    going to be widened to; memory for them is checked at once.
    """
    architecture = model.architecture
    device = model.embedding.tokens.weight.device
    ids = torch.tensor([request.prompt], dtype=torch.long, device=device)
    memory = None
    if architecture.encoder is not None:
        memory = model.encode(ids)
        ids = torch.tensor([request.start], dtype=torch.long, device=device)
    cache = new_cache(model, ids.shape[1] + request.max_new_tokens, rows)
    size = PIECE if architecture.can_cut_prompt else ids.shape[1]
    step = hidden = None
    for piece in ids.split(size, dim=1):
        step = Step.begin(architecture, piece, cache=cache, memory=memory)
        hidden = model.hidden(piece, step)
    assert step is not None and hidden is not None, "a request holds at least one id"
    return step, model.logits(hidden[:, -1])[0]


class Generation:
    """One request being answered; iterating it runs the model and yields an event per token.

    `decoder` turns ids into text; without one events have no text, and stop strings are refused. `completion()` is
    there once the iteration has ended.
    """

    def __init__(self, model: Transformer, request: Request, decoder: Decoder | None = None) -> None:
        if request.stop and decoder is None:
            raise UsageError("stop strings need a tokenizer, and this model has none", fix="use stop ids")
        self.model, self.request, self.decoder = model, request, decoder
        self.seed = secrets.randbits(53) if request.sampling.seed is None else request.sampling.seed
        self.events: list[Event] = []
        self._written: list[int] = []
        self._echoed = decoder.prompt if request.echo and decoder is not None else ""
        self._uniform = generator(self.seed)
        self._scanner = StopScanner(request.stop)
        self._seconds = [0.0, 0.0]
        self._running = self._run()
        self._failure: Exception | None = None

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        try:
            return next(self._running)
        except StopIteration:
            raise
        except Exception as error:  # whatever it was, asking again must not look like an end
            self._failure = error
            raise

    def completion(self) -> Completion:
        """The whole answer; runs what is left of it. A run that failed fails again, with the same error."""
        for _ in self:
            pass
        last = self.events[-1] if self.events else None
        if last is None or last.finish_reason is None:
            raise PaddockError("the generation was broken off before its end", fix="start it again")
        keep = self.request.logprobs is not None
        return Completion(
            text="".join(event.text for event in self.events),
            ids=tuple(event.token for event in self.events),
            finish_reason=last.finish_reason,
            stop_reason=last.stop_reason,
            prompt_tokens=len(self.request.prompt),
            timings=Timings(*self._seconds),
            logprobs=tuple(TokenLogprob(e.token, e.logprob, e.top) for e in self.events) if keep else None,
            traces=tuple(event.trace for event in self.events if event.trace is not None),
            seed=None if self.request.sampling.greedy else self.seed,
        )

    def _run(self) -> Iterator[Event]:
        started = time.perf_counter()
        with torch.inference_mode():
            step, logits = prefill(self.model, self.request)
        self._seconds[0] = time.perf_counter() - started
        while True:
            event = self._event(self._choose(logits))
            self.events.append(event)
            self._written.append(event.token)
            yield event
            if event.finish_reason is not None:
                return
            started = time.perf_counter()
            with torch.inference_mode():
                step, logits = advance(self.model, step, torch.tensor([[event.token]]))
                logits = logits[0]
            self._seconds[1] += time.perf_counter() - started

    def _choose(self, logits: Tensor) -> Choice:
        request, started, written = self.request, time.perf_counter(), self._written
        history = History(request.start or request.prompt, written, request.ends, request.max_new_tokens - len(written))
        choice = choose(
            logits,
            history,
            request.sampling,
            self._uniform,
            constraints=request.constraints,
            alternatives=request.logprobs or 0,
            trace=request.trace,
        )
        self._seconds[1 if written else 0] += time.perf_counter() - started
        return choice

    def _event(self, choice: Choice) -> Event:
        ended = choice.token in self.request.ends
        before = "" if self.events else self._echoed
        text = self._scanner.push(self.decoder.push(choice.token)) if self.decoder and not ended else ""
        reason: FinishReason | None = None
        if self._scanner.found is None and (ended or len(self.events) + 1 == self.request.max_new_tokens):
            if self.decoder is not None:
                text += self._scanner.push(self.decoder.finish())
            text += self._scanner.finish()
            reason = "stop" if ended else "length"
        cause: str | int | None = choice.token if ended else None
        if self._scanner.found is not None:
            reason, cause = "stop", self._scanner.found
        return Event(choice.token, before + text, choice.logprob, choice.top, choice.trace, reason, cause)


@memory_for("to write on")
def advance(model: Transformer, step: Step, tokens: Tensor) -> tuple[Step, Tensor]:
    """One more token for every row: `tokens` (batch, 1) to the step that read them and logits (batch, vocabulary)."""
    step = step.next(model.architecture)
    with threads_for(model.weight_bytes):
        hidden = model.hidden(tokens.to(step.positions.device), step)
        return step, model.logits(hidden[:, -1])
