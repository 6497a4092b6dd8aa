"""Paddock's own training loop, one step at a time."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from protocol import serve
from training_loop import BETAS, CLIP, DECAY, RATE, Worker

import paddock
from paddock import kernels
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.data.batch import Batch
from paddock.training.loop import Trainer, learning
from paddock.training.losses import token_loss
from paddock.training.parallel import Alone
from paddock.training.recipe import Optimizer, Schedule, Training

STEPS = 10**6


class Stepped:
    """The batches of a trainer, given to it one by one."""

    def __init__(self, path: str, precision: str) -> None:
        model = open_checkpoint(Path(path)).model("float32")
        recipe = Training(
            steps=STEPS,
            clip=CLIP,
            precision=precision,  # type: ignore[arg-type]
            optimizer=Optimizer(learning_rate=RATE, betas=BETAS, weight_decay=DECAY),
            schedule=Schedule(shape="constant"),
        )
        self.batch: Batch | None = None
        self.stack = ExitStack()
        self.trainer = Trainer(model, self, token_loss, recipe, Alone(torch.device("cpu")))

    def at(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        assert self.batch is not None
        return self.batch

    def step(self, ids: torch.Tensor, targets: torch.Tensor) -> float:
        """One step of `run`, which begins (marks what learns) once, however many steps it takes."""
        if self.batch is None:
            self.stack.enter_context(learning(self.trainer.model, self.trainer.learns))
        self.batch = Batch(ids, targets)
        return self.trainer._advance().loss


def make(path: str, precision: str, **rest: Any) -> tuple[Stepped, str]:
    return Stepped(path, precision), f"paddock {paddock.__version__}, {kernels.chosen()}"


if __name__ == "__main__":
    serve(lambda: Worker(make))  # type: ignore[arg-type, return-value]
