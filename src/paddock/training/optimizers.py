"""Rules that move the weights, and which weights decay. PyTorch's own where it has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from paddock.errors import UsageError
from paddock.model.scaling import Scaled
from paddock.training.adafactor import Adafactor
from paddock.training.eight_bit import AdamW8bit
from paddock.training.lion import Lion
from paddock.training.muon import Muon
from paddock.training.recipe import Optimizer


def make(
    model: nn.Module, recipe: Optimizer, rates: Mapping[str, float] = MappingProxyType({})
) -> torch.optim.Optimizer:
    """The optimizer of a recipe over the parameters of a model that take gradients. Its state goes through `state_dict`
    exactly. rates: by what some parameters' names multiply the learning rate, the `rate` of their group."""
    settings = recipe.settings()
    own = groups(model, settings.pop("weight_decay"), recipe, rates)
    rate: dict[str, Any] = {"lr": recipe.learning_rate}
    sharded = any(hasattr(parameter, "placements") for parameter in model.parameters())
    match recipe.name:
        case "sgd":
            # Its fused kernel knows neither shards nor a weight whose first gradient comes late (a rare expert).
            return torch.optim.SGD(own, **rate, **settings, fused=False)
        case "rmsprop":
            return torch.optim.RMSprop(own, **rate, alpha=settings.pop("smoothing"), **settings)
        case "adam":
            return torch.optim.Adam(own, **rate, **settings, fused=True)
        case "adamw":
            return torch.optim.AdamW(own, **rate, **settings, fused=True)
        case "adamw8bit":
            if sharded:
                raise UsageError(
                    "adamw8bit keeps blocks of whole parameters, and here each process has shards",
                    fix="parallel.mode=ddp, or another optimizer (adamw takes shards)",
                )
            return AdamW8bit(own, **rate, **settings)
        case "adafactor":
            return Adafactor(own, **rate)
        case "lion":
            return Lion(own, **rate, **settings)
        case "muon":
            return Muon(own, **rate, **settings)


def groups(
    model: nn.Module, weight_decay: float, recipe: Optimizer, rates: Mapping[str, float] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """Parameters in groups, each with the decay of its own; Muon's say whether their matrices are made orthogonal.

    Matrices decay; norms, biases and everything looked up do not. A matrix is followed by a norm or a softmax that
    takes away its scale, so that decay sets how fast it may still turn; a gain or a bias pulled to zero only changes
    what is computed, and a row of a table decays at each step but is corrected only at those where its token comes.
    Vectors beside linears never decay, whatever `recipe.decay`: a scale would go to 0, where nothing comes through.
    """
    beside = {id(p) for m in model.modules() if isinstance(m, Scaled) for p in m.parameters(recurse=False)}
    looked_up = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    found: dict[tuple[bool, bool, float, Any], list[nn.Parameter]] = {}
    for name, parameter in named(model):
        matrix = parameter.dim() >= 2 and id(parameter) not in looked_up
        orthogonal = recipe.name == "muon" and matrix and not name.startswith("head.")
        mesh = getattr(parameter, "device_mesh", None)  # fused kernels take no list of which some lie in shards
        decays = (matrix or recipe.decay == "all") and id(parameter) not in beside
        found.setdefault((decays, orthogonal, rates.get(name, 1.0), mesh), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": weight_decay if decays else 0.0, "rate": rate}
        | ({"orthogonal": orthogonal} if recipe.name == "muon" else {})
        for (decays, orthogonal, rate, _), parameters in found.items()
    ]


def named(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that are trained, once each, in the model's order."""
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)
