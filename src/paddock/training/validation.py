"""How well a model says texts that it was not trained on, in units that do not depend on its vocabulary."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from paddock.data.batch import IGNORED, Batch
from paddock.data.stream import BatchStream
from paddock.errors import TokenizerError
from paddock.tokenizer import Tokenizer
from paddock.training.loop import Trainer
from paddock.training.losses import token_loss


@dataclass(frozen=True)
class Score:
    """loss: nats per target. perplexity: its exponential. bits_per_byte: of the text that the targets stand for; None
    where nobody said how many bytes a token is, or they stand for none."""

    loss: float
    perplexity: float
    bits_per_byte: float | None
    targets: int
    bytes: int
    seconds: float


def byte_lengths(tokenizer: Tokenizer) -> np.ndarray:
    """(vocabulary,) int64: how many bytes of text each id stands for, within a text; 0 for control tokens.

    A piece that begins a word counts the space before it, so a text whose first word was given a space it does not have
    (SentencePiece) counts a byte too many.
    """
    if tokenizer.spells_bytes:
        return np.array([len(piece) for piece in tokenizer.all_bytes()], dtype=np.int64)
    return np.array([_length(tokenizer, number) for number in range(len(tokenizer))], dtype=np.int64)


def on(batches: BatchStream, lengths: np.ndarray | None) -> Callable[[Trainer], dict[str, Any]]:
    """`measure` as `training.metrics.Metrics` wants it."""
    return lambda trainer: asdict(measure(trainer, batches, lengths))


def measure(trainer: Trainer, batches: BatchStream, lengths: np.ndarray | None) -> Score:
    """The plain token loss over every sample of `batches` once, without dropout, whatever else is trained.

    lengths: `byte_lengths` of the tokenizer. Every process must call it; each reads its share of the rows.
    """
    started, parallel = time.perf_counter(), trainer.parallel
    sums = np.zeros(3)
    with torch.no_grad():
        for whole in batches.once():
            batch = share(whole, parallel.data_rank, parallel.data_ranks)
            for piece in batch.split(trainer.recipe.micro_batch or batch.rows):
                sums += _sums(trainer, piece, lengths)
    nats, targets, size = parallel.totals(sums.tolist())
    loss = nats / targets if targets else math.nan
    return Score(
        loss=loss,
        perplexity=math.exp(loss) if loss < 700 else math.inf,
        bits_per_byte=nats / math.log(2) / size if size else None,
        targets=int(targets),
        bytes=int(size),
        seconds=time.perf_counter() - started,
    )


def share(batch: Batch, rank: int, ranks: int) -> Batch:
    """Every `ranks`-th row. A rank for which none is left gets one that asks for nothing: all must go through the
    model together."""
    rows = range(rank, batch.rows, ranks)
    mine = batch.take(torch.tensor(list(rows) or [0]))
    return mine if rows else mine.silent()


def _sums(trainer: Trainer, piece: Batch, lengths: np.ndarray | None) -> np.ndarray:
    """Nats, targets and bytes."""
    asked = piece.targets[piece.targets != IGNORED].cpu().numpy()
    nats = float(trainer.sums(piece, train=False, loss=token_loss).total)
    return np.array([nats, len(asked), 0 if lengths is None else lengths[asked].sum()], dtype=np.float64)


def _length(tokenizer: Tokenizer, number: int) -> int:
    try:
        return len(tokenizer.bytes_of(number))
    except TokenizerError:  # a number that no piece has
        return 0
