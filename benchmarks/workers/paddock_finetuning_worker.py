"""Paddock's own fine-tuning: its method on its base, its training loop, one step at a time."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from finetuning_loop import ALPHA, RANK, ROLES, first_low
from paddock_training_worker import STEPS, Stepped
from protocol import serve
from training_loop import BETAS, CLIP, DECAY, RATE, Worker

import paddock
from paddock import kernels
from paddock.finetune.opened import open_base
from paddock.model.transformer import Transformer
from paddock.training.loop import Trainer
from paddock.training.losses import token_loss
from paddock.training.methods.low_rank import LoRA, QLoRA
from paddock.training.parallel import Alone
from paddock.training.recipe import Optimizer, Schedule, Training


class Tuning(Stepped):
    """The batches of a trainer that learns low-rank matrices, given to it one by one."""

    def __init__(self, path: str, precision: str, method: LoRA | QLoRA, recompute: bool, optimizer: str) -> None:
        opened = open_base(path, None, precision, method)
        tuned = method.attach(opened.base, 0)
        _begin(tuned.model)
        recipe = Training(
            steps=STEPS,
            clip=CLIP,
            precision=precision,  # type: ignore[arg-type]
            recompute=recompute,
            optimizer=Optimizer(name=optimizer, learning_rate=RATE, betas=BETAS, weight_decay=DECAY),  # type: ignore[arg-type]
            schedule=Schedule(shape="constant"),
        )
        self.batch, self.stack = None, ExitStack()
        self.trainer = Trainer(tuned.model, self, token_loss, recipe, Alone(torch.device("cpu")), learns=tuned.learns)


def _begin(model: Transformer) -> None:
    """The same A's as everyone's."""
    for number, block in enumerate(model.blocks):
        for role in ROLES:
            part = block.feedforward if role in ("gate", "up", "down") else block.attention
            low = part.get_submodule(role).a
            low.data.copy_(first_low(number, role, low.shape[1]))


def make(
    path: str, precision: str, method: str = "lora", recompute: bool = False, optimizer: str = "adamw", **rest: Any
) -> tuple[Tuning, str]:
    chosen = (QLoRA if method == "qlora" else LoRA)(rank=RANK, alpha=ALPHA)
    version = f"paddock {paddock.__version__}, {kernels.chosen()}"
    return Tuning(path, precision, chosen, recompute, optimizer), version


if __name__ == "__main__":
    serve(lambda: Worker(make))  # type: ignore[arg-type, return-value]
