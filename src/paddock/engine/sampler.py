"""The only place where a token is chosen.

Stages, in this order, each skipped where its setting is neutral:

    1. logit_bias              added to the raw logits
    2. repetition_penalty      over prompt and written ids: positive logits divided, others multiplied (1909.05858)
    3. frequency, presence     over written ids only: minus frequency * count, minus presence (OpenAI's rule)
    4. constraints             forbidden ids to minus infinity, and those that a grammar does not allow
    5. temperature             logits divided by it; 0 takes the highest now and skips the rest
    6. top_k                   the k highest, and what equals the k-th
    7. top_p                   likeliest first, while the mass before a token is below p (arXiv 1904.09751)
    8. min_p                   what is at least min_p times as likely as the likeliest (arXiv 2407.01082)
    9. typical_p               nearest to the distribution's entropy first, to that mass (arXiv 2202.00666)
   10. draw                    one uniform number, looked up in the cumulated probabilities

Penalties come first because they are defined on raw logits; the filters follow the order of Hugging Face transformers,
each over the renormalised survivors of the last, so settings published for it mean the same here. From 5 on all is
float64. The draw runs down the candidates from likely to unlikely, equal ones by lower id: it depends on nothing but
these logits and the request's own generator, so a batch changes nothing.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from paddock.engine.constraints import Constraints
from paddock.engine.sampling import Sampling
from paddock.errors import PaddockError, UsageError
from paddock.kernels.native import library

TRACED = 10  # candidates kept per stage of a trace
SPAN = 8.0  # tokens up to e^SPAN times less likely than the likeliest hold nearly all draws and nuclei


@dataclass(frozen=True)
class History:
    """What was read and written before this step; `left` more ids may be written, `ends` are those that end a text."""

    prompt: Sequence[int] = ()
    written: Sequence[int] = ()
    ends: Sequence[int] = ()
    left: int = 2**31


@dataclass(frozen=True)
class Stage:
    """What one stage left: how many candidates, and the likeliest as (id, probability)."""

    name: str
    survivors: int
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Trace:
    """One step in full. `draw` is the uniform number, None if greedy.

    `probability` is the chosen token's at the end, `raw` its probability before anything was changed. `below` is what
    all candidates before it have together: below <= draw < below + probability.
    """

    stages: tuple[Stage, ...]
    draw: float | None
    below: float
    probability: float
    token: int
    raw: float = 0.0


@dataclass(frozen=True)
class Choice:
    """A token, its log-probability in the model's raw distribution, and the likeliest (id, log-probability) there."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    trace: Trace | None = None


@dataclass(frozen=True, eq=False)
class Candidates:
    """Tokens still in the running, likeliest first (equal ones by lower id): ids (n,), logits (n,) float64."""

    ids: Tensor
    logits: Tensor

    @property
    def probabilities(self) -> Tensor:
        return self.logits.softmax(0)

    def keep(self, mask: Tensor) -> Candidates:
        return Candidates(self.ids[mask], self.logits[mask])


def generator(seed: int) -> random.Random:
    """A request's own stream of uniform numbers; Python promises the same numbers for a seed in every version."""
    return random.Random(seed)  # noqa: S311 - meant to be repeatable


def choose(
    logits: Tensor,
    history: History,
    sampling: Sampling,
    uniform: random.Random,
    *,
    constraints: Constraints | None = None,
    allowed: npt.NDArray[np.bool_] | None = None,
    alternatives: int = 0,
    trace: bool = False,
) -> Choice:
    """Picks the next token from the model's `logits` (vocabulary,).

    `allowed` (vocabulary,): the only ids that may come, where a grammar says so. `uniform` is used once, and not at all
    if greedy. `alternatives` asks for that many of the likeliest tokens.
    Raises UsageError where constraints leave nothing to choose, PaddockError for logits that are not numbers
    (NaN, or plus infinity).
    """
    raw = logits.detach().float().cpu()
    if not raw.numpy().max() < float("inf"):  # the maximum of a row with a NaN is NaN
        raise PaddockError("the model computed logits that are not numbers", fix="load it with dtype='float32'")
    scores = adjust(raw.clone(), history, sampling, constraints or Constraints())
    stages = [_stage("raw", _ranked(raw))] if trace else None
    if stages is not None and not torch.equal(scores, raw):
        stages.append(_stage("penalties", _ranked(scores)))
    if allowed is not None:
        scores.numpy()[~allowed] = -np.inf
        if stages is not None:
            stages.append(_stage("grammar", _ranked(scores)))
    drawn = None
    if sampling.greedy:
        token = _likeliest(scores)
        drawn = None if stages is None else Trace(tuple(stages), None, 0.0, 1.0, token)
    else:
        number = uniform.random()
        quick = _drawn_plainly(scores, sampling, number) if stages is None else None
        token, drawn = _draw(distribution(scores, sampling, stages), number, stages) if quick is None else (quick, None)
    logprobs = raw.log_softmax(0)
    if drawn is not None:
        drawn = replace(drawn, raw=math.exp(logprobs[token]))
    return Choice(token, float(logprobs[token]), top_of(logprobs, alternatives), drawn)


