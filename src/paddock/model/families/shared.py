"""What several families' configurations say in the same words."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from paddock.errors import CheckpointError, UnsupportedError
from paddock.model.config import Config
from paddock.model.rules import Rename
from paddock.model.spec import (
    Activation,
    Architecture,
    DynamicScaling,
    FactorScaling,
    LastToken,
    LinearScaling,
    Llama3Scaling,
    PowerScaling,
    Rope,
    Scaling,
    TruncatedScaling,
    YarnScaling,
)

POWER, TRUNCATED = "paddock_power", "paddock_truncated"  # Giraffe's two, in rope_type

ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


SCORE = Rename("score.weight", "pooler.classes.weight")  # how every decoder's classifier is published


def has(config: Config, classes: tuple[str, ...], *tensors: str) -> bool:
    """Whether a part is there: the stored tensors say, or, where only the configuration is known, its class name."""
    if config.tensors is not None:
        return config.stores(*tensors)
    names = config.get("architectures", default=[])
    return isinstance(names, list) and any(str(name).endswith(classes) for name in names)


def label_count(config: Config) -> int:
    """How many classes: two, where a configuration does not say, as transformers leaves that out."""
    return len(config.table("id2label").values) or config.integer("num_labels", default=2)


def classified(config: Config, decoder: Architecture) -> Architecture:
    """The decoder as it is, or, where class scores are stored for it, with them instead of a vocabulary's logits."""
    if not has(config, ("ForSequenceClassification",), "score.weight"):
        return decoder
    return replace(decoder, head=None, pooler=LastToken(label_count(config)))


def context(config: Config, default: int | None = None, rope: Rope | None = None) -> int | None:
    """The longest text.

    Rotary scaling multiplies the length that the file states (as vLLM counts), but for Llama 3's, whose files state the
    product. Vicuna-16k's own `max_sequence_length` is that product too, beside an unchanged table size.
    """
    length = config.integer(
        "max_sequence_length",
        "max_position_embeddings",
        "n_positions",
        "n_ctx",
        "max_seq_len",
        "seq_length",
        default=default,
        high=2**31,
    )
    if length is None or rope is None or config.get("max_sequence_length", default=None) is not None:
        return length
    match rope.scaling:
        case LinearScaling(factor=factor) | DynamicScaling(factor=factor):
            return max(length, int(length * factor))
        case YarnScaling(factor=factor, original=original):
            return max(length, int(original * factor))
    return length


def rope(config: Config, head_dim: int, fraction: float = 1.0, theta: float = 10000.0) -> Rope:
    """Rotary positions from `rope_theta` and `rope_scaling` (as published until 2025) or `rope_parameters` (since)."""
    scaling_given = config.get("rope_parameters", "rope_scaling", default=None)
    table = config.table("rope_parameters", "rope_scaling")
    base = table.number("rope_theta", default=config.number("rope_theta", default=theta, low=1.0), low=1.0)
    part = table.number("partial_rotary_factor", default=config.number("partial_rotary_factor", default=fraction))
    width = int(head_dim * part)
    if width < 2 or width % 2 or width > head_dim:
        raise CheckpointError(f"config.json rotates {width} of {head_dim} features per head", expected="an even number")
    scaling = _scaling(config, table, width) if scaling_given else None
    if scaling_given:
        try:
            table.finish()
        except UnsupportedError as error:
            raise UnsupportedError(f"in rope_scaling: {error.what}", fix=error.fix) from None
    return Rope(base, width, scaling=scaling)


def _scaling(config: Config, table: Config, width: int) -> Scaling | None:
    table.ignore("finetuned")  # a note on how the factor came about
    kind = table.get("rope_type", "type", default="default")
    trained = config.get("original_max_position_embeddings", "max_position_embeddings", default=2048)
    original = table.integer("original_max_position_embeddings", default=trained, high=2**31)
    if kind == "default":
        return None
    if kind == "factors":
        return FactorScaling(_factors(table.get("factors"), width))
    # Paddock's own names: a program that does not know them refuses, where a known name would be misread.
    if kind == POWER:
        return PowerScaling(table.number("exponent", low=1e-6, high=1e3))
    if kind == TRUNCATED:
        return TruncatedScaling(table.number("cutoff", low=1.0, high=2.0**31))
    factor = table.number("factor", low=1e-3, high=1e6)
    match kind:
        case "linear":
            return LinearScaling(factor)
        case "dynamic":
            return DynamicScaling(factor, original)
        case "llama3":
            low, high = table.number("low_freq_factor"), table.number("high_freq_factor")
            if high <= low:
                raise CheckpointError(f"rope_scaling: high_freq_factor {high} is not above low_freq_factor {low}")
            return Llama3Scaling(factor, low, high, original)
        case "yarn":
            return _yarn(table, factor, original)
    raise UnsupportedError(
        f"config.json: rope scaling {kind!r} is unknown",
        expected=f"default, linear, dynamic, yarn, llama3, {POWER} or {TRUNCATED}",
    )


def _factors(given: Any, width: int) -> tuple[float, ...]:
    """Paddock's own spelling of GGUF's frequency table: a positive divisor for each pair of rotated features."""
    right = isinstance(given, list) and len(given) == width // 2
    if not right or not all(isinstance(f, int | float) and 0 < f < math.inf for f in given):
        raise CheckpointError(f"rope_scaling: factors is {str(given)[:60]}", expected=f"{width // 2} positive numbers")
    return tuple(float(f) for f in given)


def _yarn(table: Config, factor: float, original: int) -> YarnScaling:
    mscale, all_dim = table.number("mscale", default=None), table.number("mscale_all_dim", default=None)

    def gain(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    usual = gain(mscale) / gain(all_dim) if mscale and all_dim else gain(1.0)
    return YarnScaling(
        factor,
        original,
        table.number("beta_fast", default=32.0),
        table.number("beta_slow", default=1.0),
        table.number("attention_factor", default=usual),
        table.flag("truncate", default=True),
    )
