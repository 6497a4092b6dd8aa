"""Adapters worked into weights where a plain model can hold them: vectors beside linears, biases and norms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from paddock.errors import PaddockError, UnsupportedError
from paddock.model.ahead import Virtual
from paddock.model.families import describe
from paddock.model.prompts import Prompts
from paddock.model.scaling import folded
from paddock.model.transformer import Transformer

# What a family's configuration may say to have biases that the base did without.
WITH_BIASES: tuple[dict[str, Any], ...] = ({}, {"attention_bias": True, "mlp_bias": True}, {"bias": True})


def plain(model: Transformer, config: Mapping[str, Any]) -> tuple[Transformer, dict[str, Any]]:
    """A Transformer without an adapter that computes what `model` does, and its configuration: `config`, or the same
    with biases, the added ones that the adapter has nothing for being zero.

    Raises UnsupportedError for prompts and virtual tokens, which no weight can hold, for shifts in a family that has no
    place for biases, and for matrices that are quantised.
    """
    if any(isinstance(module, Prompts | Virtual) for module in model.modules()):
        raise UnsupportedError(
            "this adapter has prompts: no weight of a plain model can hold them",
            fix="keep it as an adapter, or train adapter-v2 with prompts: 0",
        )
    made = folded(model)
    names = {name for name, _ in made.named_parameters()}
    for more in WITH_BIASES:
        try:
            architecture = describe({**config, **more})
        except PaddockError:  # a family that knows no such key
            continue
        with torch.device("meta"):
            shapes = {name: p.shape for name, p in Transformer(architecture).named_parameters()}
        if names <= shapes.keys() and all(name.endswith(".bias") for name in shapes.keys() - names):
            for name in shapes.keys() - names:
                path, _, leaf = name.rpartition(".")
                like = made.embedding.tokens.weight
                zeros = torch.zeros(shapes[name], device=like.device, dtype=like.dtype)
                made.get_submodule(path)._parameters[leaf] = nn.Parameter(zeros, requires_grad=False)
            made.architecture = architecture
            return made, {**config, **more}
    raise UnsupportedError(
        f"a plain {model.architecture.family} model has no biases that the adapter's shifts could go into",
        fix="keep it as an adapter",
    )
