"""What every objective does with samples before it hides anything."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from paddock.data.samples import Sample
from paddock.errors import DataError

STEP = 8  # rows are as wide as the longest of a batch needs, in steps of this


def stripped(text: np.ndarray, marks: Sequence[int]) -> np.ndarray:
    """A document without the marks (BOS, EOS, [CLS], [SEP]) at its ends: an objective writes its own."""
    inside = np.flatnonzero(~np.isin(text, marks))
    return text[inside[0] : inside[-1] + 1].astype(np.int64) if len(inside) else text[:0].astype(np.int64)


def joined(sample: Sample, marks: Sequence[int], between: int | None, most: int) -> np.ndarray:
    """A row's documents as one text, as T5 and GLM read them, with `between` where one ends and the next begins.

    Raises DataError for a sample of more than `most` tokens.
    """
    check_length(sample, most)
    texts = [text for text in (stripped(text, marks) for text in sample.texts) if len(text)]
    if between is None:
        return np.concatenate(texts) if texts else np.zeros(0, np.int64)
    apart = np.array([between], np.int64)
    pieces = [piece for text in texts for piece in (apart, text)][1:]
    return np.concatenate(pieces)[:most] if pieces else np.zeros(0, np.int64)


def check_length(sample: Sample, most: int) -> None:
    """Raises DataError for a sample that the objective's rows cannot hold."""
    found = sum(len(text) for text in sample.texts)
    if found > most:
        raise DataError(
            f"sample {sample.place} has {found} tokens, and a row of this objective has room for {most}",
            fix="cut documents into samples of at most the objective's `takes` tokens",
        )


def table(rows: Sequence[np.ndarray], width: int, fill: int) -> Tensor:
    """(rows, width) int64, `fill` after the end of each row."""
    result = np.full((len(rows), width), fill, np.int64)
    for number, row in enumerate(rows):
        result[number, : len(row)] = row
    return torch.from_numpy(result)


def width(longest: int, most: int) -> int:
    """How wide rows are whose longest has so many tokens, and which may have `most`."""
    return min(most, -(-longest // STEP) * STEP)


def real(rows: Sequence[np.ndarray], width: int) -> Tensor | None:
    """(rows, width) True where a row has a token; None where all are full. A row without any shows its first."""
    lengths = torch.tensor([max(1, len(row)) for row in rows])
    return None if bool((lengths == width).all()) else torch.arange(width) < lengths[:, None]


def composition(total: int, parts: int, random: np.random.Generator) -> np.ndarray:
    """`total` cut into `parts` lengths of at least 1, each way as likely as any other. (parts,)"""
    cuts = np.sort(random.permutation(total - 1)[: parts - 1]) + 1
    return np.diff(np.concatenate(([0], cuts, [total])))


def placed(lengths: np.ndarray, total: int, random: np.random.Generator) -> np.ndarray:
    """Spans of these lengths in a text of `total` tokens: (spans, 2), where each starts and stops, in order.

    Between two lies at least one token; every way to place them is as likely as any other.
    """
    before = np.cumsum(lengths) - lengths
    starts = before + np.sort(random.permutation(total - int(lengths.sum()) + 1)[: len(lengths)])
    return np.stack((starts, starts + lengths), 1)
