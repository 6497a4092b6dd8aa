"""The token table and the head cut by rows over processes (arXiv 1909.08053), and a loss that never has all logits.

Each process has the next ceil(vocabulary / processes) rows, the last one those that are left: no row is made up, so
none has a probability or a gradient that it should not have.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from paddock import kernels
from paddock.errors import UsageError
from paddock.model.linear import Table
from paddock.model.transformer import Head, Transformer

LOGITS_AT_ONCE = 2**22  # numbers of a chunk on one process, as in kernels.reference


def check(vocabulary: int, parts: int) -> None:
    """Refuses (UsageError) more processes than the vocabulary has rows for."""
    if (parts - 1) * math.ceil(vocabulary / parts) >= vocabulary:
        raise UsageError(
            f"{parts} processes cannot share {vocabulary} rows of the vocabulary: some would have none",
            fix="set parallel.tensor to a smaller number",
        )


def by_rows(model: Transformer, mesh: DeviceMesh) -> None:
    """Cuts the token tables and the head of a model, in place; both may be on the meta device."""
    cut: dict[int, Rows] = {}  # an encoder may share its decoder's table
    for stack in (model, model.encoder):
        if stack is None:
            continue
        table = stack.embedding.tokens
        if id(table) not in cut:
            _plain(table, Table, "embedding.tokens")
            cut[id(table)] = Rows(table, mesh)
        stack.embedding.tokens = cut[id(table)]
    if model.head is not None:
        _plain(model.head, Head, "head")
        model.head = RowsHead(model.head, model.architecture.vocabulary, mesh)


def _plain(module: nn.Module, kind: type[nn.Module], role: str) -> None:
    if type(module) is not kind:
        raise UsageError(
            f"tensor parallelism does not take {type(module).__name__} as {role!r}",
            fix="set parallel.mode to ddp or fsdp, and parallel.tensor to 1",
        )


def _cut(parameter: Tensor, mesh: DeviceMesh) -> nn.Parameter:
    # Each process cuts what it has itself: the numbers come from the main process afterwards.
    rows = distribute_tensor(parameter.detach(), mesh, [Shard(0)], src_data_rank=None)
    return nn.Parameter(rows, requires_grad=parameter.requires_grad)


def _here(tensor: Tensor) -> Tensor:
    """The rows of this process, with their gradient."""
    assert isinstance(tensor, DTensor)
    return tensor.to_local()


def _first(rows: int, mesh: DeviceMesh) -> int:
    """The number of this process's first row."""
    return mesh.get_local_rank() * math.ceil(rows / mesh.size())


class Rows(Table):
    """Some rows of a table: what other processes have is looked up there, and the sum is the same everywhere."""

    def __init__(self, table: Table, mesh: DeviceMesh) -> None:
        super().__init__(table.num_embeddings, table.embedding_dim, _weight=table.weight.detach())
        self.weight = _cut(table.weight, mesh)
        self.group, self.first = mesh.get_group(), _first(table.num_embeddings, mesh)

    def forward(self, ids: Tensor) -> Tensor:
        weight = _here(self.weight)
        own = ids - self.first
        mine = (own >= 0) & (own < len(weight))
        found = kernels.embed(own.clamp(0, len(weight) - 1), weight)
        return _Summed.apply(found * mine[..., None], self.group)


