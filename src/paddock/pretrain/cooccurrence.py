"""Token vectors that begin from which tokens stand near which, instead of from chance: `vectors: cooccurrence`.

A masked-word model spends its first epochs on finding out which words are alike, and counting says it at once: pairs
within a window, nearer ones weighing more; positive pointwise mutual information with the contexts' distribution
smoothed; the leading singular vectors, times the roots of their values (Levy, Goldberg and Dagan 2015; found by random
projection, arXiv 0909.4061). An output bias begins as the logarithm of each token's frequency.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from paddock.data.samples import Table
from paddock.errors import UsageError
from paddock.model.initialise import First
from paddock.model.transformer import Transformer

VECTORS, BIAS = "embedding.tokens.weight", "head.bias"
WINDOW = 6  # a pair d tokens apart counts (WINDOW + 1 - d) / WINDOW
SMOOTHING = 0.75
DEVIATION = 0.05  # of the vectors' numbers: about what trained BERTs come to
MOST = 16384  # tokens: a table of all pairs is held, 1 GiB then
CHUNK = 1 << 20  # tokens counted at once
EXTRA, ROUNDS = 32, 3  # of the decomposition: directions beyond those asked for, and power iterations


def first_vectors(first: First, model: Transformer, tables: Iterable[Table], ordinary: np.ndarray, seed: int) -> First:
    """`first` with other token vectors and, where `model` has one, another bias of its output.

    tables: the rows that are trained on. ordinary: (vocabulary,) True for tokens of text; the others stay as drawn.
    Raises UsageError for a vocabulary too large to count the pairs of, or smaller than the vectors.
    """
    count, width = len(ordinary), model.architecture.width
    if not width + EXTRA <= count <= MOST:
        raise UsageError(
            f"vectors: cooccurrence, with {count} tokens and vectors of {width}",
            expected=f"from {width + EXTRA} to {MOST} tokens",
            fix="leave vectors out, or choose another tokenizer.size",
        )
    pairs, seen = counted(tables, count)
    known = ordinary & (seen > 0)
    found = leading(information(pairs, known), width, seed)
    found *= DEVIATION / max(float(found[known].std()), 1e-12)
    rows, vectors = torch.from_numpy(np.flatnonzero(known)), torch.from_numpy(found[known])
    often = torch.from_numpy(np.log((seen + 1) / (seen + 1).sum())).float()

    def given(name: str) -> Tensor:
        weight = first(name)
        if name == VECTORS:
            weight[rows] = vectors
        elif name == BIAS:
            weight[:count] = often
        return weight

    return given


def counted(tables: Iterable[Table], count: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each token stood near each other one, both ways, (count, count) float32; and how often at all."""
    pairs, seen = np.zeros(count * count, np.float32), np.zeros(count, np.float64)
    for ids, text in _chunks(tables):
        seen += np.bincount(ids, minlength=count)
        for apart in range(1, min(WINDOW, len(ids) - 1) + 1):
            together = text[:-apart] == text[apart:]
            which, often = np.unique(ids[:-apart][together] * count + ids[apart:][together], return_counts=True)
            pairs[which] += often * np.float32((WINDOW + 1 - apart) / WINDOW)
    square = pairs.reshape(count, count)
    return square + square.T, seen


def _chunks(tables: Iterable[Table]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The tokens of many texts one after another, and the number of the text that each is of."""
    texts = (text for table in tables for row in range(len(table)) for text in table.texts(row))
    while True:
        held: list[np.ndarray] = []
        size = 0
        for text in texts:
            held.append(np.asarray(text, np.int64))
            size += len(text)
            if size >= CHUNK:
                break
        if not held:
            return
        yield np.concatenate(held), np.repeat(np.arange(len(held)), [len(text) for text in held])


def information(pairs: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Positive pointwise mutual information of the pairs, zero where a token is not `known`. Overwrites `pairs`."""
    pairs[~known] = 0
    pairs[:, ~known] = 0
    total = pairs.sum(1, dtype=np.float64)
    context = total**SMOOTHING
    context /= max(context.sum(), 1e-12)
    expected = np.outer(total, context).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        np.divide(pairs, expected, out=pairs)
        np.log(pairs, out=pairs)
    pairs[~np.isfinite(pairs)] = 0
    return np.maximum(pairs, 0, out=pairs)


def leading(matrix: np.ndarray, width: int, seed: int) -> np.ndarray:
    """(rows, width): the leading left singular vectors times the roots of their values."""
    base = np.random.default_rng(seed).standard_normal((matrix.shape[1], width + EXTRA)).astype(np.float32)
    for _, side in itertools.product(range(ROUNDS), (matrix, matrix.T)):
        base, _triangle = np.linalg.qr(side @ base)
    left, values, _right = np.linalg.svd(matrix @ base, full_matrices=False)
    return np.ascontiguousarray(left[:, :width] * np.sqrt(values[:width]), np.float32)
