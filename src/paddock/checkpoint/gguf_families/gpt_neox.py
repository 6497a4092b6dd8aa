"""GPT-NeoX, Pythia. The converter reordered [q k v] per head into all q, all k, all v."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from paddock.checkpoint.gguf_families.metadata import (
    MAX_BLOCKS,
    Change,
    Family,
    Metadata,
    head_width,
    plain_heads,
    rope,
)
from paddock.checkpoint.rows import grouped

_NAMES = {
    "token_embd": "gpt_neox.embed_in",
    "output_norm": "gpt_neox.final_layer_norm",
    "output": "embed_out",
    "blk.{i}.attn_norm": "gpt_neox.layers.{i}.input_layernorm",
    "blk.{i}.attn_qkv": "gpt_neox.layers.{i}.attention.query_key_value",
    "blk.{i}.attn_output": "gpt_neox.layers.{i}.attention.dense",
    "blk.{i}.ffn_norm": "gpt_neox.layers.{i}.post_attention_layernorm",
    "blk.{i}.ffn_up": "gpt_neox.layers.{i}.mlp.dense_h_to_4h",
    "blk.{i}.ffn_down": "gpt_neox.layers.{i}.mlp.dense_4h_to_h",
}


def _config(metadata: Metadata) -> dict[str, Any]:
    width, per_head = metadata.integer("embedding_length"), head_width(metadata)
    rotated = metadata.integer("rope.dimension_count", per_head, low=2, high=per_head)
    fraction = rotated / per_head
    if int(per_head * fraction) != rotated:  # readers multiply and cut off
        fraction = math.nextafter(fraction, 1.0)
    turned = rope(metadata, rotated)
    return {
        "model_type": "gpt_neox",
        "hidden_size": width,
        "intermediate_size": metadata.integer("feed_forward_length"),
        "num_hidden_layers": metadata.integer("block_count", high=MAX_BLOCKS),
        "num_attention_heads": plain_heads(metadata),
        "vocab_size": metadata.rows("token_embd.weight"),
        "max_position_embeddings": metadata.integer("context_length"),
        "layer_norm_eps": metadata.number("attention.layer_norm_epsilon"),
        "hidden_act": "gelu",
        "rotary_pct": fraction,
        "rotary_emb_base": turned["rope_theta"],
        "rope_scaling": turned["rope_scaling"],
        "use_parallel_residual": metadata.flag("use_parallel_residual", True),
        "tie_word_embeddings": not metadata.stores("output.weight"),
    }


def _changes(metadata: Metadata) -> Mapping[str, Change]:
    heads = plain_heads(metadata)
    back = partial(grouped, heads=heads, kv_heads=heads, head_width=head_width(metadata))
    return {"blk.{i}.attn_qkv": back}


FAMILY = Family(lambda _: _NAMES, _config, _changes)
