"""BERT encoders, as llama.cpp keeps them for embeddings: without pooler and without masked-word head."""

from __future__ import annotations

from typing import Any

from paddock.checkpoint.gguf_families.metadata import MAX_BLOCKS, Family, Metadata, plain_heads

_LAYER = "encoder.layer.{i}."
_NAMES = {
    "token_embd": "embeddings.word_embeddings",
    "position_embd": "embeddings.position_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "token_embd_norm": "embeddings.LayerNorm",
    "blk.{i}.attn_q": _LAYER + "attention.self.query",
    "blk.{i}.attn_k": _LAYER + "attention.self.key",
    "blk.{i}.attn_v": _LAYER + "attention.self.value",
    "blk.{i}.attn_output": _LAYER + "attention.output.dense",
    "blk.{i}.attn_output_norm": _LAYER + "attention.output.LayerNorm",
    "blk.{i}.ffn_up": _LAYER + "intermediate.dense",
    "blk.{i}.ffn_down": _LAYER + "output.dense",
    "blk.{i}.layer_output_norm": _LAYER + "output.LayerNorm",
}


def _config(metadata: Metadata) -> dict[str, Any]:
    metadata.insist("attention.causal", False, "a BERT reads both ways")
    metadata.ignore("pooling_type")  # how a retrieval tool condenses the states; the states are the same
    return {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_size": metadata.integer("embedding_length"),
        "intermediate_size": metadata.integer("feed_forward_length"),
        "num_hidden_layers": metadata.integer("block_count", high=MAX_BLOCKS),
        "num_attention_heads": plain_heads(metadata),
        "max_position_embeddings": metadata.integer("context_length"),
        "vocab_size": metadata.rows("token_embd.weight"),
        "type_vocab_size": metadata.rows("token_types.weight"),
        "layer_norm_eps": metadata.number("attention.layer_norm_epsilon"),
        "hidden_act": "gelu",
    }


FAMILY = Family(lambda _: _NAMES, _config)
