"""Longer texts for a model with rotary positions: its frequencies scaled, and its context stated anew.

The weights stay as they are. What the scaling costs, fine-tuning on longer texts wins back (Giraffe, arXiv 2308.10882);
docs/long-context.md says how.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from paddock.checkpoint import folder
from paddock.checkpoint.checkpoint import Checkpoint, understand
from paddock.engine.language_model import LanguageModel
from paddock.engine.saving import write_side_files
from paddock.errors import UnsupportedError, UsageError, did_you_mean
from paddock.model.families.shared import POWER, TRUNCATED
from paddock.model.spec import (
    Alibi,
    Architecture,
    Buckets,
    DynamicScaling,
    Learned,
    LinearScaling,
    PowerScaling,
    Rope,
    Scaling,
    Sinusoidal,
    TruncatedScaling,
    YarnScaling,
)

Kind = Literal["linear", "ntk", "dynamic", "yarn", "power", "truncated"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MOST = 1024.0  # times the context
EXPONENT = 0.1  # of the power basis, where nothing is said
LONGEST = 2**31
LENGTHS = ("max_sequence_length", "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
KEPT = ("rope_theta", "partial_rotary_factor")  # what the table of rotary settings says besides the scaling


@dataclass(frozen=True)
class Extension:
    """What is asked: how the frequencies change, and how many times longer the texts become.

    linear: all frequencies divided by `scale`. ntk: a larger rotary base, so that the slowest frequency is divided by
    `scale` and the fastest stays. dynamic: that, as far as each text needs it. yarn: slow frequencies divided, fast
    ones kept. power: frequency i of n multiplied by (1 - i/n)^exponent. truncated: slow frequencies cut at `cutoff`
    positions, by default the model's context.
    """

    kind: Kind
    scale: float
    exponent: float | None = None
    cutoff: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            hint = did_you_mean(str(self.kind), KINDS)
            raise UsageError(f"there is no scaling {str(self.kind)[:40]!r}", expected=", ".join(KINDS), fix=hint)
        if not (math.isfinite(self.scale) and 1 < self.scale <= MOST):
            raise UsageError(f"a scale of {self.scale:g}", expected=f"more than 1, up to {MOST:g}: times the context")
        for name, value, owner in (("exponent", self.exponent, "power"), ("cutoff", self.cutoff, "truncated")):
            if value is not None and self.kind != owner:
                raise UsageError(f"--{name} is a setting of --rope {owner}", fix="leave it out")
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(f"--{name} {value:g}", expected="a number above 0")


@dataclass(frozen=True)
class Extended:
    """What a model came to. context: tokens before and after. rope: its rotary positions now."""

    before: int
    after: int
    rope: Rope
    config: Mapping[str, Any]


def extended(checkpoint: Checkpoint, asked: Extension) -> Extended:
    """The configuration of the longer model.

    Raises UsageError for a model that needs none of this or is scaled in another way already, UnsupportedError for one
    whose positions cannot be scaled or whose configuration has no place for it.
    """
    part = checkpoint.architecture
    rope = rope_of(part)
    context = part.context
    if context is None:
        raise UsageError("the model does not say how long its texts may be", fix="state max_position_embeddings")
    after = int(context * asked.scale)
    if after > LONGEST:
        raise UsageError(f"a context of {after:,} tokens", expected=f"at most {LONGEST:,}")
    wanted = _scaled(rope, asked, context)
    config = _stated(checkpoint.config, rope, wanted, asked, after)
    _check(checkpoint, config, wanted, after)
    return Extended(context, after, wanted, config)


def extend(model: LanguageModel, out: Path, asked: Extension) -> Extended:
    """Writes `model` at `out` with its positions scaled, and with all that lay beside its weights.

    Raises what `extended` raises, and ResourceError when the disk is full.
    """
    made = extended(model.checkpoint, asked)
    beside = model.side_files()
    folder.write(out, model.model, dict(made.config), dict(model.checkpoint.generation))
    write_side_files(out, beside)
    return made


def rope_of(part: Architecture) -> Rope:
    """The rotary positions that all layers share. Raises UsageError where nothing is needed, else UnsupportedError."""
    found = {layer.attention.position for layer in part.layers}
    table = part.embedding.positions
    if any(isinstance(position, Alibi | Buckets) for position in found):
        raise UsageError(
            f"this {part.family} sees distances, not positions, so nothing is needed for longer texts",
            fix="fine-tune it on longer texts as it is",
        )
    if isinstance(table, Learned):
        raise UnsupportedError(
            f"this {part.family} has learned {table.count} positions one by one, and there is none to put after them",
            fix="choose a model with rotary positions, such as a LLaMA",
        )
    if isinstance(table, Sinusoidal) or len(found) != 1 or not isinstance(rope := found.pop(), Rope):
        raise UnsupportedError(f"the positions of this {part.family} are not rotary, or not of one kind")
    return rope


def _scaled(rope: Rope, asked: Extension, context: int) -> Rope:
    """The same positions, scaled."""
    if asked.kind == "linear" and isinstance(rope.scaling, LinearScaling):
        return replace(rope, scaling=LinearScaling(rope.scaling.factor * asked.scale))
    if rope.scaling is not None:
        now = type(rope.scaling).__name__.removesuffix("Scaling").lower()
        raise UsageError(
            f"the model's positions are scaled already ({now})",
            fix="take the model that was scaled, or --rope linear where that is linear",
        )
    if asked.kind == "ntk":
        if rope.width < 4:
            raise UnsupportedError("a single rotary frequency cannot be spread", fix="use --rope linear")
        return replace(rope, theta=rope.theta * asked.scale ** (rope.width / (rope.width - 2)))
    return replace(rope, scaling=_scaling(asked, context))


def _scaling(asked: Extension, context: int) -> Scaling:
    match asked.kind:
        case "dynamic":
            return DynamicScaling(asked.scale, context)
        case "yarn":
            return YarnScaling(asked.scale, context, attention=0.1 * math.log(asked.scale) + 1.0)
        case "power":
            return PowerScaling(EXPONENT if asked.exponent is None else asked.exponent)
        case "truncated":
            return TruncatedScaling(float(context) if asked.cutoff is None else asked.cutoff)
    return LinearScaling(asked.scale)


def _stated(config: Mapping[str, Any], rope: Rope, wanted: Rope, asked: Extension, after: int) -> dict[str, Any]:
    """config.json of the longer model.

    Readers multiply the stated length by a linear or dynamic factor themselves; every other kind states the product.
    """
    result = dict(config)
    name = "rope_parameters" if result.get("rope_parameters") is not None else "rope_scaling"
    old = result.get(name) or {}
    table = {key: old[key] for key in KEPT if key in old}
    multiplied = asked.kind not in ("linear", "dynamic")
    for key in LENGTHS:
        if result.get(key) is not None and (multiplied or key == "max_sequence_length"):
            result[key] = after
    if asked.kind == "ntk":
        _place_theta(result, table, wanted.theta)
        table |= {"rope_type": "default"} if name == "rope_parameters" else {}
    else:
        table |= _words(wanted)
    result.pop("rope_scaling", None)
    result[name] = table or None
    return result


def _place_theta(config: dict[str, Any], table: dict[str, Any], theta: float) -> None:
    """The rotary base, wherever the configuration says it."""
    (table if "rope_theta" in table else config)["rope_theta"] = theta
    if "rotary_emb_base" in config:
        config["rotary_emb_base"] = theta


def _words(rope: Rope) -> dict[str, Any]:
    """The table of a scaling; `type` is how programs before 2025 call `rope_type`."""
    match rope.scaling:
        case LinearScaling(factor):
            return {"rope_type": "linear", "type": "linear", "factor": factor}
        case DynamicScaling(factor):
            return {"rope_type": "dynamic", "type": "dynamic", "factor": factor}
        case YarnScaling(factor, original):
            length = {"original_max_position_embeddings": original}
            return {"rope_type": "yarn", "type": "yarn", "factor": factor} | length
        case PowerScaling(exponent):
            return {"rope_type": POWER, "type": POWER, "exponent": exponent}
        case TruncatedScaling(cutoff):
            return {"rope_type": TRUNCATED, "type": TRUNCATED, "cutoff": cutoff}
    raise AssertionError(f"{rope.scaling} is no scaling that is written")


def _check(checkpoint: Checkpoint, config: Mapping[str, Any], wanted: Rope, after: int) -> None:
    """Refuses where the configuration, read again, does not say what was meant."""
    family = checkpoint.architecture.family
    told = f"config.json of a {family} has no place for scaled positions"
    try:
        found = understand(config, checkpoint.tensors.keys())
    except UnsupportedError as error:
        raise UnsupportedError(f"{told} ({error.what})") from None
    if any(layer.attention.position != wanted for layer in found.layers) or found.context != after:
        raise UnsupportedError(told)
