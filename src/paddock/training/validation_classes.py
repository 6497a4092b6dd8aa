"""How well a model tells classes, or numbers, of texts that it was not trained on."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from paddock.data.batch import Batch
from paddock.data.stream import BatchStream
from paddock.model.step import Step
from paddock.model.transformer import Transformer
from paddock.training.loop import Trainer
from paddock.training.losses import Sums
from paddock.training.losses_classes import text_scores
from paddock.training.metrics import Measure
from paddock.training.scores import classes as scores
from paddock.training.validation import share


def on_classes(batches: BatchStream, labels: Sequence[str]) -> Measure:
    """Loss (nats a text), accuracy, macro-F1, the commonest class's share, F1 of each class and the confusion matrix
    over every sample of `batches` once. Every process must call it."""

    def measure(trainer: Trainer) -> dict[str, Any]:
        started = time.perf_counter()
        told, truth = told_of(trainer, batches)
        picked = told[np.arange(len(told)), truth.astype(np.int64)]
        highest = told.max(1)
        losses = highest + np.log(np.exp(told - highest[:, None]).sum(1)) - picked
        counts = scores.confusion(truth, told.argmax(1), len(labels))
        found = asdict(scores.class_scores(counts))
        return {
            "loss": float(losses.mean()),
            **found,
            "labels": list(labels),
            "targets": len(truth),
            "seconds": time.perf_counter() - started,
        }

    return measure


def on_labels(batches: BatchStream, labels: Sequence[str]) -> Measure:
    """Loss (nats a class), micro- and macro-F1, how often all of a text's classes are right (`exact`), and F1 of each
    class, of classes that may apply together. Every process must call it."""

    def measure(trainer: Trainer) -> dict[str, Any]:
        started = time.perf_counter()
        told, truth = told_of(trainer, batches)
        # log(1 + e^x) - x where the class applies, and log(1 + e^x) where it does not
        return {
            "loss": float((np.logaddexp(0, told) - told * truth).mean()),
            **asdict(scores.label_scores(truth > 0, told > 0)),
            "labels": list(labels),
            "targets": truth.size,
            "seconds": time.perf_counter() - started,
        }

    return measure


def on_numbers(batches: BatchStream) -> Measure:
    """Loss (the mean squared error), mean absolute error and correlations. Every process must call it."""

    def measure(trainer: Trainer) -> dict[str, Any]:
        started = time.perf_counter()
        told, truth = told_of(trainer, batches)
        return {
            "loss": float(np.square(told[:, 0] - truth).mean()),
            **asdict(scores.number_scores(truth, told[:, 0])),
            "targets": len(truth),
            "seconds": time.perf_counter() - started,
        }

    return measure


def told_of(trainer: Trainer, batches: BatchStream) -> tuple[np.ndarray, np.ndarray]:
    """The model's scores for every sample (samples, classes), and the labels (samples,) or, where several classes may
    apply, (samples, classes), both float64, without dropout.

    Each process reads its share of the rows and is told all of them.
    """
    parallel = trainer.parallel
    part = trainer.model.architecture.pooler
    assert part is not None, "no classes"
    asked = batches.table.texts(0)[2].shape[1:]
    found = np.zeros((len(batches.table), part.labels + math.prod(asked)))
    with torch.no_grad():
        for whole in batches.once():
            batch = share(whole, parallel.data_rank, parallel.data_ranks)
            for piece in batch.split(trainer.recipe.micro_batch or batch.rows):
                told = trainer.sums(piece, train=False, loss=_scores).total.double().cpu().numpy()
                if piece.supervised:  # a rank without a row of its own has read somebody else's
                    assert piece.samples is not None and piece.labels is not None
                    found[piece.samples.numpy(), : part.labels] = told
                    found[piece.samples.numpy(), part.labels :] = piece.labels.double().reshape(piece.rows, -1).numpy()
    every = np.array(parallel.totals(found.ravel().tolist())).reshape(found.shape)
    return every[:, : part.labels], every[:, part.labels :].reshape(len(every), *asked)


def _scores(model: Transformer, batch: Batch, step: Step) -> Sums:
    """The scores themselves, in the loop's words."""
    return Sums(text_scores(model, batch, step), batch.rows)
