"""What each role's weights are called in a GGUF file. As roles have one name in every family, this is one table.

Names: ggml-org/llama.cpp, `gguf-py/gguf/constants.py`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from paddock.errors import UnsupportedError

_ENDS = {
    "embedding.tokens": "token_embd",
    "embedding.positions": "position_embd",
    "embedding.segments": "token_types",
    "embedding.norm": "token_embd_norm",
    "norm": "output_norm",
    "head": "output",
}
_BLOCK = {
    "attention_norm": "attn_norm",
    "attention.q": "attn_q",
    "attention.k": "attn_k",
    "attention.v": "attn_v",
    "attention.out": "attn_output",
    "feedforward_norm": "ffn_norm",
    "feedforward.gate": "ffn_gate",
    "feedforward.up": "ffn_up",
    "feedforward.down": "ffn_down",
    "feedforward.router": "ffn_gate_inp",
    "feedforward.experts.{e}.gate": "ffn_gate_exps",
    "feedforward.experts.{e}.up": "ffn_up_exps",
    "feedforward.experts.{e}.down": "ffn_down_exps",
}
_FUSED = {f"attention.{role}": "attn_qkv" for role in "qkv"}  # [q | k | v], as Paddock's roles are cut
_BERT = {"attention_norm": "attn_output_norm", "feedforward_norm": "layer_output_norm"}
_CLASSES = {"pooler.dense": "cls", "pooler.classes": "cls.output"}  # of a BERT, the only one here that may have them
_FALCON_TWO_NORMS = {"attention_norm": "attn_norm_2", "feedforward_norm": "attn_norm"}
_CHATGLM = {"feedforward.gate": "ffn_up"}  # [gate | up]
_CROSS = {
    "cross_norm": "cross_attn_norm",
    **{f"cross.{role}": f"cross_attn_{role}" for role in "qkv"},
    "cross.out": "cross_attn_o",
}
_T5 = _CROSS | {"attention.out": "attn_o"}
_CHANGES: dict[str, dict[str, str]] = {
    "llama": {},
    "qwen2": {},
    "falcon": _FUSED,
    "mpt": _FUSED,
    "bloom": _FUSED,
    "gptneox": _FUSED,
    "gpt2": _FUSED,
    "bert": _BERT,
    "chatglm": _FUSED | _CHATGLM,
    "t5": _T5,
}


@dataclass(frozen=True)
class Group:
    """A tensor of the file and the parameters in it, in order; `experts`: one matrix of each, as a third dimension."""

    name: str
    ours: tuple[str, ...]
    experts: bool = False


def grouped(architecture: str, parameters: Collection[str]) -> list[Group]:
    """The tensors that hold `parameters` (canonical names) in a file of this llama.cpp `architecture`.

    Raises UnsupportedError for a parameter that such files have no place for.
    """
    roles = _BLOCK | _CHANGES[architecture]
    if architecture == "falcon" and "blocks.0.feedforward_norm.weight" in parameters:
        roles |= _FALCON_TWO_NORMS
    found: dict[str, list[str]] = {}
    for own in parameters:
        base, _, suffix = own.rpartition(".")
        name = _named(architecture, roles, base)
        if name is None:
            raise UnsupportedError(f"a GGUF file of a {architecture} model has no place for {own!r}")
        found.setdefault(f"{name}.{suffix}", []).append(own)
    return [Group(name, tuple(ours), name.split(".")[-2].endswith("_exps")) for name, ours in found.items()]


def _named(architecture: str, roles: Mapping[str, str], base: str) -> str | None:
    if architecture == "t5":
        return _t5(roles, base)
    ends = _ENDS | _CLASSES if architecture == "bert" else _ENDS
    if base in ends:
        return ends[base]
    layer, role = _cut(base)
    return f"blk.{layer}.{roles[role]}" if role in roles else None


def _t5(roles: Mapping[str, str], base: str) -> str | None:
    """Two stacks; the one table of distances that each has is kept in its first layer."""
    if base in ("embedding.tokens", "head"):
        return _ENDS[base]
    side, base = ("enc", base.removeprefix("encoder.")) if base.startswith("encoder.") else ("dec", base)
    if base in ("norm", "relative_bias"):
        return f"{side}.output_norm" if base == "norm" else f"{side}.blk.0.attn_rel_b"
    layer, role = _cut(base)
    return f"{side}.blk.{layer}.{roles[role]}" if role in roles else None


def _cut(base: str) -> tuple[str, str]:
    """`blocks.3.feedforward.experts.0.up` as ("3", "feedforward.experts.{e}.up")."""
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", base)
    if match is None:
        return "", ""
    return match[1], re.sub(r"experts\.\d+\.", "experts.{e}.", match[2])
