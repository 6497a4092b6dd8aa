"""A linear classifier of texts over hashed n-grams: small, quick, trained on what the user has, kept as plain numbers.

The recipe of fastText's supervised mode (Joulin et al., 2016) without its hidden layer: n-grams of words or characters
are hashed into `buckets`, a text is the square root of their counts at length 1, and a logistic regression weighs them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from paddock.checkpoint import jsonfile
from paddock.data.cleaning.words import shingles, word_hashes, words
from paddock.errors import CheckpointError, DataError, UsageError

FORMAT = "paddock linear text classifier 1"
LIMIT = 1 << 22  # buckets; a model of 64 classes is 1 GB then
CLASSES = 256


@dataclass(frozen=True)
class Features:
    """What is counted: n-grams of `unit` (word or character) from `least` to `most` long, of the first `characters`."""

    unit: str
    least: int
    most: int
    buckets: int
    characters: int

    def of(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Buckets (n,) int64, ascending, and their weights (n,) float64, whose squares sum up to 1; no words, none."""
        units = self._units(text[: self.characters])
        grams = [shingles(units, size) for size in range(self.least, self.most + 1) if len(units) >= size]
        if not grams:
            return np.zeros(0, np.int64), np.zeros(0)
        found, counts = np.unique(np.concatenate(grams) % np.uint64(self.buckets), return_counts=True)
        weights = np.sqrt(counts)
        return found.astype(np.int64), weights / np.sqrt(counts.sum())

    def _units(self, text: str) -> np.ndarray:
        if self.unit == "word":
            return word_hashes(words(text))
        # A blank before and after every word says where it begins and ends; 1 is added as 0 would hash like nothing.
        spaced = f" {' '.join(text.lower().split())} "
        return np.frombuffer(spaced.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64) + np.uint64(1)


WORDS = Features("word", 1, 2, 1 << 18, 20_000)  # what a page is about, and how it is said
CHARACTERS = Features("character", 1, 3, 1 << 16, 4_000)  # what language it is in


@dataclass(frozen=True, eq=False)
class Linear:
    """labels: the classes; weights (classes, buckets) float32; bias (classes,) float32."""

    features: Features
    labels: tuple[str, ...]
    weights: np.ndarray
    bias: np.ndarray

    def scores(self, text: str) -> np.ndarray:
        """The probability of each class, (classes,) float64, summing up to 1."""
        buckets, values = self.features.of(text)
        logits = self._wide[:, buckets] @ values + self.bias
        logits = np.exp(logits - logits.max())
        return logits / logits.sum()

    @cached_property
    def _wide(self) -> np.ndarray:
        return self.weights.astype(np.float64)

    def save(self, path: Path) -> None:
        """A safetensors file: the weights, and what they mean as JSON in bytes. Reading it runs nothing."""
        import torch  # takes seconds, and most recipes have no classifier

        from paddock.checkpoint import safetensors

        said = {"format": FORMAT, "labels": list(self.labels), "features": asdict(self.features)}
        text = json.dumps(said, ensure_ascii=False, sort_keys=True).encode()
        arrays = {"weights": self.weights, "bias": self.bias, "description": np.frombuffer(text, np.uint8)}
        safetensors.write(path, {name: torch.from_numpy(array.copy()) for name, array in arrays.items()})


def load(path: Path) -> Linear:
    """A classifier that `save` wrote. Raises DataError for anything else."""
    import torch

    from paddock.checkpoint import safetensors

    try:
        stored = safetensors.read(path)
        if stored.keys() != {"weights", "bias", "description"} or stored["description"].shape > (1 << 16,):
            raise DataError(f"{path} holds {', '.join(stored)[:80]}", expected="a text classifier of Paddock's")
        said = jsonfile.parse(stored["description"].load().numpy().tobytes(), path.name)
        labels, features = _described(said, path)
        shape = (len(labels), features.buckets)
        for name, wanted in (("weights", shape), ("bias", shape[:1])):
            if stored[name].shape != wanted or stored[name].dtype != torch.float32:
                raise DataError(f"{path}: {name} has the shape {stored[name].shape}", expected=f"{wanted} in float32")
        weights, bias = (stored[name].load().numpy().copy() for name in ("weights", "bias"))
    except CheckpointError as problem:
        raise DataError(problem.what, expected=problem.expected) from None
    if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
        raise DataError(f"{path} holds numbers that are not finite", fix="train the classifier again")
    return Linear(features, labels, weights, bias)


