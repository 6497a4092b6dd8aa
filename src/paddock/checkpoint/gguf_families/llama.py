"""llama.cpp's `llama` (LLaMA, Mistral and Mixtral alike) and `qwen2`.

The converter reorders the rows of queries and keys of `llama` for interleaved rotation, and only of `llama`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from paddock.checkpoint.gguf_families.metadata import MAX_BLOCKS, Change, Family, Metadata, kv_heads, rope
from paddock.checkpoint.rows import half_rotation

_LAYER = "model.layers.{i}."
_EXPERT = _LAYER + "block_sparse_moe.experts.{e}."
_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "blk.{i}.attn_norm": _LAYER + "input_layernorm",
    "blk.{i}.attn_q": _LAYER + "self_attn.q_proj",
    "blk.{i}.attn_k": _LAYER + "self_attn.k_proj",
    "blk.{i}.attn_v": _LAYER + "self_attn.v_proj",
    "blk.{i}.attn_output": _LAYER + "self_attn.o_proj",
    "blk.{i}.ffn_norm": _LAYER + "post_attention_layernorm",
    "blk.{i}.ffn_gate": _LAYER + "mlp.gate_proj",
    "blk.{i}.ffn_up": _LAYER + "mlp.up_proj",
    "blk.{i}.ffn_down": _LAYER + "mlp.down_proj",
}
_MOE_NAMES = {
    "blk.{i}.ffn_gate_inp": _LAYER + "block_sparse_moe.gate",
    "blk.{i}.ffn_gate_exps": _EXPERT + "w1",
    "blk.{i}.ffn_down_exps": _EXPERT + "w2",
    "blk.{i}.ffn_up_exps": _EXPERT + "w3",
    "blk.{i}.ffn_gate.{e}": _EXPERT + "w1",
    "blk.{i}.ffn_down.{e}": _EXPERT + "w2",
    "blk.{i}.ffn_up.{e}": _EXPERT + "w3",
}


def _common(metadata: Metadata) -> dict[str, Any]:
    width, heads = metadata.integer("embedding_length"), metadata.integer("attention.head_count")
    head_width = metadata.integer("attention.key_length", max(1, width // heads))
    metadata.insist("attention.value_length", head_width, "keys and values of different widths")
    return {
        "hidden_size": width,
        "intermediate_size": metadata.integer("feed_forward_length"),
        "num_hidden_layers": metadata.integer("block_count", high=MAX_BLOCKS),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads(metadata),
        "head_dim": head_width,
        "vocab_size": metadata.rows("token_embd.weight"),
        "max_position_embeddings": metadata.integer("context_length"),
        "hidden_act": "silu",
        "rms_norm_eps": metadata.number("attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": not metadata.stores("output.weight"),
        **rope(metadata, head_width),
    }


def _llama(metadata: Metadata) -> dict[str, Any]:
    experts = metadata.integer("expert_count", 0, low=0, high=4096)
    window = metadata.integer("attention.sliding_window", 0, low=0)
    model_type = "mixtral" if experts else "mistral" if window else "llama"
    config = {"model_type": model_type, **_common(metadata)}
    if model_type == "llama":
        config["attention_bias"] = metadata.stores("blk.0.attn_q.bias")
        config["mlp_bias"] = metadata.stores("blk.0.ffn_gate.bias")
    else:
        config["sliding_window"] = window or None
    used = metadata.integer("expert_used_count", 0, low=0, high=experts)
    if experts:
        config |= {"num_local_experts": experts, "num_experts_per_tok": used or 2}
        metadata.insist("expert_feed_forward_length", config["intermediate_size"], "experts of another width")
    return config


def _interleaved(metadata: Metadata) -> Mapping[str, Change]:
    return {
        "blk.{i}.attn_q": partial(half_rotation, heads=metadata.integer("attention.head_count")),
        "blk.{i}.attn_k": partial(half_rotation, heads=kv_heads(metadata)),
    }


def _qwen2(metadata: Metadata) -> dict[str, Any]:
    return {"model_type": "qwen2", "use_sliding_window": False, **_common(metadata)}


LLAMA = Family(lambda _: _NAMES | _MOE_NAMES, _llama, _interleaved)
QWEN2 = Family(lambda _: _NAMES, _qwen2)
