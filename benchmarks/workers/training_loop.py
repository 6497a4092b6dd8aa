"""What the training workers share: the batches, and the step that is written out by hand where a library brings none.

Every worker starts from the same weights, reads the same batches and takes the same steps (AdamW, clipping at 1, one
learning rate), so that their losses can be held against each other.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import torch
from protocol import memory

RATE, BETAS, DECAY, CLIP = 3e-4, (0.9, 0.95), 0.1, 1.0


def batch(step: int, rows: int, tokens: int, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and targets of step `step`, each (rows, tokens): sentences of a made-up language, so that there is something
    to learn (each token is followed by one of three)."""
    source = torch.Generator().manual_seed(step)
    turns = torch.randint(0, 3, (rows, tokens + 1), generator=source)
    ids = [torch.randint(0, vocabulary, (rows,), generator=source)]
    for column in range(tokens):
        ids.append((ids[-1] * 31 + turns[:, column] * 977 + 7) % vocabulary)
    whole = torch.stack(ids, 1)
    return whole[:, :-1].contiguous(), whole[:, 1:].contiguous()


class Plain:
    """A module trained by a plain loop. `loss(ids, targets)` gives the mean loss of a batch with its gradient."""

    def __init__(self, module: torch.nn.Module, loss: Callable[..., torch.Tensor], precision: str) -> None:
        self.module, self.loss, self.narrow = module.train(), loss, precision == "bfloat16"
        tables = {id(p) for m in module.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters()}
        trained = [p for p in module.parameters() if p.requires_grad]
        decayed = [p for p in trained if p.dim() >= 2 and id(p) not in tables]
        kept = [p for p in trained if p.dim() < 2 or id(p) in tables]
        groups = [{"params": decayed, "weight_decay": DECAY}, {"params": kept, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, fused=True)

    def step(self, ids: torch.Tensor, targets: torch.Tensor) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.narrow):
            loss = self.loss(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())


class Worker:
    """Answers `load` and `train`; what is trained comes from `make`, and has `step(ids, targets)`."""

    def __init__(self, make: Callable[..., tuple[Any, str]]) -> None:
        self.make = make

    def load(self, path: str, threads: int, rows: int, tokens: int, vocabulary: int, **options: Any) -> dict[str, Any]:
        torch.set_num_threads(threads)
        self.sizes = (rows, tokens, vocabulary)
        self.trained, version = self.make(path, tokens=tokens, vocabulary=vocabulary, **options)
        gc.collect()
        return {"version": f"{version}, torch {torch.__version__}"}

    def train(self, first: int, count: int) -> dict[str, Any]:
        """Steps `first` to `first + count`: seconds of each, and losses before each."""
        each, losses, used = [], [], []
        for number in range(first, first + count):
            ids, targets = batch(number, *self.sizes)
            begun, spent = time.perf_counter(), time.process_time()
            losses.append(self.trained.step(ids, targets))
            each.append(time.perf_counter() - begun)
            used.append(time.process_time() - spent)
        return {"each": each, "used": used, "losses": losses, "memory": memory()}