def _described(said: dict[str, Any], path: Path) -> tuple[tuple[str, ...], Features]:
    labels, features = said.get("labels"), said.get("features")
    if said.get("format") != FORMAT or not isinstance(features, dict):
        raise DataError(f"{path} is not of the format {FORMAT!r}", fix="train the classifier again with this Paddock")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise DataError(f"{path} has no list of labels")
    try:
        found = Features(**features)
    except TypeError:
        raise DataError(f"{path} describes its features with {', '.join(features)[:80]}") from None
    numbers = [found.least, found.most, found.buckets, found.characters]
    sane = all(type(number) is int and 0 < number <= LIMIT for number in numbers) and found.least <= found.most <= 16
    if found.unit not in ("word", "character") or not sane or not 2 <= len(labels) <= CLASSES:
        raise DataError(f"{path} describes features that make no sense: {str(features)[:120]}")
    return tuple(labels), found


@dataclass(frozen=True)
class Trained:
    """A classifier and how it did: texts per class, and the share it got right of those held out (None: too few)."""

    model: Linear
    texts: dict[str, int]
    held_out: int
    right: float | None


def train(examples: Mapping[str, Sequence[str]], features: Features, strength: float = 10.0) -> Trained:
    """Fits the classifier to texts by class; every tenth text of each class is held out where each has 20.

    Deterministic: L-BFGS from zero, classes weighed to count the same. `strength` is the inverse of the L2 penalty.
    Raises UsageError for fewer than two classes or a class without words.
    """
    from scipy.sparse import csr_matrix  # a second to import
    from sklearn.linear_model import LogisticRegression

    if not 2 <= len(examples) <= CLASSES:
        raise UsageError(f"{len(examples)} classes", expected=f"2 to {CLASSES}")
    labels = tuple(examples)
    held = min(map(len, examples.values())) >= 20
    rows: list[tuple[np.ndarray, np.ndarray]] = []
    answers: list[int] = []
    kept_out: list[tuple[str, int]] = []
    for number, label in enumerate(labels):
        for place, text in enumerate(examples[label]):
            if held and place % 10 == 9:
                kept_out.append((text, number))
                continue
            row = features.of(text)
            if len(row[0]):
                rows.append(row)
                answers.append(number)
        if number not in answers:
            raise UsageError(f"the examples of {label!r} hold no words", fix="name files with text in them")
    ends = np.cumsum([0, *(len(found) for found, _ in rows)])
    matrix = csr_matrix(
        (np.concatenate([v for _, v in rows]), np.concatenate([b for b, _ in rows]), ends),
        shape=(len(rows), features.buckets),
    )
    fitted = LogisticRegression(C=strength, class_weight="balanced", max_iter=1000).fit(matrix, answers)
    weights, bias = fitted.coef_, fitted.intercept_
    if len(labels) == 2:  # one row of weights for the second class against the first
        weights, bias = np.concatenate([-weights / 2, weights / 2]), np.concatenate([-bias / 2, bias / 2])
    model = Linear(features, labels, weights.astype(np.float32), bias.astype(np.float32))
    right = [int(model.scores(text).argmax()) == number for text, number in kept_out]
    counts = {label: len(texts) for label, texts in examples.items()}
    return Trained(model, counts, len(right), sum(right) / len(right) if right else None)
