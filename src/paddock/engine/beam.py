"""Beam search: the few best continuations kept side by side, without chance.

Every step scores all tokens after each of `num_beams` running texts and keeps the best. A text ends with an end token
or at the limit and is then scored

    sum of its log-probabilities / length ** length_penalty        (length: new tokens, the end token included)

so a penalty above 0 favours long texts and 0 compares plain sums. Log-probabilities are the model's after penalties and
constraints. `early_stopping` says when the search ends, as in Hugging Face transformers:

    True      as soon as num_beams texts have ended
    False     when the best running text, if it ended now, would not beat the worst of num_beams ended ones
    "never"   when no running text could still beat it at any length up to the limit

Only a candidate among the num_beams best of its step may end; twice as many (more with several end tokens) are looked
at, so that enough are left to go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from paddock.engine.defaults import Search
from paddock.engine.generate import Decoder, advance, prefill
from paddock.engine.memory import memory_for
from paddock.engine.request import Completion, Event, FinishReason, Request, Timings, TokenLogprob
from paddock.engine.sampler import History, adjust, nothing_left, top_of
from paddock.errors import PaddockError, UsageError
from paddock.model.step import Step
from paddock.model.transformer import Transformer


@dataclass(frozen=True)
class Hypothesis:
    """A text under search: its new tokens, the sum of their log-probabilities, the running row it continues."""

    tokens: tuple[TokenLogprob, ...]
    total: float
    row: int = 0
    ended: bool = False
    score: float = 0.0

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(token.token for token in self.tokens)


class BeamSearch:
    """One request searched for its best answers. Nothing is certain before the end, so all events come at once.

    `decoder` makes a fresh one for each answer.
    """

    def __init__(
        self, model: Transformer, request: Request, search: Search, decoder: Callable[[], Decoder | None] | None = None
    ) -> None:
        if request.stop:
            raise UsageError("beam search knows no stop strings", fix="use num_beams=1, or cut the text yourself")
        if request.trace:
            raise UsageError("beam search makes no random choices to trace", fix="use num_beams=1")
        self.model, self.request, self.search, self.decoder = model, request, search, decoder
        self._seconds = [0.0, 0.0]
        self._finished: list[Hypothesis] | None = None
        self._events: Iterator[Event] | None = None

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        if self._events is None:
            self._events = iter(self._told(self.hypotheses[0]))
        return next(self._events)

    @property
    def hypotheses(self) -> list[Hypothesis]:
        """What was found, best first; at most num_beams."""
        if self._finished is None:
            with torch.inference_mode():
                self._finished = self._search()
        return self._finished

    def completion(self) -> Completion:
        """The best answer."""
        return self.completions()[0]

    def completions(self) -> list[Completion]:
        """All answers, best first."""
        return [self._completed(hypothesis) for hypothesis in self.hypotheses]

    def _search(self) -> list[Hypothesis]:
        started = time.perf_counter()
        step, logits = prefill(self.model, self.request, rows=self.search.num_beams)
        self._seconds[0] = time.perf_counter() - started
        running, finished = [Hypothesis((), 0.0)], list[Hypothesis]()
        rows = logits.unsqueeze(0)
        while True:
            candidates = self._candidates(running, rows)
            finished = self._best_of(finished, candidates)
            running = [c for c in candidates if not c.ended][: self.search.num_beams]
            if not candidates and not finished:
                raise nothing_left()
            if not running or not self._promising(running[0], finished):
                self._seconds[1] = time.perf_counter() - started - self._seconds[0]
                return finished
            with memory_for("for so many beams"):
                step = follow(step, [hypothesis.row for hypothesis in running])
            step, rows = advance(self.model, step, torch.tensor([[h.ids[-1]] for h in running]))

    def _candidates(self, running: Sequence[Hypothesis], rows: Tensor) -> list[Hypothesis]:
        """The best continuations of all running texts, best first; logits `rows` (beams, vocabulary)."""
        raw = rows.float().cpu().log_softmax(1)
        if torch.isnan(raw).any():
            raise PaddockError("the model computed logits that are not numbers", fix="load it with dtype='float32'")
        totals = torch.stack([self._adjusted(h, raw[i]).double() + h.total for i, h in enumerate(running)])
        count = max(2, 1 + len(self.request.ends)) * self.search.num_beams
        best, places = totals.flatten().topk(min(count, totals.numel()))
        vocabulary = totals.shape[1]
        return [
            self._continued(running[place // vocabulary], place // vocabulary, place % vocabulary, total, raw)
            for total, place in zip(best.tolist(), places.tolist(), strict=True)
            if total > float("-inf")
        ]

    def _adjusted(self, hypothesis: Hypothesis, logprobs: Tensor) -> Tensor:
        request, written = self.request, hypothesis.ids
        read = request.start or request.prompt
        history = History(read, written, request.ends, request.max_new_tokens - len(written))
        return adjust(logprobs.clone(), history, request.sampling, request.constraints)

    def _continued(self, parent: Hypothesis, row: int, token: int, total: float, raw: Tensor) -> Hypothesis:
        known = TokenLogprob(token, float(raw[row, token]), top_of(raw[row], self.request.logprobs or 0))
        tokens = (*parent.tokens, known)
        ended = token in self.request.ends or len(tokens) == self.request.max_new_tokens
        return Hypothesis(tokens, total, row, ended, self._score(total, len(tokens)))

    def _score(self, total: float, length: int) -> float:
        return float(total / length**self.search.length_penalty)

    def _best_of(self, finished: list[Hypothesis], candidates: Sequence[Hypothesis]) -> list[Hypothesis]:
        new = [c for c in candidates[: self.search.num_beams] if c.ended]
        return sorted([*finished, *new], key=lambda h: -h.score)[: self.search.num_beams]

    def _promising(self, best: Hypothesis, finished: Sequence[Hypothesis]) -> bool:
        """Whether the search goes on."""
        if len(finished) < self.search.num_beams:
            return True
        if self.search.early_stopping is True:
            return False
        patient = self.search.early_stopping == "never" and self.search.length_penalty > 0
        length = self.request.max_new_tokens if patient else len(best.tokens)
        return self._score(best.total, length) > finished[-1].score

    def _told(self, hypothesis: Hypothesis) -> list[Event]:
        """A hypothesis as events; the last says why it ended."""
        ended = hypothesis.ids[-1] in self.request.ends
        reason: FinishReason = "stop" if ended else "length"
        shown = len(hypothesis.tokens) - ended
        decoder = self.decoder() if self.decoder else None
        texts = [decoder.push(id) if decoder else "" for id in hypothesis.ids[:shown]] + [""] * ended
        texts[-1] += decoder.finish() if decoder else ""
        texts[0] = (decoder.prompt if decoder and self.request.echo else "") + texts[0]
        events = [
            Event(known.token, text, known.logprob, known.top)
            for known, text in zip(hypothesis.tokens, texts, strict=True)
        ]
        cause = hypothesis.ids[-1] if ended else None
        return [*events[:-1], replace(events[-1], finish_reason=reason, stop_reason=cause)]

    def _completed(self, hypothesis: Hypothesis) -> Completion:
        events = self._told(hypothesis)
        return Completion(
            text="".join(event.text for event in events),
            ids=hypothesis.ids,
            finish_reason=events[-1].finish_reason or "length",
            stop_reason=events[-1].stop_reason,
            prompt_tokens=len(self.request.prompt),
            timings=Timings(*self._seconds),
            logprobs=hypothesis.tokens if self.request.logprobs is not None else None,
            score=hypothesis.score,
        )


def follow(step: Step, rows: Sequence[int]) -> Step:
    """The step with its texts chosen anew: text i is what text rows[i] was. All are equally long, so only the cache
    knows them apart."""
    assert step.cache is not None
    step.cache.reorder(torch.tensor(rows, dtype=torch.long, device=step.positions.device))
    positions = step.positions[:1].expand(len(rows), *step.positions.shape[1:])
    prefix = None if step.prefix is None else step.prefix[:1].expand(len(rows))
    return replace(step, positions=positions, prefix=prefix)
