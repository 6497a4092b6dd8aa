"""ChatGLM 2 and 3: names only; fused projections are stored as published."""

from __future__ import annotations

from typing import Any

from paddock.checkpoint.gguf_families.metadata import MAX_BLOCKS, Family, Metadata, head_width, kv_heads, rope
from paddock.errors import UnsupportedError

_LAYER = "transformer.encoder.layers.{i}."
_NAMES = {
    "token_embd": "transformer.embedding.word_embeddings",
    "output_norm": "transformer.encoder.final_layernorm",
    "output": "transformer.output_layer",
    "blk.{i}.attn_norm": _LAYER + "input_layernorm",
    "blk.{i}.attn_qkv": _LAYER + "self_attention.query_key_value",
    "blk.{i}.attn_output": _LAYER + "self_attention.dense",
    "blk.{i}.ffn_norm": _LAYER + "post_attention_layernorm",
    "blk.{i}.ffn_up": _LAYER + "mlp.dense_h_to_4h",
    "blk.{i}.ffn_down": _LAYER + "mlp.dense_4h_to_h",
}


def _config(metadata: Metadata) -> dict[str, Any]:
    """ChatGLM 2 and 3, under the keys of their own configuration. The first half of each head is rotated."""
    per_head, theta = head_width(metadata), rope(metadata, head_width(metadata) // 2)
    if theta["rope_scaling"]:
        raise UnsupportedError(f"{metadata.name} scales the rotary positions of ChatGLM", expected="none")
    return {
        "model_type": "chatglm",
        "hidden_size": metadata.integer("embedding_length"),
        "ffn_hidden_size": metadata.integer("feed_forward_length"),
        "num_layers": metadata.integer("block_count", high=MAX_BLOCKS),
        "num_attention_heads": metadata.integer("attention.head_count"),
        "kv_channels": per_head,
        "multi_query_attention": True,
        "multi_query_group_num": kv_heads(metadata),
        "padded_vocab_size": metadata.rows("token_embd.weight"),
        "seq_length": metadata.integer("context_length"),
        "layernorm_epsilon": metadata.number("attention.layer_norm_rms_epsilon"),
        "rmsnorm": True,
        "rope_ratio": theta["rope_theta"] / 10000.0,
        "add_qkv_bias": metadata.stores("blk.0.attn_qkv.bias"),
        "add_bias_linear": metadata.stores("blk.0.attn_output.bias"),
        "apply_residual_connection_post_layernorm": False,
        "post_layer_norm": True,
        "tie_word_embeddings": not metadata.stores("output.weight"),
    }


FAMILY = Family(lambda _: _NAMES, _config)