def adjust(scores: Tensor, history: History, sampling: Sampling, constraints: Constraints) -> Tensor:
    """Stages 1 to 4 on `scores` (vocabulary,), changed in place and returned. Beam search uses them too."""
    if sampling.logit_bias:
        biases = list(sampling.logit_bias.values())
        scores[list(sampling.logit_bias)] += torch.tensor(biases, dtype=scores.dtype, device=scores.device)
    if sampling.repetition_penalty != 1.0 and (seen := sorted({*history.prompt, *history.written})):
        values = scores[seen]
        factor = sampling.repetition_penalty
        scores[seen] = torch.where(values < 0, values * factor, values / factor)
    if history.written and (sampling.frequency_penalty or sampling.presence_penalty):
        counts = Counter(history.written)
        penalty = [sampling.frequency_penalty * count + sampling.presence_penalty for count in counts.values()]
        scores[list(counts)] -= torch.tensor(penalty, dtype=scores.dtype, device=scores.device)
    constraints.apply(scores, history.prompt, history.written, history.ends, history.left)
    return scores


def top_of(logprobs: Tensor, count: int) -> tuple[tuple[int, float], ...]:
    """The `count` likeliest (id, log-probability), likeliest first."""
    if not count:
        return ()
    values, ids = logprobs.topk(min(count, len(logprobs)))
    return tuple(zip(ids.tolist(), values.tolist(), strict=True))


def _likeliest(scores: Tensor) -> int:
    values = scores.numpy()
    token = int(values.argmax())  # of equals the lowest id
    if values[token] == float("-inf"):
        raise nothing_left()
    return token


def nothing_left() -> UsageError:
    """The refusal of a step at which no token may be chosen."""
    return UsageError(
        "every token is forbidden at this step",
        fix="loosen logit_bias, bad_words_ids, suppress_tokens, no_repeat_ngram_size or the grammar",
    )


def _ranked(scores: Tensor, highest: int = 0) -> Candidates:
    """All possible tokens likeliest first; only the `highest`, and what equals the last of them, if given."""
    mask = scores > float("-inf")
    if highest:
        mask &= scores >= _kth(scores, min(highest, len(scores)))
    ids = mask.nonzero().squeeze(1)
    if not len(ids):
        raise nothing_left()
    logits, order = scores[ids].sort(descending=True, stable=True)
    return Candidates(ids[order], logits.double())


def _kth(scores: Tensor, k: int) -> float:
    """The k-th highest of the scores."""
    module = library()
    return float(scores.topk(k).values[-1] if module is None else module.top_k(scores.numpy(), k)[1][-1])


def _top_k(candidates: Candidates, k: float) -> Candidates:
    last = candidates.logits[min(int(k), len(candidates.logits)) - 1]
    return candidates.keep(candidates.logits >= last)


def _top_p(candidates: Candidates, p: float) -> Candidates:
    probabilities = candidates.probabilities
    return candidates.keep(probabilities.cumsum(0) - probabilities < p)


def _min_p(candidates: Candidates, p: float) -> Candidates:
    probabilities = candidates.probabilities
    return candidates.keep(probabilities >= p * probabilities[0])


def _typical_p(candidates: Candidates, mass: float) -> Candidates:
    logprobs = candidates.logits.log_softmax(0)
    probabilities = logprobs.exp()
    entropy = -(logprobs * probabilities).sum()
    oddness, order = (-logprobs - entropy).abs().sort(stable=True)
    last = min(int((probabilities[order].cumsum(0) < mass).sum()), len(oddness) - 1)
    return candidates.keep((-logprobs - entropy).abs() <= oddness[last])


Filter = tuple[str, float, Callable[[Candidates, float], Candidates]]
FILTERS: tuple[Filter, ...] = (
    ("top_k", 0, _top_k),
    ("top_p", 1.0, _top_p),
    ("min_p", 0.0, _min_p),
    ("typical_p", 1.0, _typical_p),
)


