"""GPT-2. The converter transposed its matrices to (out, in); published ones are (in, out)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from paddock.checkpoint.gguf_families.metadata import MAX_BLOCKS, Change, Family, Metadata, plain_heads

_NAMES = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
    "blk.{i}.attn_norm": "transformer.h.{i}.ln_1",
    "blk.{i}.attn_qkv": "transformer.h.{i}.attn.c_attn",
    "blk.{i}.attn_output": "transformer.h.{i}.attn.c_proj",
    "blk.{i}.ffn_norm": "transformer.h.{i}.ln_2",
    "blk.{i}.ffn_up": "transformer.h.{i}.mlp.c_fc",
    "blk.{i}.ffn_down": "transformer.h.{i}.mlp.c_proj",
}


def _config(metadata: Metadata) -> dict[str, Any]:
    return {
        "model_type": "gpt2",
        "n_embd": metadata.integer("embedding_length"),
        "n_inner": metadata.integer("feed_forward_length"),
        "n_layer": metadata.integer("block_count", high=MAX_BLOCKS),
        "n_head": plain_heads(metadata),
        "n_positions": metadata.integer("context_length"),
        "vocab_size": metadata.rows("token_embd.weight"),
        "layer_norm_epsilon": metadata.number("attention.layer_norm_epsilon"),
        "activation_function": "gelu_new",
        "tie_word_embeddings": not metadata.stores("output.weight"),
    }


def _transpose(weight: Tensor) -> Tensor:
    return weight.T if weight.dim() == 2 else weight


def _changes(metadata: Metadata) -> Mapping[str, Change]:
    matrices = ("attn_qkv", "attn_output", "ffn_up", "ffn_down")
    return {f"blk.{{i}}.{name}": _transpose for name in matrices}


FAMILY = Family(lambda _: _NAMES, _config, _changes)
