"""The machines a run is spread over. One process is the plain case, and the loop does not know another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from paddock.model.transformer import Transformer


@dataclass(frozen=True)
class Alone:
    """One process. What several processes do instead has the same methods.

    data_rank, data_ranks: which rows of a batch are this process's, of how many shares.
    main: whether this process writes files and tells the user.
    """

    device: torch.device
    data_rank: int = 0
    data_ranks: int = 1
    main: bool = True

    def spread(self, model: Transformer) -> Transformer:
        """The model as this process holds it: whole, a replica, or a shard. In place of the given one."""
        return model

    @contextmanager
    def accumulating(self, model: Transformer, last: bool) -> Iterator[None]:
        """Around each micro-batch: gradients need to meet those of other processes after the last one only."""
        yield

    def totals(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the processes that read different rows (float64; equal on all of them)."""
        return list(values)

    def gradient_norm(self, parameters: Sequence[Tensor]) -> Tensor:
        """The 2-norm of the whole gradient, over all shards, in float32."""
        norms = [torch.linalg.vector_norm(p.grad, dtype=torch.float32) for p in parameters if p.grad is not None]
        return torch.linalg.vector_norm(torch.stack(norms))

    def barrier(self) -> None:
        """Returns when all processes have come here; refuses after a time limit."""
