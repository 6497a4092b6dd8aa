"""Falcon 7B, 40B, 180B and Falcon 2 11B. The converter reordered the groups of queries, keys and values."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from paddock.checkpoint.gguf_families.metadata import MAX_BLOCKS, Change, Family, Metadata, head_width, kv_heads, rope
from paddock.checkpoint.rows import grouped

_LAYER = "transformer.h.{i}."
_NAMES = {
    "token_embd": "transformer.word_embeddings",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
    "blk.{i}.attn_qkv": _LAYER + "self_attention.query_key_value",
    "blk.{i}.attn_output": _LAYER + "self_attention.dense",
    "blk.{i}.attn_norm_2": _LAYER + "ln_attn",
    "blk.{i}.ffn_up": _LAYER + "mlp.dense_h_to_4h",
    "blk.{i}.ffn_down": _LAYER + "mlp.dense_4h_to_h",
}


def _names(metadata: Metadata) -> Mapping[str, str]:
    """Two norms per layer are 40B and 180B, whose second name is that of attention's norm."""
    two = metadata.stores("blk.0.attn_norm_2.weight")
    return _NAMES | {"blk.{i}.attn_norm": _LAYER + ("ln_mlp" if two else "input_layernorm")}


def _config(metadata: Metadata) -> dict[str, Any]:
    """Two norms per layer are 40B and 180B; one norm and several key-value heads, Falcon 2 11B; else 7B."""
    metadata.ignore("context_length")  # the converter writes 2048 whatever the model
    two_norms, groups = metadata.stores("blk.0.attn_norm_2.weight"), kv_heads(metadata)
    new = two_norms or groups > 1
    layout = {"num_ln_in_parallel_attn": 2 if two_norms else 1} if new else {}
    return {
        "model_type": "falcon",
        "hidden_size": metadata.integer("embedding_length"),
        "ffn_hidden_size": metadata.integer("feed_forward_length"),
        "num_hidden_layers": metadata.integer("block_count", high=MAX_BLOCKS),
        "num_attention_heads": metadata.integer("attention.head_count"),
        "num_kv_heads": groups,
        "vocab_size": metadata.rows("token_embd.weight"),
        "layer_norm_epsilon": metadata.number("attention.layer_norm_epsilon"),
        "new_decoder_architecture": new,
        "multi_query": True,
        "parallel_attn": True,
        "alibi": False,
        "bias": False,
        **layout,
        **rope(metadata, head_width(metadata)),
        "tie_word_embeddings": not metadata.stores("output.weight"),
    }


def _changes(metadata: Metadata) -> Mapping[str, Change]:
    heads = metadata.integer("attention.head_count")
    back = partial(grouped, heads=heads, kv_heads=kv_heads(metadata), head_width=head_width(metadata))
    return {"blk.{i}.attn_qkv": back}


FAMILY = Family(_names, _config, _changes)
