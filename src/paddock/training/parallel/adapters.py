"""Adapters beside a model that lies in shards: what is taken and how it is cut, and what is refused.

Where blocks are gathered (fsdp) an adapter is parameters like others. Where matrices are cut by role, so are those of a
low rank: B's rows go with the outputs of q k v gate up, A's columns with the inputs of out and down. The other of the
two is whole on all processes, and `low`, what A makes of x, is rank numbers a token.

    by outputs   y_i = x W_i^T + scale (x A^T) B_i^T            of A, and of x, the gradients are summed
    by inputs    y = sum_i x_i W_i^T + scale (sum_i x_i A_i^T) B^T      low is summed, B's gradient is the same on all
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

from paddock import kernels
from paddock.errors import UsageError
from paddock.kernels.packed import Packed
from paddock.kernels.q8 import Q8
from paddock.model.ahead import Prompt
from paddock.model.lora import Adapted
from paddock.model.transformer import Transformer
from paddock.training.parallel.codes import holds_nf4
from paddock.training.parallel.section import Parallel

WHOLE = "set parallel.mode: ddp and parallel.tensor: 1, which gives each process the whole model"


def check(model: Transformer, section: Parallel, parts: bool, device: torch.device) -> None:
    """Refuses (UsageError) what cannot be cut by block (fsdp), or by role (`parts`: tensor parallelism)."""
    blocks = section.mode == "fsdp"
    for module in model.modules():
        packed = [each for each in vars(module).values() if isinstance(each, Packed)]
        if packed and parts:
            raise UsageError("tensor parallelism cuts numbers, and this base holds codes", fix=WHOLE)
        if packed and blocks and not (holds_nf4(module) or isinstance(packed[0], Q8)):
            raise UsageError("this base was published quantised, in codes that fsdp cannot share out", fix=WHOLE)
        if packed and device.type != "cpu":
            raise UsageError(
                f"a base in NF4 is multiplied on the CPU only, not on {device.type}", fix="method.name=lora"
            )
        if packed and section.gather == "bfloat16":
            raise UsageError("parallel.gather: bfloat16 would take codes for numbers", fix="leave parallel.gather out")
    if blocks and isinstance(model.ahead, Prompt):
        # Its vectors go through every block before the text does, and a block is gathered for one pass at a time.
        raise UsageError(
            "prompt tuning passes each block twice, which fsdp does not allow", fix=f"{WHOLE}, or use prefix"
        )
    if parts and model.ahead is not None:
        raise UsageError("tensor parallelism cuts heads, and virtual tokens have keys and values of all", fix=WHOLE)


def in_parts(whole: Adapted, rows: bool, mesh: DeviceMesh) -> nn.Module:
    """What takes the place of an adapted linear whose base will be cut by its inputs (`rows`) or else its outputs.

    Raises UsageError for one with magnitudes: the lengths of rows that lie in parts are on no process.
    """
    if whole.magnitude is not None:
        raise UsageError("tensor parallelism does not take DoRA, whose magnitudes are of whole rows", fix=WHOLE)
    return OfInputs(whole, mesh) if rows else OfOutputs(whole, mesh)


class _InParts(nn.Module):
    def __init__(self, whole: Adapted, mesh: DeviceMesh) -> None:
        super().__init__()
        self.base, self.a, self.b = whole.base, whole.a, whole.b
        self.scale, self.dropout, self.seen, self.mesh = whole.scale, whole.dropout, whole.seen, mesh

    def low(self, x: Tensor, a: Tensor) -> Tensor:
        """(..., in) and (rank, in) to (..., rank), scaled."""
        if x.dtype != a.dtype and not torch.is_autocast_enabled(x.device.type):
            x = x.to(a.dtype)
        return kernels.linear(x, a, None) * self.scale

    @property
    def dropping(self) -> bool:
        return self.dropout > 0 and self.training and torch.is_grad_enabled()


class OfOutputs(_InParts):
    """x (..., in), the same on all processes, to this one's part of (..., out)."""

    def __init__(self, whole: Adapted, mesh: DeviceMesh) -> None:
        super().__init__(whole, mesh)
        self.b = _cut(whole.b, mesh, 0)

    def forward(self, x: Tensor) -> Tensor:
        shared = x if isinstance(x, DTensor) else self._marked(x)
        inner = shared.to_local(grad_placements=[Partial()])
        if self.dropping:  # all processes draw alike
            inner = self.seen.dropped(x, self.dropout, inner)
        low = self.low(inner, self._marked(self.a).to_local(grad_placements=[Partial()]))
        y, more = self.base(shared), kernels.linear(low, self.b.to_local(), None)  # type: ignore[attr-defined]
        return y + more.to(y.dtype)

    def _marked(self, tensor: Tensor) -> DTensor:
        return DTensor.from_local(tensor, self.mesh, [Replicate()], run_check=False)


class OfInputs(_InParts):
    """This process's part of x (..., in) to (..., out), the same on all."""

    def __init__(self, whole: Adapted, mesh: DeviceMesh) -> None:
        super().__init__(whole, mesh)
        self.a = _cut(whole.a, mesh, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self._dropped(x) if self.dropping else x
        part = DTensor.from_local(self.low(inner, self.a.to_local()), self.mesh, [Partial()], run_check=False)  # type: ignore[attr-defined]
        low = part.redistribute(placements=[Replicate()]).to_local()
        y, more = self.base(x), kernels.linear(low, self.b, None)
        return y + more.to(y.dtype)

    def _dropped(self, x: Tensor) -> Tensor:
        """Dropout of this process's part as one process would draw it for the whole."""
        parts, own = self.mesh.size(), self.mesh.get_local_rank()
        kept = F.dropout(x.new_ones(*x.shape[:-1], x.shape[-1] * parts), self.dropout)
        return x * kept.chunk(parts, -1)[own]


def _cut(parameter: Tensor, mesh: DeviceMesh, dim: int) -> nn.Parameter:
    # Each process cuts what it has itself: the numbers come from the main process afterwards.
    part = distribute_tensor(parameter.detach(), mesh, [Shard(dim)], src_data_rank=None)
    return nn.Parameter(part, requires_grad=parameter.requires_grad)
