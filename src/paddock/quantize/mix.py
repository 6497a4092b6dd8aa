"""Which ggml type each tensor of a GGUF file gets: the rule of llama.cpp's mixes, where it is known to pay.

    vectors, norms, biases, routers, tables of positions,    F32: small, and every weight passes through them
    heads over classes
    embeddings and head, below 6 bits                        Q6_K: each row is a token's only chance
    values and down projections of half the layers           Q6_K in the 4- and 5-bit K-quants ("medium"): the first
                                                             eighth, the last eighth, and every third between
    values (or fused q, k, v) of other layers                the base; fused ones one step finer than that
    values and keys of mixtures of eight experts             Q8_0: tiny beside the experts
    all other matrices                                       the base

A row that is not whole blocks of 256 takes the next type of blocks of 32 that is at least as fine, and one that is not
whole blocks of 32 stays F16, as llama.cpp does it.
"""

from __future__ import annotations

import re

from paddock.checkpoint.block_types import TYPES, TensorType
from paddock.checkpoint.gguf_saving import Outgoing
from paddock.checkpoint.gguf_write import NUMBERS
from paddock.model.spec import Architecture, Experts
from paddock.quantize.kinds import GGUFKind

WHOLE = ("_norm", "ffn_gate_inp", "position_embd", "token_types", "rope_freqs", "attn_rel_b", "cls.")
FALLBACK = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
FINE = ("F32", "F16", "BF16", "Q8_0", "Q6_K")  # kinds that treat all matrices alike
FUSED = {"Q4_K": "Q5_K", "Q5_K": "Q6_K"}


def type_of(tensor: Outgoing, kind: GGUFKind, part: Architecture) -> TensorType:
    """The type of one tensor in a file of this kind."""
    if len(tensor.shape) < 2 or tensor.name.endswith(".bias") or any(word in tensor.name for word in WHOLE):
        return _named("F32")
    return _fitting(_wanted(tensor.name, kind.base, part), tensor.shape[-1])


def _wanted(name: str, base: str, part: Architecture) -> str:
    if base in FINE:
        return base
    if name in ("token_embd.weight", "output.weight"):
        return "Q6_K"
    match = re.search(r"blk\.(\d+)\.(.+)\.weight", name)
    if match is None or base not in FUSED:
        return base
    layer, role = int(match[1]), match[2]
    experts = part.layer(0).feedforward
    if isinstance(experts, Experts) and experts.count == 8 and role in ("attn_k", "attn_v"):
        return "Q8_0"
    if role == "attn_qkv":
        return FUSED[base]
    return "Q6_K" if role in ("attn_v", "ffn_down", "ffn_down_exps") and finer(layer, part.blocks) else base


def finer(layer: int, layers: int) -> bool:
    """Whether this layer is of the half that gets more bits."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _fitting(name: str, columns: int) -> TensorType:
    while columns % _named(name).weights:
        name = FALLBACK.get(name, "F16")
    return _named(name)


def _named(name: str) -> TensorType:
    return TYPES[NUMBERS[name]]
