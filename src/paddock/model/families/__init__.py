"""One short file per family: `architecture(config)` says what the model is, `RULES` where its weights lie.

To add a family, add a file with MODEL_TYPES, architecture and RULES, and name it in FAMILIES.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from paddock.errors import CheckpointError, UnsupportedError, nearest
from paddock.model.config import Config
from paddock.model.rules import Rule
from paddock.model.spec import Architecture

FAMILIES = (
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "gpt_neox",
    "falcon",
    "mpt",
    "bloom",
    "gpt2",
    "codegen",
    "chatglm",
    "chatglm2",
    "bert",
    "t5",
    "marian",
    "transformer",
)


class Family(Protocol):
    MODEL_TYPES: tuple[str, ...]
    RULES: list[Rule]

    @staticmethod
    def architecture(config: Config) -> Architecture: ...


def model_types() -> dict[str, Any]:
    """Every `model_type` that Paddock runs, and the family file that describes it."""
    modules = [module_of(name) for name in FAMILIES]
    return {model_type: module for module in modules for model_type in module.MODEL_TYPES}


def module_of(name: str) -> Any:
    """The file of a family in FAMILIES, whose name its architectures have."""
    return importlib.import_module(f"{__name__}.{name}")


def family(config: Mapping[str, Any]) -> Family:
    """The family that a config.json names in `model_type`."""
    name = config.get("model_type")
    if not isinstance(name, str):
        raise CheckpointError(f"config.json: model_type is {name!r}", fix="copy the model's own config.json again")
    if name == "chatglm" and "padded_vocab_size" in config:
        name = "chatglm2"  # ChatGLM2 and 3 kept the name of another architecture; only they pad their vocabulary
    known = model_types()
    if name not in known:
        near = nearest(name, known)
        raise UnsupportedError(
            f"config.json: unknown model_type {name!r}" + (f"; the nearest known is {near!r}" if near else ""),
            expected=", ".join(sorted(known)),
        )
    return known[name]


def describe(values: Mapping[str, Any], tensors: Collection[str] | None = None) -> Architecture:
    """config.json, and the names of the tensors beside it, as an Architecture. Unknown keys are refused."""
    chosen = family(values)
    config = Config(values, tensors)
    config.ignore("quantization_config")  # how tensors are packed: the checkpoint room reads it
    architecture = chosen.architecture(config)
    config.finish()
    return architecture