def distribution(scores: Tensor, sampling: Sampling, stages: list[Stage] | None = None) -> Candidates:
    """Stages 5 to 9: what may be drawn, from adjusted `scores` (vocabulary,). Each stage is noted in `stages`."""
    # Sorting a vocabulary takes longer than all else here. Dividing keeps the order, so without a trace the unlikely
    # ones need not be sorted where a filter drops them anyway.
    if stages is None and not sampling.top_k:
        if sampling.top_p < 1 and (nucleus := _nucleus(scores, sampling)) is not None:
            return _filtered(nucleus, sampling, FILTERS[2:], None)
        if sampling.top_p == 1 and sampling.min_p > 0:
            likely = _head(scores, sampling.temperature, -math.log(sampling.min_p) + 1e-6)
            return _filtered(likely, sampling, FILTERS[2:], None)
    candidates = _ranked(scores, sampling.top_k if stages is None else 0)
    if sampling.temperature != 1.0:
        candidates = Candidates(candidates.ids, candidates.logits / sampling.temperature)
        if stages is not None:
            stages.append(_stage("temperature", candidates))
    return _filtered(candidates, sampling, FILTERS, stages)


def _filtered(
    candidates: Candidates, sampling: Sampling, filters: Sequence[Filter], stages: list[Stage] | None
) -> Candidates:
    for name, neutral, stage in filters:
        setting = getattr(sampling, name)
        if setting != neutral:
            candidates = stage(candidates, setting)
            if stages is not None:
                stages.append(_stage(name, candidates))
    return candidates


def _head(scores: Tensor, temperature: float, span: float) -> Candidates:
    """What is at most e^span times less likely than the likeliest; its logits are divided and begin with 0."""
    values = scores.numpy()
    top = values.max()
    if top == float("-inf"):
        raise nothing_left()
    # A margin for the rounding of float32; what it adds is real, and whoever calls this filters exactly.
    ids = np.flatnonzero(values >= top - np.float32(span * temperature * (1 + 1e-5)))
    logits = values[ids].astype(np.float64)
    order = np.argsort(-logits, kind="stable")
    logits = (logits[order] - float(top)) / temperature
    return Candidates(torch.from_numpy(ids[order]), torch.from_numpy(logits))


def _mass(scores: Tensor, temperature: float) -> float:
    """The sum of all exponentials, that of the likeliest being 1."""
    values = scores.numpy()
    if (module := library()) is not None:
        return module.mass(values, float(values.max()), temperature)
    exact = values.astype(np.float64)
    with np.errstate(over="ignore"):  # a temperature near 0 sends the unlikely to minus infinity
        return float(np.exp((exact - exact.max()) / temperature).sum())


def _nucleus(scores: Tensor, sampling: Sampling) -> Candidates | None:
    """What temperature and top_p leave, if the likeliest tokens are enough to tell."""
    head = _head(scores, sampling.temperature, SPAN)
    probabilities = head.logits.exp() / _mass(scores, sampling.temperature)
    kept = probabilities.cumsum(0) - probabilities < sampling.top_p
    return None if bool(kept.all()) else head.keep(kept)


def _drawn_plainly(scores: Tensor, sampling: Sampling, uniform: float) -> int | None:
    """The token of a draw from all tokens, where it is one of the likeliest: the others need not be sorted."""
    if sampling.top_k or sampling.top_p < 1 or sampling.min_p > 0 or sampling.typical_p < 1:
        return None
    head = _head(scores, sampling.temperature, SPAN)
    cumulated = head.logits.exp().cumsum(0).numpy()
    place = int(np.searchsorted(cumulated, uniform * _mass(scores, sampling.temperature), side="right"))
    return int(head.ids[place]) if place < len(cumulated) else None


def _draw(candidates: Candidates, uniform: float, stages: list[Stage] | None) -> tuple[int, Trace | None]:
    probabilities = candidates.probabilities
    cumulated = probabilities.cumsum(0)
    # The sum may end a rounding error away from 1: measured against it, no draw falls outside.
    target = torch.tensor(uniform, dtype=torch.float64) * cumulated[-1]
    place = min(int(torch.searchsorted(cumulated, target, right=True)), len(cumulated) - 1)
    token = int(candidates.ids[place])
    if stages is None:
        return token, None
    below = float(cumulated[place - 1]) if place else 0.0
    return token, Trace(tuple(stages), uniform, below, float(probabilities[place]), token)


def _stage(name: str, candidates: Candidates) -> Stage:
    top = zip(candidates.ids[:TRACED].tolist(), candidates.probabilities[:TRACED].tolist(), strict=True)
    return Stage(name, len(candidates.ids), tuple(top))
