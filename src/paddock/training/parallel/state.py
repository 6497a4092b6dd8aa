"""Weights and the optimizer's state between the plain form, whole tensors by name, and what each process holds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from paddock.errors import CheckpointError


def check(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    moments: Mapping[str, Mapping[str, Any]],
    learns: Collection[str] | None = None,
) -> None:
    """Refuses weights and moments that are not of this model (of its parameters `learns`, all of them if None), before
    anything is changed."""
    own = {name: p for name, p in model.named_parameters() if learns is None or name in learns}
    for kind, given in (("weights", weights), ("optimizer's state", moments)):
        if unknown := sorted(given.keys() - own.keys()):
            raise CheckpointError(
                f"the {kind} to resume from hold {unknown[0]!r}, which this model does not have",
                fix="resume with the recipe that the run was started with",
            )
    for name, parameter in own.items():
        if name not in weights:
            raise CheckpointError(f"the weights to resume from lack {name!r}")
        if weights[name].shape != parameter.shape:
            raise CheckpointError(
                f"{name!r} has the shape {list(weights[name].shape)} in the weights to resume from",
                expected=f"{list(parameter.shape)}",
            )


def sharded(tensor: Tensor) -> bool:
    """Whether it is a DTensor; asked without importing those, which takes a second that one process need not wait."""
    return hasattr(tensor, "placements")


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds, on the same memory."""
    return tensor.to_local() if sharded(tensor) else tensor  # type: ignore[attr-defined]


def gathered(tensor: Tensor) -> Tensor:
    """The whole of a tensor; every process that holds a part must ask for it."""
    return tensor.full_tensor() if sharded(tensor) else tensor  # type: ignore[attr-defined]


@torch.no_grad()
def fill(parameter: Tensor, whole: Tensor) -> None:
    """Copies the part of `whole` that is this process's into `parameter`."""
    local(parameter).copy_(local(like(whole, parameter)))


def with_room(model: Any, device: torch.device) -> Any:
    """A model on the meta device, in place, with room for its numbers on `device`; shared parameters stay shared."""
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                places.setdefault(id(parameter), []).append((module, name))
    model.to_empty(device=device)
    for (first, name), *others in places.values():
        for module, other in others:
            module._parameters[other] = first._parameters[name]
    return model


def groups_of(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Any]]:
    """The group of each parameter, by the parameter's id."""
    return {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}


def kept(value: Any, parameter: Tensor, group: Mapping[str, Any]) -> Any:
    """One item of the optimizer's plain state as the optimizer keeps it beside `parameter`: cut like it where it has
    its shape. Counts of steps lie on the parameter's device only where a kernel reads them there."""
    if not isinstance(value, Tensor):
        return value
    if value.shape == parameter.shape:
        return like(value, parameter)
    beside = value.dim() or group.get("fused") or group.get("capturable")
    return value.to(local(parameter).device if beside else "cpu", copy=True)


def like(whole: Tensor, parameter: Tensor) -> Tensor:
    """`whole` on the device of `parameter`, cut as it is."""
    whole = whole.to(local(parameter).device)
    if sharded(parameter):
        from torch.distributed.tensor import distribute_tensor

        # Every process has the whole tensor and takes its own part of it: nothing is sent.
        mesh, placements = parameter.device_mesh, parameter.placements  # type: ignore[attr-defined]
        return distribute_tensor(whole, mesh, placements, src_data_rank=None)
    return whole.clone()