class RowsHead(Head):
    """Some rows of a head, tied or not. Everything before the vocabulary's matrix is the same on all processes."""

    def __init__(self, head: Head, vocabulary: int, mesh: DeviceMesh) -> None:
        nn.Module.__init__(self)
        self.part, self.vocabulary, self.mesh, self.group = head.part, vocabulary, mesh, mesh.get_group()
        if head.part.transform is not None:
            self.transform, self.norm = head.transform, head.norm
        self.weight = None if head.weight is None else _cut(head.weight, mesh)
        self.bias = None if head.bias is None else _cut(head.bias, mesh)

    def _rows(self, embedding: Tensor) -> tuple[Tensor, Tensor | None]:
        weight = embedding if self.weight is None else self.weight
        return _here(weight), None if self.bias is None else _here(self.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """All logits, put together from all processes: for generating, not for training."""
        logits = kernels.linear(_Spread.apply(self.prepare(x), self.group), *self._rows(embedding))
        shape = torch.Size((*logits.shape[:-1], self.vocabulary))
        placed = DTensor.from_local(
            logits, self.mesh, [Shard(logits.dim() - 1)], run_check=False,
            shape=shape, stride=torch.empty(shape, device="meta").stride(),
        )  # fmt: skip
        return placed.full_tensor()

    def losses(self, x: Tensor, embedding: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """As of `Head`: each process has the logits of its rows only, a chunk of tokens at a time."""
        x = self.prepare(x)
        device = x.device.type
        narrow = torch.is_autocast_enabled(device) and x.dtype != torch.float64
        dtype = torch.get_autocast_dtype(device) if narrow else x.dtype
        place = _Place(self.group, _first(self.vocabulary, self.mesh), math.ceil(self.vocabulary / self.mesh.size()))
        return _CrossEntropy.apply(x, *self._rows(embedding), targets, place, dtype)

    def mean_logits(self, x: Tensor, embedding: Tensor) -> Tensor:
        weight, bias = self._rows(embedding)
        wide = torch.promote_types(x.dtype, torch.float32)
        mean = _Summed.apply(weight.to(wide).sum(0), self.group) / self.vocabulary
        logits = (self.prepare(x).to(wide) * mean).sum(-1)
        return logits if bias is None else logits + _Summed.apply(bias.to(wide).sum(), self.group) / self.vocabulary


class _Place:
    """Which rows this process has, from `first` on, at most `size`, which is equal everywhere."""

    def __init__(self, group: dist.ProcessGroup, first: int, size: int) -> None:
        self.group, self.first, self.size = group, first, size

    def parts(self, count: int) -> list[slice]:
        """Tokens in chunks, the same on every process."""
        rows = max(1, LOGITS_AT_ONCE // self.size)
        return [slice(start, min(start + rows, count)) for start in range(0, count, rows)]


class _CrossEntropy(torch.autograd.Function):
    """`kernels.cross_entropy` over rows of several processes: the greatest logit, the sum of exponentials and the
    target's logit of each token go between them, and the gradient of x once; logits are made again for the gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, place: _Place, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        real = torch.promote_types(x.dtype, torch.float32)
        losses, log_sums = torch.empty(2, len(x), dtype=real, device=x.device)
        matrix, shift = weight.to(dtype), None if bias is None else bias.to(dtype)
        for part in place.parts(len(x)):
            logits = nn.functional.linear(x[part].to(dtype), matrix, shift).to(real)
            own, mine = _own(targets[part], place.first, len(weight))
            top = logits.amax(-1)
            dist.all_reduce(top, dist.ReduceOp.MAX, group=place.group)
            target = logits.gather(1, own[:, None]).squeeze(1) * mine
            sums = torch.stack((logits.sub_(top[:, None]).exp_().sum(-1), target))
            dist.all_reduce(sums, group=place.group)
            log_sums[part] = sums[0].log() + top
            losses[part] = log_sums[part] - sums[1]
        ctx.save_for_backward(x, weight, bias, targets, log_sums)
        ctx.place, ctx.dtype = place, dtype
        return losses, log_sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_grad: Tensor, sum_grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, targets, log_sums = ctx.saved_tensors
        place, dtype, real = ctx.place, ctx.dtype, log_sums.dtype
        x_grad = torch.empty_like(x)
        weight_grad = torch.zeros_like(weight, dtype=real) if ctx.needs_input_grad[1] else None
        bias_grad = None if bias is None else torch.zeros_like(bias, dtype=real)
        matrix, shift = weight.to(dtype), None if bias is None else bias.to(dtype)
        for part in place.parts(len(x)):
            rows = x[part].to(dtype)
            shares = nn.functional.linear(rows, matrix, shift).to(real).sub_(log_sums[part, None]).exp_()
            shares.mul_((loss_grad[part] + sum_grad[part])[:, None])
            own, mine = _own(targets[part], place.first, len(weight))
            shares.scatter_add_(1, own[:, None], (-loss_grad[part] * mine)[:, None])
            grad = shares.to(dtype)
            x_grad[part] = grad @ matrix
            if weight_grad is not None:
                weight_grad += grad.t() @ rows
            if bias_grad is not None:
                bias_grad += shares.sum(0)
        if ctx.needs_input_grad[0]:
            dist.all_reduce(x_grad, group=place.group)
        return x_grad, None if weight_grad is None else weight_grad.to(weight.dtype), bias_grad, None, None, None


def _own(targets: Tensor, first: int, rows: int) -> tuple[Tensor, Tensor]:
    """Numbers of targets among this process's rows, and whether they are there."""
    own = targets - first
    return own.clamp(0, rows - 1), (own >= 0) & (own < rows)


class _Summed(torch.autograd.Function):
    """The sum over processes; what it becomes is the same on all of them, and so is its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        whole = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(whole, group=group)
        return whole

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class _Spread(torch.autograd.Function):
    """The same on all processes, each of which does something else with it: their gradients are summed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        whole = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(whole, group=ctx.group)
        return whole, None
