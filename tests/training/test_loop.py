"""The loop end to end on a model of two layers."""

from __future__ import annotations

import torch

from paddock.checkpoint.weights import sketch
from paddock.data.packing import Stream
from paddock.data.preparing.causal import Causal
from paddock.data.shards import Tokens
from paddock.data.stream import BatchStream
from paddock.model.families import describe
from paddock.model.initialise import blank, initialise
from paddock.model.transformer import Transformer
from paddock.training.loop import StepReport, Trainer
from paddock.training.losses import token_loss
from paddock.training.parallel import Alone
from paddock.training.recipe import Training

CONFIG = {
    "model_type": "llama",
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
CPU = Alone(torch.device("cpu"))


def tiny_model(seed: int = 0) -> Transformer:
    return initialise(blank(sketch(describe(CONFIG))), seed)


def counting(rows: int = 8) -> BatchStream:
    """Documents that count upwards, so that there is something to learn."""
    tokens = Tokens.of([(start + i) % 61 for i in range(5 + start % 30)] for start in range(200))
    return BatchStream(Stream(tokens, 32), Causal(32), rows, seed=1)


def losses(recipe: Training) -> list[float]:
    heard: list[StepReport] = []
    Trainer(tiny_model(), counting(recipe.batch), token_loss, recipe, CPU).run(heard.append)
    return [report.loss for report in heard]


def test_it_learns_to_count() -> None:
    told = losses(Training(steps=60, optimizer={"learning_rate": 1e-2}))  # type: ignore[arg-type]
    assert told[0] > 4.0 and told[-1] < 1.0


def test_micro_batches_change_nothing() -> None:
    whole = losses(Training(steps=5, micro_batch=0))
    pieces = losses(Training(steps=5, micro_batch=1))
    assert all(abs(a - b) < 1e-6 * a for a, b in zip(whole, pieces, strict=True))
