"""T5 and its gated successors: an encoder and a decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paddock.checkpoint.gguf_families.metadata import MAX_BLOCKS, Family, Metadata, plain_heads
from paddock.errors import UnsupportedError


def _names(metadata: Metadata) -> Mapping[str, str]:
    gated = metadata.stores("enc.blk.0.ffn_gate.weight")
    names = {"token_embd": "shared", "output": "lm_head"}
    for short, stack in (("enc", "encoder"), ("dec", "decoder")):
        names[f"{short}.output_norm"] = f"{stack}.final_layer_norm"
        layers = [("attn", "SelfAttention", 0)] + ([("cross_attn", "EncDecAttention", 1)] if short == "dec" else [])
        for theirs, part, layer in layers:
            home = f"{stack}.block.{{i}}.layer.{layer}."
            names[f"{short}.blk.{{i}}.{theirs}_norm"] = home + "layer_norm"
            names[f"{short}.blk.{{i}}.{theirs}_rel_b"] = home + f"{part}.relative_attention_bias"
            names |= {f"{short}.blk.{{i}}.{theirs}_{role}": home + f"{part}.{role}" for role in "qkvo"}
        home = f"{stack}.block.{{i}}.layer.{len(layers)}."
        names[f"{short}.blk.{{i}}.ffn_norm"] = home + "layer_norm"
        names[f"{short}.blk.{{i}}.ffn_gate"] = home + "DenseReluDense.wi_0"
        names[f"{short}.blk.{{i}}.ffn_up"] = home + "DenseReluDense." + ("wi_1" if gated else "wi")
        names[f"{short}.blk.{{i}}.ffn_down"] = home + "DenseReluDense.wo"
    return names


def _config(metadata: Metadata) -> dict[str, Any]:
    if metadata.stores("enc.blk.1.attn_rel_b.weight"):
        raise UnsupportedError(f"{metadata.name} is a UMT5: each layer has a relative bias of its own")
    blocks = metadata.integer("block_count", high=MAX_BLOCKS)
    width = metadata.integer("attention.key_length")
    metadata.insist("attention.value_length", width, "keys and values of different widths")
    eps = metadata.number("attention.layer_norm_rms_epsilon")
    metadata.insist("attention.layer_norm_epsilon", eps, "two epsilons")
    return {
        "model_type": "t5",
        "d_model": metadata.integer("embedding_length"),
        "d_kv": width,
        "d_ff": metadata.integer("feed_forward_length"),
        "num_layers": blocks,
        "num_decoder_layers": metadata.integer("decoder_block_count", blocks, high=MAX_BLOCKS),
        "num_heads": plain_heads(metadata),
        "n_positions": metadata.integer("context_length"),
        "vocab_size": metadata.rows("token_embd.weight"),
        "relative_attention_num_buckets": metadata.integer("attention.relative_buckets_count"),
        "relative_attention_max_distance": 128,  # the format has no key for it; llama.cpp computes with 128
        "layer_norm_epsilon": eps,
        "feed_forward_proj": "gated-gelu" if metadata.stores("enc.blk.0.ffn_gate.weight") else "relu",
        "decoder_start_token_id": metadata.integer("decoder_start_token_id", 0, low=0),
        "is_encoder_decoder": True,
        "tie_word_embeddings": not metadata.stores("output.weight"),
    }


FAMILY = Family(_names, _config)
