"""From logits to what a caller sees: one request's sampler, stop strings and events."""

from __future__ import annotations

import secrets
from typing import Protocol

from torch import Tensor

from paddock.engine.grammar import Matcher
from paddock.engine.request import Event, FinishReason, Request
from paddock.engine.sampler import Choice, History, choose, generator
from paddock.engine.stopping import StopScanner
from paddock.errors import UsageError


class Decoder(Protocol):
    """Ids to text, one at a time, after the text of the prompt (`Continuation`)."""

    prompt: str
    matcher: Matcher | None

    def push(self, id: int) -> str: ...

    def finish(self) -> str: ...


class Answer:
    """What is written to one request. `take` turns the logits after all tokens so far into the next event.

    `decoder` turns ids into text; without one events have no text, and stop strings are refused.
    """

    def __init__(self, request: Request, decoder: Decoder | None = None) -> None:
        if request.stop and decoder is None:
            raise UsageError("stop strings need a tokenizer, and this model has none", fix="use stop ids")
        matcher = decoder.matcher if request.grammar is not None and decoder is not None else None
        if request.grammar is not None and matcher is None:
            raise UsageError("a grammar needs a tokenizer, and this model has none")
        self.request, self.decoder = request, decoder
        self._matcher = matcher
        self.seed = secrets.randbits(53) if request.sampling.seed is None else request.sampling.seed
        self.written: list[int] = []
        self._read = request.start or request.prompt
        self._echoed = decoder.prompt if request.echo and decoder is not None else ""
        self._uniform = generator(self.seed)
        self._scanner = StopScanner(request.stop)

    def take(self, logits: Tensor) -> Event:
        """Chooses one token by the model's `logits` (vocabulary,). Raises what `choose` does, and UsageError for a
        grammar that is too much work at this step."""
        request, written = self.request, self.written
        left = request.max_new_tokens - len(written)
        settled = request.constraints.forced(len(written), left) is not None
        allowed = None
        if self._matcher is not None and not settled:
            allowed = self._matcher.allowed(len(logits), request.ends)
        choice = choose(
            logits,
            History(self._read, written, request.ends, left),
            request.sampling,
            self._uniform,
            constraints=request.constraints,
            allowed=allowed,
            alternatives=request.logprobs or 0,
            trace=request.trace,
        )
        self._follow(choice.token, settled)
        event = self._event(choice)
        written.append(choice.token)
        return event

    def _follow(self, token: int, settled: bool) -> None:
        """Tells the grammar of a token; of a settled one only if it stands for text (BART's first id does not)."""
        matcher = self._matcher
        if matcher is not None and token not in self.request.ends and (not settled or matcher.holds_text(token)):
            matcher.advance(token)

    def _event(self, choice: Choice) -> Event:
        ended = choice.token in self.request.ends
        before = "" if self.written else self._echoed
        text = self._scanner.push(self.decoder.push(choice.token)) if self.decoder and not ended else ""
        reason = self._ending(ended)
        if reason is not None and self._scanner.found is None:
            if self.decoder is not None:
                text += self._scanner.push(self.decoder.finish())
            text += self._scanner.finish()
        cause: str | int | None = choice.token if ended else None
        if self._scanner.found is not None:
            reason, cause = "stop", self._scanner.found
        return Event(choice.token, before + text, choice.logprob, choice.top, choice.trace, reason, cause)

    def _ending(self, ended: bool) -> FinishReason | None:
        """Why the answer ends with this token, but for stop strings. An end before the grammar's own is a cut."""
        matcher, count = self._matcher, len(self.written) + 1
        if ended:
            return "stop" if matcher is None or matcher.may_end else "length"
        if matcher is not None and matcher.finished and count >= self.request.constraints.min_new_tokens:
            return "stop"
        return "length" if count == self.request.max_new_tokens else None
