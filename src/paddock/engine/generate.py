"""One request being answered, and the two forwards that beam search is made of.

prompt ids ── prefill (pieces of 512) ──> contiguous cache + last logits ── advance, advance, ... (beam search)
request ── Generation ──> events, a token at a time, from the engine's steps
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import torch
from torch import Tensor

from paddock.engine.answer import Decoder
from paddock.engine.carrying import Adapter
from paddock.engine.engine import Engine
from paddock.engine.memory import PIECE, memory_for, new_cache
from paddock.engine.request import Completion, Event, Request, Timings, TokenLogprob
from paddock.engine.runners import engine_for
from paddock.engine.speculative import Speculator
from paddock.errors import PaddockError
from paddock.kernels.threads import threads_for
from paddock.model.step import Step
from paddock.model.transformer import Transformer


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


@memory_for("to write on")
def advance(model: Transformer, step: Step, tokens: Tensor) -> tuple[Step, Tensor]:
    """One more token for every row: `tokens` (batch, 1) to the step that read them and logits (batch, vocabulary)."""
    step = step.next(model.architecture)
    with threads_for(model.weight_bytes):
        hidden = model.hidden(tokens.to(step.positions.device), step)
        return step, model.logits(hidden[:, -1])


class Generation:
    """One request being answered; iterating it takes the engine's steps and yields an event per token.

    It begins with the first event asked for, and belongs to one thread; the engine may be shared by many.
    `completion()` is there once the iteration has ended. `close()`, or dropping it, gives its memory back.
    `decoder` turns ids into text; without one events have no text, and stop strings are refused.
    """

    def __init__(
        self,
        model: Transformer | Engine,
        request: Request,
        decoder: Decoder | None = None,
        speculator: Speculator | None = None,
        adapter: Adapter | None = None,
    ) -> None:
        self.engine = model if isinstance(model, Engine) else engine_for(model)
        self.request, self.decoder = request, decoder
        self.events: list[Event] = []
        self._task = self.engine.task(request, decoder, speculator, adapter)
        self.seed = self._task.answer.seed
        self._begun = self._closed = False
        self._closing = weakref.finalize(self, self.engine.drop, self._task)
        self._closing.atexit = False

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        task = self._task
        if self._closed:
            raise StopIteration
        if not self._begun:
            self._begun = True
            self.engine.submit(task)
        if not task.events:
            self.engine.wait(task)
        if task.events:
            event = task.events.popleft()
            self.events.append(event)
            return event
        if task.failure is not None:
            raise task.failure.with_traceback(None)
        raise StopIteration

    def close(self) -> None:
        """Breaks the answer off, if it has not ended; what it held of the cache is free within a step."""
        self._closed = True
        self._closing.detach()
        self.engine.cancel(self._task)

    def completion(self) -> Completion:
        """The whole answer; runs what is left of it. A run that failed fails again, with the same error."""
        for _ in self:
            pass
        last = self.events[-1] if self.events else None
        if last is None or last.finish_reason is None:
            raise PaddockError("the generation was broken off before its end", fix="start it again")
        task, keep = self._task, self.request.logprobs is not None
        return Completion(
            text="".join(event.text for event in self.events),
            ids=tuple(event.token for event in self.events),
            finish_reason=last.finish_reason,
            stop_reason=last.stop_reason,
            prompt_tokens=len(self.request.prompt),
            timings=Timings(*task.seconds),
            logprobs=tuple(TokenLogprob(e.token, e.logprob, e.top) for e in self.events) if keep else None,
            traces=tuple(event.trace for event in self.events if event.trace is not None),
            seed=None if self.request.sampling.greedy else self.seed,
            cached_tokens=task.sequence.reused or 0,
            proposed_tokens=task.proposed,
            accepted_tokens=task.accepted,
        )
