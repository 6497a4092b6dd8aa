"""Perplexity: how surprised a model is by a text, as the number of tokens it was choosing between.

Two ways to cut a long text into windows the model can read:

    sliding   windows overlap; every token is scored once, each with at least `context - stride` tokens before it
    chunks    windows do not overlap; the first half of each is read only. This is what llama.cpp's `llama-perplexity`
              does, so the two numbers can be put side by side for the same file and model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from paddock.engine.language_model import LanguageModel
from paddock.engine.request import id_rows
from paddock.errors import DataError, PaddockError, UnsupportedError, UsageError

CONTEXT = 512  # llama.cpp's own default
ROWS = 128  # logits widened to float64 at a time: bounds the memory

OnWindow = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Perplexity:
    """What a text cost.

    value: exp of the mean negative log-likelihood `nll` (nats per token). stderr: of `value`, tokens taken as
    independent, as llama.cpp gives it; infinite for one token. tokens: those scored. text_tokens: all of the text's.
    left_out: tokens at the end that filled no window (chunks only). bytes: what the scored tokens spell, None for a
    model without tokenizer.
    """

    value: float
    stderr: float
    nll: float
    tokens: int
    text_tokens: int
    left_out: int
    windows: int
    context: int
    stride: int
    chunks: bool
    bytes: int | None

    @property
    def bits_per_token(self) -> float:
        return self.nll / math.log(2)

    @property
    def bits_per_byte(self) -> float | None:
        """Comparable between models of different vocabularies, as perplexity is not."""
        return self.nll * self.tokens / math.log(2) / self.bytes if self.bytes else None


class Window(NamedTuple):
    """Ids [start, stop) are read; those in [first, stop) are scored, each by the logits before it."""

    start: int
    stop: int
    first: int


def perplexity(
    model: LanguageModel,
    text: str | Sequence[int] | Tensor,
    context: int | None = None,
    stride: int | None = None,
    *,
    chunks: bool = False,
    on_window: OnWindow | None = None,
) -> Perplexity:
    """How surprised `model` is by `text`, a string or token ids (tokens,).

    context: tokens of a window, 512 (or the model's context, if that is less) unless given. stride: how far the next
    window begins, half the context unless given; smaller is slower and kinder to the model. chunks: llama.cpp's way,
    see above. on_window: called after each window with windows done, windows in all, and the value so far.

    Raises UsageError for windows that cannot be meant, DataError for a text too short for them, UnsupportedError for
    models that do not predict the next token, TokenizerError for text that cannot be encoded, ResourceError where the
    memory does not suffice, PaddockError for logits that are not numbers.
    """
    _check_predicts(model)
    context = _context(model, context)
    stride = _stride(context, stride, chunks)
    ids = _ids(model, text)
    windows = list(_chunks(len(ids), context) if chunks else _sliding(len(ids), context, stride))
    if not windows:
        least = context if chunks else 2
        raise DataError(f"the text has {len(ids)} tokens", expected=f"at least {least}", fix="take a longer text")
    tally, scored = _Tally(), 0
    for done, window in enumerate(windows, 1):
        tally.add(_losses(model, ids, window, chunks))
        scored = window.stop
        if on_window is not None:
            on_window(done, len(windows), tally.value)
    return Perplexity(
        value=tally.value,
        stderr=tally.stderr * tally.value,
        nll=tally.mean,
        tokens=tally.count,
        text_tokens=len(ids),
        left_out=len(ids) - scored,
        windows=len(windows),
        context=context,
        stride=stride,
        chunks=chunks,
        bytes=_bytes(model, [id for window in windows for id in ids[window.first : window.stop]]),
    )


class _Tally:
    """Mean and spread of losses, summed in float64."""

    def __init__(self) -> None:
        self.count, self.sum, self.squares = 0, 0.0, 0.0

    def add(self, losses: Tensor) -> None:
        self.count += losses.numel()
        self.sum += losses.sum().item()
        self.squares += losses.square().sum().item()

    @property
    def mean(self) -> float:
        return self.sum / self.count

    @property
    def value(self) -> float:
        try:
            return math.exp(self.mean)
        except OverflowError:
            return math.inf

    @property
    def stderr(self) -> float:
        """Of the mean."""
        if self.count < 2:
            return math.inf
        return math.sqrt(max(self.squares / self.count - self.mean**2, 0.0) / (self.count - 1))


def _losses(model: LanguageModel, ids: Sequence[int], window: Window, chunks: bool) -> Tensor:
    """-log p of each scored token (scored,) float64."""
    read = list(ids[window.start : window.stop])
    if chunks and (bos := _bos(model)) is not None:
        read[0] = bos
    # The last id is not read: what comes after it is not asked. A window always holds two ids at least.
    logits = model.logits(read[:-1])[window.first - window.start - 1 :]
    targets = torch.tensor(ids[window.first : window.stop], device=logits.device)
    parts = [
        -rows.double().log_softmax(-1).gather(1, wanted[:, None])[:, 0]
        for rows, wanted in zip(logits.split(ROWS), targets.split(ROWS), strict=True)
    ]
    losses = torch.cat(parts).cpu()
    if not losses.isfinite().all():
        raise PaddockError(
            "the model's logits are not numbers", fix="try dtype='float32', or look for damage with `paddock show`"
        )
    return losses


def _sliding(count: int, context: int, stride: int) -> Iterator[Window]:
    """Windows `stride` apart; each scores what those before it did not."""
    scored = 1  # nothing predicts the first id
    for start in range(0, count, stride):
        if scored >= count:
            return
        stop = min(start + context, count)
        yield Window(start, stop, scored)
        scored = stop


def _chunks(count: int, context: int) -> Iterator[Window]:
    """Windows side by side, the second half of each scored; what fills no window is left out."""
    for start in range(0, count - context + 1, context):
        yield Window(start, start + context, start + context // 2 + 1)


def _check_predicts(model: LanguageModel) -> None:
    architecture = model.architecture
    if not architecture.generates:
        raise UnsupportedError(
            f"a {architecture.family} encoder does not predict the next token, so it has no perplexity"
        )
    if architecture.encoder is not None:
        raise UnsupportedError(
            f"a {architecture.family} encoder-decoder predicts from a source text, and there is none"
        )
    if not architecture.can_cut_prompt:
        raise UnsupportedError(f"a {architecture.family} prompt sees tokens after it, so it cannot be scored")


def _context(model: LanguageModel, context: int | None) -> int:
    longest = model.architecture.context
    if context is None:
        return min(CONTEXT, longest or CONTEXT)
    _check_whole("context", context, 4)
    if longest is not None and context > longest:
        raise UsageError(f"context is {context}", expected=f"at most {longest}, this model's context")
    return context


def _stride(context: int, stride: int | None, chunks: bool) -> int:
    if chunks:
        if stride is not None:
            raise UsageError("chunks do not overlap, so they have no stride", fix="leave one of them out")
        return context
    if stride is None:
        return max(context // 2, 1)
    _check_whole("stride", stride, 1)
    if stride >= context:
        raise UsageError(f"stride is {stride}", expected=f"less than the context, {context}, so that no token is lost")
    return stride


def _check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{name} is {value!r}", expected=f"a whole number from {least} on")


def _ids(model: LanguageModel, text: str | Sequence[int] | Tensor) -> Sequence[int]:
    """The text as the model was trained to see it: BOS first where it wants one, nothing put after."""
    if not isinstance(text, str):
        rows = id_rows(text, model.architecture.vocabulary)
        if len(rows) > 1:
            raise UsageError(f"there are {len(rows)} texts", fix="give them one by one")
        return rows[0]
    if not text.strip():
        raise DataError("the text is empty", fix="take a text with words in it")
    ids = model.tokenizer.encode(text)
    return ids[: len(ids) - len(model.tokenizer.after)]


def _bos(model: LanguageModel) -> int | None:
    try:
        tokenizer = model.tokenizer
    except PaddockError:
        return None
    return tokenizer.bos_id if tokenizer.adds_bos else None


def _bytes(model: LanguageModel, ids: Sequence[int]) -> int | None:
    try:
        tokenizer = model.tokenizer
    except PaddockError:
        return None
    sizes = {id: len(tokenizer.bytes_of(id)) for id in set(ids)}
    return sum(sizes[id] for id in ids)
