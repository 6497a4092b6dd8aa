"""What a model knows by heart (Pythia, arXiv 2304.01373 and 2304.11158).

A sequence of the training data is (k, l)-extractable where the model, given its first k tokens, goes on greedily with
exactly the l that follow. Its score is the share of those l tokens that are right at their place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats

from paddock.model.cache import Cache
from paddock.model.step import Step
from paddock.model.transformer import Transformer

ROWS = 64  # sequences that go through a model at once


def scores(
    model: Transformer, sequences: np.ndarray, k: int, tell: Callable[[int, int], None] = lambda done, of: None
) -> np.ndarray:
    """The score (n,) of each of sequences (n, k + l), in the model's own type; float32 keeps greedy choices exact."""
    found = []
    for start in range(0, len(sequences), ROWS):
        rows = torch.from_numpy(sequences[start : start + ROWS].astype(np.int64))
        found.append((_greedy(model, rows[:, :k], rows.shape[1] - k) == rows[:, k:]).double().mean(1).numpy())
        tell(min(start + ROWS, len(sequences)), len(sequences))
    return np.concatenate(found) if found else np.zeros(0)


@torch.inference_mode()
def _greedy(model: Transformer, prompts: torch.Tensor, count: int) -> torch.Tensor:
    """The likeliest `count` tokens after prompts (rows, k), one after another."""
    rows, k = prompts.shape
    weight = next(model.parameters())
    cache = Cache(model.architecture, rows, k + count, weight.dtype, weight.device)
    step, ids, written = Step.begin(model.architecture, prompts, cache=cache), prompts, []
    for _ in range(count):
        ids = model.logits(model.hidden(ids, step)[:, -1:]).argmax(-1)
        written.append(ids)
        step = step.next(model.architecture)
    return torch.cat(written, dim=1)


@dataclass(frozen=True)
class Agreement:
    """How well one model foretells what another knows by heart."""

    memorised: int  # by the one that foretells
    both: int
    precision: float | None  # None where nothing was foretold, or there was nothing to foretell
    recall: float | None
    false_positive_rate: float | None


def agreement(earlier: np.ndarray, later: np.ndarray) -> Agreement:
    """`earlier` and `later`: scores (n,) of the same sequences by two models."""
    foretold, true = earlier == 1.0, later == 1.0
    both = int((foretold & true).sum())
    return Agreement(
        memorised=int(foretold.sum()),
        both=both,
        precision=_share(both, int(foretold.sum())),
        recall=_share(both, int(true.sum())),
        false_positive_rate=_share(int((foretold & ~true).sum()), int((~true).sum())),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


@dataclass(frozen=True)
class Dispersion:
    """Whether memorised sequences lie in the order of training as chance would lay them (a Poisson process).

    ratio: variance over mean of the counts per window, 1 for a Poisson process. p: how likely a Poisson process is to
    be at least as far from 1 as this, either way; None where nothing is memorised.
    """

    counts: tuple[int, ...]
    ratio: float | None
    p: float | None


def dispersion(memorised: Sequence[bool] | np.ndarray, windows: int) -> Dispersion:
    """`memorised` in the order of training, cut into `windows` windows of equal length."""
    usable = len(memorised) // windows * windows
    counts = np.asarray(memorised[:usable], dtype=bool).reshape(windows, -1).sum(1)
    mean = counts.mean()
    if mean == 0 or windows < 2:
        return Dispersion(tuple(counts.tolist()), None, None)
    statistic = float(((counts - mean) ** 2).sum() / mean)
    low, high = stats.chi2.cdf(statistic, windows - 1), stats.chi2.sf(statistic, windows - 1)
    return Dispersion(tuple(counts.tolist()), statistic / (windows - 1), float(min(1.0, 2 * min(low, high))))
