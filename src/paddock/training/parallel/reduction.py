"""Gradients summed over processes while the backward pass that makes them still runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from paddock.training.parallel.state import local

BUCKET = 25 * 2**20  # bytes: few enough messages, and the first leaves early


@contextmanager
def summed(parameters: Iterable[Tensor], group: dist.ProcessGroup) -> Iterator[None]:
    """Around the last backward pass of a step: afterwards every gradient is the sum over the processes of `group`.

    A parameter that no process has a gradient of keeps none, as on one process; one that some have is given theirs.
    """
    reduction = _Reduction([p for p in parameters if p.requires_grad], group)
    try:
        yield
        reduction.finish()
    finally:
        reduction.release()


class _Reduction:
    """Buckets of gradients, from the model's end, where the backward pass begins.

    Buckets leave in their order, whatever the order in which they fill up: messages of two processes must not cross.
    """

    def __init__(self, parameters: list[Tensor], group: dist.ProcessGroup) -> None:
        self.group = group
        self.buckets = list(_cut(parameters))
        self.missing = [len(bucket) for bucket in self.buckets]
        self.home = {id(p): number for number, bucket in enumerate(self.buckets) for p in bucket}
        self.sent: list[tuple[list[Tensor], Tensor, Any]] = []
        self.hooks = [p.register_post_accumulate_grad_hook(self._ready) for p in parameters]

    def _ready(self, parameter: Tensor) -> None:
        self.missing[self.home[id(parameter)]] -= 1
        while len(self.sent) < len(self.buckets) and self.missing[len(self.sent)] == 0:
            self._send()

    def _send(self) -> None:
        bucket = self.buckets[len(self.sent)]
        gradients = [None if p.grad is None else local(p.grad) for p in bucket]
        parts = [torch.zeros_like(local(p)) if g is None else g for p, g in zip(bucket, gradients, strict=True)]
        # Who has a gradient travels behind the numbers: 1 for each that is there.
        there = torch.tensor([g is not None for g in gradients]).to(parts[0])
        flat = torch.cat([*(part.reshape(-1) for part in parts), there])
        self.sent.append((bucket, flat, dist.all_reduce(flat, group=self.group, async_op=True)))

    def finish(self) -> None:
        """Sends what is left, waits for all of it, and puts the sums in their places."""
        while len(self.sent) < len(self.buckets):
            self._send()
        for bucket, flat, work in self.sent:
            work.wait()
            *sums, there = flat.split([*(local(p).numel() for p in bucket), len(bucket)])
            for parameter, total, count in zip(bucket, sums, there.tolist(), strict=True):
                if count:
                    if parameter.grad is None:
                        parameter.grad = torch.zeros_like(parameter)
                    local(parameter.grad).copy_(total.view_as(local(parameter)))

    def release(self) -> None:
        for hook in self.hooks:
            hook.remove()


def _cut(parameters: list[Tensor]) -> Iterator[list[Tensor]]:
    """Lists of parameters of one type, from the last to the first, each of BUCKET bytes or one parameter."""
    bucket: list[Tensor] = []
    size = 0
    for parameter in reversed(parameters):
        nbytes = local(parameter).nbytes
        if bucket and (size + nbytes > BUCKET or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += nbytes
    if bucket:
        yield bucket
