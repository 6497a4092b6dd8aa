"""How a model is cut up between processes: by role within a matrix, by block over the machine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from paddock.errors import UsageError
from paddock.model.attention import CrossAttention, SelfAttention
from paddock.model.feedforward import Experts, FeedForward
from paddock.model.lora import Adapted
from paddock.model.spec import Architecture
from paddock.model.spec import Experts as ExpertsPart
from paddock.model.transformer import Transformer
from paddock.training.parallel import adapters, vocabulary

COLUMNS = ("q", "k", "v", "gate", "up")  # each process has some of the outputs: whole heads, or hidden features
ROWS = ("out", "down")  # each has some of the inputs, and the outputs are summed
METHODS = ("hidden", "encode")  # by which a model is entered besides `forward`


def check(architecture: Architecture, parts: int) -> None:
    """Refuses (UsageError) a number of processes that cannot share the matrices of this model."""
    for block in architecture.layers:
        each = block.feedforward.each if isinstance(block.feedforward, ExpertsPart) else block.feedforward
        sizes = {"key-value heads": block.attention.kv_heads, "hidden features": each.hidden}
        if block.cross is not None:
            sizes["key-value heads of cross-attention"] = block.cross.kv_heads
        for what, count in sizes.items():
            if count % parts:
                raise UsageError(
                    f"{parts} processes cannot share {count} {what} evenly",
                    fix="set parallel.tensor to a number that divides them",
                )
    vocabulary.check(architecture.vocabulary, parts)
    if architecture.encoder is not None:
        check(architecture.encoder, parts)


def by_role(model: Transformer, mesh: DeviceMesh) -> None:
    """Tensor parallelism (arXiv 1909.08053): q k v gate up by their outputs, out down by their inputs, the token table
    and the head by rows of the vocabulary.

    Two sums over the processes for each block and direction, and one for table and head; norms, router and tables of
    positions are whole everywhere and compute the same on all. A bias of attention that differs by head is cut to the
    heads that are here.
    """
    check(model.architecture, mesh.size())
    vocabulary.by_rows(model, mesh)
    for module in model.modules():
        if isinstance(module, SelfAttention | CrossAttention | FeedForward):
            plan: dict[str, Any] = {}
            for role, part in list(module.named_children()):
                path = role
                if isinstance(part, Adapted) and role in (*COLUMNS, *ROWS):
                    module.add_module(role, adapters.in_parts(part, role in ROWS, mesh))
                    part, path = part.base, f"{role}.base"
                if not isinstance(part, nn.Linear) or role not in (*COLUMNS, *ROWS):
                    raise UsageError(
                        f"tensor parallelism does not take {type(part).__name__} as {role!r}",
                        fix="set parallel.mode to ddp or fsdp, and parallel.tensor to 1",
                    )
                plan[path] = RowwiseParallel() if role in ROWS else ColwiseParallel()
            module.register_forward_pre_hook(_shared(mesh))
            # Each process cuts what it has itself: the numbers come from the main process afterwards.
            parallelize_module(module, mesh, plan, src_data_rank=None)
        if isinstance(module, SelfAttention):
            module.of_heads = _OfHeads(module.part.heads, mesh)


def _shared(mesh: DeviceMesh) -> Any:
    """Marks what a sublayer reads as the same on all processes, once for all of its matrices: one sum of gradients."""

    def mark(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return DTensor.from_local(inputs[0], mesh, [Replicate()], run_check=False), *inputs[1:]

    return mark


class _OfHeads:
    """What a bias (batch, heads, queries, keys) says about the heads of this process."""

    def __init__(self, heads: int, mesh: DeviceMesh) -> None:
        self.heads, self.mesh = heads, mesh

    def __call__(self, bias: Tensor) -> Tensor:
        if bias.shape[1] != self.heads or self.heads == 1:
            return bias
        # A learned table of distances is whole on all processes: its gradient is put together from all of theirs.
        whole = DTensor.from_local(bias, self.mesh, [Replicate()], run_check=False)
        return whole.redistribute(self.mesh, [Shard(1)]).to_local()


def by_block(model: Transformer, mesh: DeviceMesh, gather: torch.dtype | None) -> None:
    """FSDP2 (arXiv 2304.11277): each process holds a part of every weight, and has whole a block at a time.

    What is outside of blocks (tables, last norm, head) is whole from a step's first layer to its end, as the loss uses
    the table again. gather: in which type weights are sent, None for their own.
    """
    policy = MixedPrecisionPolicy(param_dtype=gather, reduce_dtype=torch.float32)
    for module in model.modules():
        if isinstance(module, Experts):
            module.register_forward_hook(_touched)
    for stack in (model, model.encoder):
        for block in stack.blocks if stack is not None else ():
            fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    for method in METHODS:
        register_fsdp_forward_method(model, method)
    for module in model.modules():
        if isinstance(module, FSDPModule):  # the loop divides by what all processes were asked: gradients are summed
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def _touched(module: Experts, inputs: Any, output: Tensor) -> Tensor:
    """Gives experts that no token went to a gradient of zeros: all processes must send the same weights."""
    zero = sum((p.flatten()[:0].sum() for p in module.parameters()), output.new_zeros(()))
    return output + zero
