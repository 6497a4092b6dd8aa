"""Folders with a `quantization_config`: their matrices under plain names and shapes, whatever they are packed in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from paddock.checkpoint import awq, bitsandbytes, gptq
from paddock.checkpoint.pieces import Pieces, Settings
from paddock.checkpoint.stored import Stored
from paddock.checkpoint.weights import sketch
from paddock.errors import CheckpointError, UnsupportedError, did_you_mean
from paddock.model.rules import Rule
from paddock.model.spec import Architecture

METHODS: dict[str, Callable[[Settings, Pieces], dict[str, Stored]]] = {
    "gptq": gptq.read,
    "awq": awq.read,
    "bitsandbytes": bitsandbytes.read,
}


def read(settings: Any, tensors: Mapping[str, Stored], rules: Iterable[Rule]) -> dict[str, Stored]:
    """The tensors of a quantised folder as those of a plain one: `load()` dequantises, `codes` are as published.

    `settings` is the folder's quantization_config. Descriptions are read, and small vectors that decide what kernels
    can do. Raises UnsupportedError for a method or packing that Paddock does not read, CheckpointError for what is
    missing, misshapen or said twice.
    """
    if not isinstance(settings, Mapping):
        raise CheckpointError(f"config.json: quantization_config is {str(settings)[:80]!r}", expected="a dictionary")
    rules = list(rules)
    pieces = Pieces(tensors, lambda name: _transposed(name, rules))
    found = METHODS[_method(settings)](Settings(settings), pieces)
    if not found:
        raise CheckpointError(
            "config.json has a quantization_config, but no tensor is quantised",
            fix='if the weights are meant as they are, ignore_config=["quantization_config"] '
            "(--ignore-config quantization_config on the command line)",
        )
    if twice := sorted(found.keys() & pieces.left.keys()):
        raise CheckpointError(f"tensor {twice[0][:120]!r} is there twice, plain and quantised")
    return pieces.left | found


def _method(settings: Mapping[str, Any]) -> str:
    method = settings.get("quant_method", settings.get("method"))
    if method is None and (settings.get("load_in_4bit") or settings.get("load_in_8bit")):
        return "bitsandbytes"  # as its first versions wrote it
    if not isinstance(method, str) or method not in METHODS:
        raise UnsupportedError(
            f"config.json: quantization_config: these weights are quantised by {str(method)[:80]!r}, which Paddock "
            "does not read",
            expected=" or ".join(METHODS),
            fix=did_you_mean(str(method), METHODS) or "use the model's unquantised weights, or a GGUF file of it",
        )
    return method


def _transposed(name: str, rules: Iterable[Rule]) -> bool:
    for rule in rules:
        if rule.read(name) is not None:
            return bool(getattr(rule, "transpose", False))
    return False


def without_idle_biases(
    tensors: dict[str, Stored], published: Mapping[str, Stored], architecture: Architecture, rules: Iterable[Rule]
) -> dict[str, Stored]:
    """AutoGPTQ once wrote a bias of zeros beside every matrix, in models that have none: those are left out.

    `published` are the tensors as they lie in the files. A bias that is not zero stays, and is refused where it has no
    place.
    """
    matrices = {name.removesuffix(".qweight") for name in published if name.endswith(".qweight")}
    beside = [f"{module}.bias" for module in matrices if f"{module}.bias" in tensors]
    if not beside:
        return tensors
    expected = {name for name, _ in sketch(architecture, len(tensors)).named_parameters()}
    rules = [rule for rule in rules if rule.when(architecture)]
    idle = {name for name in beside if not _has_place(name, rules, expected) and not tensors[name].load().any()}
    return {name: stored for name, stored in tensors.items() if name not in idle}


def _has_place(name: str, rules: Iterable[Rule], expected: set[str]) -> bool:
    answers = (rule.read(name) for rule in rules)
    return any(own in expected for own in next((found for found in answers if found is not None), ()))
