"""What quantising cost: both models read the same text, and their predictions are compared token by token."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paddock.engine.language_model import LanguageModel
from paddock.errors import DataError, PaddockError, UnsupportedError
from paddock.kernels.threads import threads_for

PROSE = Path(__file__).with_name("text") / "prose.txt"
WINDOW = 512  # tokens read at a time
SCORED = 4096  # tokens of a text that are scored, in windows spread over it
CALIBRATED = 16384  # tokens of a calibration text that are read
ROWS = 64  # logits compared at a time, in float64
PROMPT, ANSWER = 256, 32  # tokens of the measurement of speed

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Text:
    """Windows of ids, equally long, each opened by what the model puts before a text (`opening` ids)."""

    name: str
    sha256: str
    windows: list[list[int]]
    opening: int


@dataclass(frozen=True)
class Comparison:
    """Perplexities with standard errors, KL divergence (nats), share of equal likeliest tokens, over `tokens`."""

    tokens: int
    before: tuple[float, float]
    after: tuple[float, float]
    kl_mean: float
    kl_p99: float
    top1: float


def check_predicts(model: LanguageModel) -> None:
    """Raises UnsupportedError for a model whose next token nothing can be compared by."""
    part = model.architecture
    if not part.generates or part.encoder is not None or not part.can_cut_prompt:
        raise UnsupportedError(
            f"a {part.family} model does not predict a text token by token, so there is no quality to measure",
            fix="--no-card writes it without a quality card",
        )


def windows_of(model: LanguageModel, text: str, name: str, limit: int = SCORED) -> Text:
    """The text as windows for `model`, at most `limit` tokens, spread evenly. Raises DataError for too short a text."""
    tokenizer = model.tokenizer
    before = list(tokenizer.before)
    ids = tokenizer.encode(text, add_special=False)
    room = min(WINDOW, model.architecture.context or WINDOW) - len(before)
    size = min(room, len(ids))
    if size < 2:
        raise DataError(f"{name} has {len(ids)} tokens", expected="at least 2", fix="take a longer text")
    whole = len(ids) // size
    chosen = min(whole, max(1, limit // size))
    starts = [size * (index * whole // chosen) for index in range(chosen)]
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    return Text(name, digest, [before + ids[start : start + size] for start in starts], len(before))


def compare(before: LanguageModel, after: LanguageModel, text: Text, progress: Progress | None = None) -> Comparison:
    """Reads every window with both models. Raises PaddockError for logits that are not numbers."""
    parts: list[tuple[Tensor, ...]] = []
    for done, window in enumerate(text.windows, 1):
        first = max(text.opening, 1)
        parts += _scores(before, after, window, first)
        if progress is not None:
            progress(done, len(text.windows))
    old, new, divergence, equal = (torch.cat(column) for column in zip(*parts, strict=True))
    if not (old.isfinite().all() and new.isfinite().all() and divergence.isfinite().all()):
        raise PaddockError("the logits of one of the models are not numbers", fix="try another kind, such as q8_0")
    return Comparison(
        old.numel(),
        _perplexity(old),
        _perplexity(new),
        divergence.mean().item(),
        divergence.quantile(0.99).item(),
        equal.double().mean().item(),
    )


def _scores(
    before: LanguageModel, after: LanguageModel, window: Sequence[int], first: int
) -> Iterator[tuple[Tensor, ...]]:
    """Per scored token: loss before and after, divergence, whether both find the same token likeliest."""
    with threads_for(before.model.weight_bytes):
        logits = [model.logits(window[:-1])[first - 1 :].cpu() for model in (before, after)]
    targets = torch.tensor(window[first:])
    for old, new, wanted in zip(*(part.split(ROWS) for part in (*logits, targets)), strict=True):
        p, q = old.double().log_softmax(-1), new.double().log_softmax(-1)
        losses = [-part.gather(1, wanted[:, None])[:, 0] for part in (p, q)]
        yield *losses, (p.exp() * (p - q)).sum(-1).clamp(min=0), old.argmax(-1) == new.argmax(-1)


def _perplexity(losses: Tensor) -> tuple[float, float]:
    """exp of the mean loss, and its standard error with tokens taken as independent."""
    value = math.exp(min(losses.mean().item(), 700.0))
    error = losses.std().item() / math.sqrt(losses.numel()) if losses.numel() > 1 else 0.0
    return value, value * error


def speeds(model: LanguageModel, text: Text) -> tuple[float, float]:
    """Tokens per second of a prompt and of an answer, one request alone, after a first run to warm up."""
    room = model.architecture.context or PROMPT + ANSWER
    answer = max(2, min(ANSWER, room // 2))
    prompt = text.windows[0][: max(1, min(PROMPT, room - answer))]
    wanted: dict[str, Any] = {"max_new_tokens": answer, "min_new_tokens": answer, "temperature": 0}
    model.generate(prompt, **wanted)
    started = time.perf_counter()
    times = [time.perf_counter() for _ in model.stream(prompt, **wanted)]
    rest = times[-1] - times[0]
    return len(prompt) / (times[0] - started), (len(times) - 1) / rest if rest > 0 else 0.0
