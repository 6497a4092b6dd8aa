"""How often classes, or numbers, are told rightly.

Accuracy alone flatters a model where one class is common: `majority` is what always naming the commonest class would
reach, and macro-F1 counts every class alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ClassScores:
    """accuracy, macro_f1, majority: shares of 1. f1: of each class, None for one that was neither there nor named; they
    are left out of the mean, as scikit-learn does. confusion: rows are the true classes, columns the named ones."""

    accuracy: float
    macro_f1: float
    majority: float
    f1: tuple[float | None, ...]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class LabelScores:
    """Of classes that may apply together. micro_f1: of all decisions; macro_f1: the mean of f1; exact: the share of
    texts with every class right; f1: of each class, None for one that was neither there nor named, left out of the
    mean."""

    micro_f1: float
    macro_f1: float
    exact: float
    f1: tuple[float | None, ...]


@dataclass(frozen=True)
class NumberScores:
    """How near numbers are: mean absolute error; Pearson's and Spearman's correlations, None where one side is
    constant."""

    mean_absolute_error: float
    pearson: float | None
    spearman: float | None


def confusion(truth: np.ndarray, named: np.ndarray, classes: int) -> np.ndarray:
    """(classes, classes) int64 counts, from two arrays (examples,) of class numbers."""
    pairs = truth.astype(np.int64) * classes + named.astype(np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def class_scores(confusion: np.ndarray) -> ClassScores:
    """What a confusion matrix says; it must count something."""
    right, there, named = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    total = int(confusion.sum())
    known = there + named > 0
    f1 = 2 * right / np.maximum(there + named, 1)  # 2tp / (2tp + fp + fn)
    return ClassScores(
        accuracy=float(right.sum() / total),
        macro_f1=float(f1[known].mean()),
        majority=float(there.max() / total),
        f1=tuple(float(each) if one else None for each, one in zip(f1, known, strict=True)),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )


def label_scores(truth: np.ndarray, named: np.ndarray) -> LabelScores:
    """Of two arrays (examples, classes) of what applies and what was named, at least one example."""
    right = (truth & named).sum(0)
    known = truth.sum(0) + named.sum(0)
    f1 = 2 * right / np.maximum(known, 1)
    return LabelScores(
        micro_f1=float(2 * right.sum() / max(1, known.sum())),
        macro_f1=float(f1[known > 0].mean()) if known.any() else 0.0,
        exact=float((truth == named).all(1).mean()),
        f1=tuple(float(each) if count else None for each, count in zip(f1, known, strict=True)),
    )


def number_scores(truth: np.ndarray, told: np.ndarray) -> NumberScores:
    """Of two arrays (examples,) of numbers, at least one each."""
    truth, told = truth.astype(np.float64), told.astype(np.float64)
    return NumberScores(
        mean_absolute_error=float(np.abs(truth - told).mean()),
        pearson=_correlation(truth, told),
        spearman=_correlation(_ranks(truth), _ranks(told)),
    )


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    a, b = a - a.mean(), b - b.mean()
    sizes = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / sizes) if sizes else None


def _ranks(values: np.ndarray) -> np.ndarray:
    """Each value's place in order, from 1; equal ones share the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[which]
