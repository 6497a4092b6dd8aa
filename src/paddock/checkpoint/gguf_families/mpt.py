"""MPT: names only; its fused projection is stored as published."""

from __future__ import annotations

from typing import Any

from paddock.checkpoint.gguf_families.metadata import MAX_BLOCKS, Family, Metadata, kv_heads

_NAMES = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output_norm": "transformer.norm_f",
    "output": "lm_head",
    "blk.{i}.attn_norm": "transformer.blocks.{i}.norm_1",
    "blk.{i}.attn_qkv": "transformer.blocks.{i}.attn.Wqkv",
    "blk.{i}.attn_output": "transformer.blocks.{i}.attn.out_proj",
    "blk.{i}.ffn_norm": "transformer.blocks.{i}.norm_2",
    "blk.{i}.ffn_up": "transformer.blocks.{i}.ffn.up_proj",
    "blk.{i}.ffn_down": "transformer.blocks.{i}.ffn.down_proj",
}


def _config(metadata: Metadata) -> dict[str, Any]:
    width, heads = metadata.integer("embedding_length"), metadata.integer("attention.head_count")
    hidden, bias_max = metadata.integer("feed_forward_length"), metadata.number("attention.max_alibi_bias", 0.0)
    attention: dict[str, Any] = {"alibi": bias_max > 0, "clip_qkv": metadata.number("attention.clamp_kqv", None)}
    if bias_max > 0:
        attention["alibi_bias_max"] = int(bias_max) if bias_max.is_integer() else bias_max
    if kv_heads(metadata) != heads:
        attention |= {"attn_type": "grouped_query_attention", "kv_n_heads": kv_heads(metadata)}
    return {
        "model_type": "mpt",
        "d_model": width,
        "n_heads": heads,
        "n_layers": metadata.integer("block_count", high=MAX_BLOCKS),
        "expansion_ratio": hidden // width if hidden % width == 0 else hidden / width,
        "max_seq_len": metadata.integer("context_length"),
        "vocab_size": metadata.rows("token_embd.weight"),
        "attn_config": attention,
        "layer_norm_epsilon": metadata.number("attention.layer_norm_epsilon"),
        "learned_pos_emb": metadata.stores("position_embd.weight"),
        "no_bias": not metadata.stores("blk.0.attn_qkv.bias"),
        "tie_word_embeddings": not metadata.stores("output.weight"),
    }


FAMILY = Family(lambda _: _NAMES, _config)
