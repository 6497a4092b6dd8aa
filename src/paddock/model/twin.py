"""A second model around the parameters of a first: what every adapter is put on, so that it costs only its own size."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from paddock.kernels.packed import Packed


def twin_of(module: Any) -> Any:
    """New modules around the same parameters: what is put into one of them is not in the original's. A module that
    several share is one in the twin too."""
    return _twin(module, {})


def _twin(module: Any, done: dict[int, Any]) -> Any:
    if module is None or id(module) in done:
        return None if module is None else done[id(module)]
    twin = done[id(module)] = copy.copy(module)
    twin.__dict__.pop("weight_bytes", None)  # what was computed of the model before
    twin._parameters, twin._buffers = dict(module._parameters), dict(module._buffers)
    twin._modules = {name: _twin(child, done) for name, child in module._modules.items()}
    for name, kept in vars(module).items():
        if "_hooks" in name and isinstance(kept, dict):
            setattr(twin, name, kept.copy())
    return twin


def empty(model: nn.Module) -> None:
    """Takes the numbers out of a model, in place: names, shapes, types and what is shared are left, on the meta device.

    Other models around the same parameters keep them.
    """
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        packed = {name: value for name, value in vars(module).items() if isinstance(value, Packed)}
        for name, value in packed.items():
            delattr(module, name)
            module.register_parameter(name, _nothing(torch.empty(value.shape, device="meta")))
        for name, parameter in module._parameters.items():
            if parameter is not None:
                if id(parameter) not in made:
                    made[id(parameter)] = _nothing(torch.empty_like(parameter, device="meta"))
                module._parameters[name] = made[id(parameter)]


def _nothing(tensor: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
