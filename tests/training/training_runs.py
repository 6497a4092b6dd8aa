"""Small runs that the tests of saving, resuming and faults share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from paddock.checkpoint import folder as hf
from paddock.checkpoint.weights import sketch
from paddock.data.packing import Stream
from paddock.data.preparing.causal import Causal
from paddock.data.shards import Tokens
from paddock.data.stream import BatchStream
from paddock.model.families import describe
from paddock.model.initialise import blank, initialise
from paddock.model.transformer import Transformer
from paddock.training.conduct import Origin, Wishes, conduct
from paddock.training.loop import StepReport, Trainer
from paddock.training.losses import token_loss
from paddock.training.parallel import Alone
from paddock.training.recipe import Training
from paddock.training.run import RunFolder

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 61,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "tie_word_embeddings": True,
}
USUAL = Wishes()
CPU = Alone(torch.device("cpu"))
CHANGING = ("seconds",)  # what of a record the clock decides


def publish(folder: Path, model: Transformer) -> None:
    hf.write(folder, model, CONFIG)


def documents(count: int = 60) -> Tokens:
    """Documents that count upwards; an epoch of 4 rows a step is 14 steps."""
    return Tokens.of([(start + i) % 61 for i in range(5 + start % 30)] for start in range(count))


def trainer(recipe: Training, seed: int = 0, parallel: Alone = CPU) -> Trainer:
    model = initialise(blank(sketch(describe(CONFIG))), seed)
    batches = BatchStream(Stream(documents(), 20), Causal(20), recipe.batch, seed=1)
    return Trainer(model, batches, token_loss, recipe, parallel)


def recipe(**changed: Any) -> Training:
    usual = {"steps": 12, "batch": 4, "checkpoints": "every:3", "precision": "float32"}
    return Training.model_validate(usual | changed)


def go(
    path: Path,
    asked: Training,
    wishes: Wishes = USUAL,
    each: Callable[[StepReport], None] = lambda report: None,
    **more: Any,
) -> list[str]:
    """Conducts a run in `path`, and gives what it told."""
    heard: list[str] = []
    origin = more.pop("origin", Origin(asked.model_dump_json(indent=1), "data"))
    hooks = [lambda report: each(report)]
    conduct(trainer(asked), RunFolder(path), publish, origin, wishes, hooks=hooks, tell=heard.append, **more)
    return heard


def records(path: Path) -> list[dict[str, Any]]:
    """The log, without what the clock decides."""
    lines = (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in CHANGING} for line in lines]


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()
