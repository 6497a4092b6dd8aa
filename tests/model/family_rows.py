"""The table of families: tiny models with awkward sizes, and for each one change that must be noticed.

Every row is made by transformers with random weights, saved by it, and read back by Paddock. `change` alters one field
of the architecture, or the rules by which its weights are found; a comparison that still passes would prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from paddock.model.rules import Rule, SplitQKV
from paddock.model.spec import Architecture, Block, Rope

Change = Callable[[Architecture], Architecture]
Relayout = Callable[[list[Rule]], list[Rule]]


@dataclass(frozen=True)
class Row:
    name: str
    model: Any  # the transformers class
    config: Any  # the transformers configuration class
    keys: dict[str, Any]
    change: Change | None = None
    relayout: Relayout | None = None
    tokens: int = 23
    attention: str = "eager"  # which of transformers' own attention paths is the oracle
    published: Callable[[dict[str, Any]], dict[str, Any]] = field(default=lambda config: config)  # older spelling
    readable: bool = True  # whether transformers knows that spelling
    whole_only: bool = False  # transformers' own cache changes the function (dynamic rope)
    spread: float = 0.1  # of the matrices
    vectors: float = 1.0  # of norms and biases; small ones make the next norm's eps count


@dataclass(frozen=True)
class OracleRow:
    """A model that transformers lacks, or computes otherwise than published: its oracle is in oracles.py."""

    name: str
    config: dict[str, Any]
    shapes: Callable[[dict[str, Any]], dict[str, tuple[int, ...]]]
    oracle: Callable[..., Tensor]
    change: Change | None = None
    relayout: Relayout | None = None
    tokens: int = 23
    start: int = 1  # an encoder-decoder's first token
    whole_only: bool = False
    spread: float = 0.1


# Changes of one field, by the part that owns it.


def everywhere(change: Callable[[Block], Block]) -> Change:
    """Applies to each layer's block, and to nothing of an encoder."""

    def apply(a: Architecture) -> Architecture:
        if isinstance(a.block, Block):
            return replace(a, block=change(a.block))
        return replace(a, block=tuple(change(block) for block in a.block))

    return apply


def block(**fields: Any) -> Change:
    return everywhere(lambda b: replace(b, **fields))


def attention(**fields: Any) -> Change:
    return everywhere(lambda b: replace(b, attention=replace(b.attention, **fields)))


def position(**fields: Any) -> Change:
    return everywhere(
        lambda b: replace(b, attention=replace(b.attention, position=replace(b.attention.position, **fields)))
    )  # type: ignore[type-var]


def scaling(**fields: Any) -> Change:
    def apply(b: Block) -> Block:
        rope = b.attention.position
        assert isinstance(rope, Rope) and rope.scaling is not None
        return replace(
            b, attention=replace(b.attention, position=replace(rope, scaling=replace(rope.scaling, **fields)))
        )

    return everywhere(apply)


def feedforward(**fields: Any) -> Change:
    return everywhere(lambda b: replace(b, feedforward=replace(b.feedforward, **fields)))


def wider_window(b: Block) -> Block:
    window = b.attention.window
    return b if window is None else replace(b, attention=replace(b.attention, window=window + 1))


def coarser_norm(b: Block) -> Block:
    return replace(b, norm=replace(b.norm, eps=1e-3))


def embedding(**fields: Any) -> Change:
    return lambda a: replace(a, embedding=replace(a.embedding, **fields))


def head(**fields: Any) -> Change:
    return lambda a: replace(a, head=replace(a.head, **fields))  # type: ignore[type-var]


def encoder(change: Change) -> Change:
    return lambda a: replace(a, encoder=change(a.encoder))  # type: ignore[arg-type]


def layout(name: str) -> Relayout:
    return lambda rules: [replace(r, layout=name) if isinstance(r, SplitQKV) else r for r in rules]


def swapped(one: str, other: str) -> Relayout:
    """Two tensors read into each other's places."""

    def swap(rule: Rule) -> Rule:
        theirs = rule.theirs
        if one in theirs:
            return replace(rule, theirs=theirs.replace(one, other))
        return replace(rule, theirs=theirs.replace(other, one))

    return lambda rules: [swap(rule) for rule in rules]


# Older spellings of config.json.


def before_2025(config: dict[str, Any]) -> dict[str, Any]:
    """`rope_theta` and `rope_scaling` at the top, as published until transformers 5."""
    config = dict(config)
    rope = dict(config.pop("rope_parameters"))
    config["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {"type": kind, **rope}
    return config


def without(*keys: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda config: {key: value for key, value in config.items() if key not in keys}


def refined_web(config: dict[str, Any]) -> dict[str, Any]:
    """Falcon-40B's first config.json."""
    renamed = {"num_attention_heads": "n_head", "num_hidden_layers": "n_layer", "num_kv_heads": "n_head_kv"}
    config = {renamed.get(key, key): value for key, value in config.items() if key != "new_decoder_architecture"}
    return {**config, "model_type": "RefinedWeb"}


def pythia(config: dict[str, Any]) -> dict[str, Any]:
    """The rotary keys as the Pythia suite publishes them."""
    config = dict(config)
    rope = config.pop("rope_parameters")
    return {**config, "rotary_pct": rope["partial_rotary_factor"], "rotary_emb_base": rope["rope_theta"]}
