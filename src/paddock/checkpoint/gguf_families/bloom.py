"""BLOOM. The converter reordered [q k v] per head into all q, all k, all v."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from paddock.checkpoint.gguf_families.metadata import MAX_BLOCKS, Change, Family, Metadata, head_width, plain_heads
from paddock.checkpoint.rows import grouped

_LAYER = "transformer.h.{i}."
_NAMES = {
    "token_embd": "transformer.word_embeddings",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
    "blk.{i}.attn_qkv": _LAYER + "self_attention.query_key_value",
    "blk.{i}.attn_output": _LAYER + "self_attention.dense",
    "blk.{i}.ffn_up": _LAYER + "mlp.dense_h_to_4h",
    "blk.{i}.ffn_down": _LAYER + "mlp.dense_4h_to_h",
    "token_embd_norm": "transformer.word_embeddings_layernorm",
    "blk.{i}.attn_norm": _LAYER + "input_layernorm",
    "blk.{i}.ffn_norm": _LAYER + "post_attention_layernorm",
}


def _config(metadata: Metadata) -> dict[str, Any]:
    width = metadata.integer("embedding_length")
    metadata.insist("feed_forward_length", 4 * width, "BLOOM's feed-forward is four times its width")
    return {
        "model_type": "bloom",
        "hidden_size": width,
        "n_layer": metadata.integer("block_count", high=MAX_BLOCKS),
        "n_head": plain_heads(metadata),
        "seq_length": metadata.integer("context_length"),
        "vocab_size": metadata.rows("token_embd.weight"),
        "layer_norm_epsilon": metadata.number("attention.layer_norm_epsilon"),
        "tie_word_embeddings": not metadata.stores("output.weight"),
    }


def _changes(metadata: Metadata) -> Mapping[str, Change]:
    heads = plain_heads(metadata)
    back = partial(grouped, heads=heads, kv_heads=heads, head_width=head_width(metadata))
    return {"blk.{i}.attn_qkv": back}


FAMILY = Family(lambda _: _NAMES, _config, _changes)
