"""From logits to what a caller sees: one request's sampler, stop strings and events."""

from __future__ import annotations

import secrets
from typing import Protocol

from torch import Tensor

from paddock.engine.request import Event, FinishReason, Request
from paddock.engine.sampler import Choice, History, choose, generator
from paddock.engine.stopping import StopScanner
from paddock.errors import UsageError


class Decoder(Protocol):
    """Ids to text, one at a time, after the text of the prompt (`Continuation`)."""

    prompt: str

    def push(self, id: int) -> str: ...

    def finish(self) -> str: ...


class Answer:
    """What is written to one request. `take` turns the logits after all tokens so far into the next event.

    `decoder` turns ids into text; without one events have no text, and stop strings are refused.
    """

    def __init__(self, request: Request, decoder: Decoder | None = None) -> None:
        if request.stop and decoder is None:
            raise UsageError("stop strings need a tokenizer, and this model has none", fix="use stop ids")
        self.request, self.decoder = request, decoder
        self.seed = secrets.randbits(53) if request.sampling.seed is None else request.sampling.seed
        self.written: list[int] = []
        self._read = request.start or request.prompt
        self._echoed = decoder.prompt if request.echo and decoder is not None else ""
        self._uniform = generator(self.seed)
        self._scanner = StopScanner(request.stop)

    def take(self, logits: Tensor) -> Event:
        """Chooses one token by the model's `logits` (vocabulary,). Raises what `choose` does."""
        request, written = self.request, self.written
        choice = choose(
            logits,
            History(self._read, written, request.ends, request.max_new_tokens - len(written)),
            request.sampling,
            self._uniform,
            constraints=request.constraints,
            alternatives=request.logprobs or 0,
            trace=request.trace,
        )
        event = self._event(choice)
        written.append(choice.token)
        return event

    def _event(self, choice: Choice) -> Event:
        ended = choice.token in self.request.ends
        before = "" if self.written else self._echoed
        text = self._scanner.push(self.decoder.push(choice.token)) if self.decoder and not ended else ""
        reason: FinishReason | None = None
        if self._scanner.found is None and (ended or len(self.written) + 1 == self.request.max_new_tokens):
            if self.decoder is not None:
                text += self._scanner.push(self.decoder.finish())
            text += self._scanner.finish()
            reason = "stop" if ended else "length"
        cause: str | int | None = choice.token if ended else None
        if self._scanner.found is not None:
            reason, cause = "stop", self._scanner.found
        return Event(choice.token, before + text, choice.logprob, choice.top, choice.trace, reason, cause)
