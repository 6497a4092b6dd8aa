"""Rows whose oracle is this project's own float64 one, written from published descriptions (oracles.py)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import oracles
from family_rows import OracleRow, block, embedding, encoder, everywhere, feedforward, head, layout, position

_GLM = {
    "model_type": "chatglm",
    "vocab_size": 97,
    "hidden_size": 48,
    "inner_hidden_size": 80,
    "num_attention_heads": 6,
    "num_layers": 3,
    "layernorm_epsilon": 1e-5,
    "max_sequence_length": 128,
    "position_encoding_2d": True,
    "gmask_token_id": 91,
    "mask_token_id": 92,
    "bos_token_id": 93,
}
_GLM2 = {
    "model_type": "chatglm",
    "padded_vocab_size": 97,
    "hidden_size": 48,
    "ffn_hidden_size": 80,
    "num_attention_heads": 6,
    "num_layers": 3,
    "kv_channels": 12,
    "layernorm_epsilon": 1e-5,
    "seq_length": 128,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "add_qkv_bias": True,
    "add_bias_linear": False,
    "rmsnorm": True,
    "post_layer_norm": True,
}
_MOSS = {
    "model_type": "moss",
    "vocab_size": 97,
    "n_embd": 64,
    "n_layer": 3,
    "n_head": 4,
    "rotary_dim": 8,
    "n_positions": 128,
    "n_ctx": 128,
    "layer_norm_epsilon": 1e-5,
    "activation_function": "gelu_new",
    "tie_word_embeddings": False,
}
_TRANSFORMER = {
    "model_type": "transformer",
    "vocab_size": 97,
    "source_vocab_size": 101,
    "d_model": 48,
    "d_ff": 80,
    "num_heads": 6,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "layer_norm_epsilon": 1e-6,
    "norm_first": True,
    "positions_interleaved": False,
    "positions_inclusive": True,
    "positions_start": 0,
}


def _mpt(name: str, attention_keys: dict[str, Any], keys: dict[str, Any], **rest: Any) -> OracleRow:
    chosen = {"alibi": True, "alibi_bias_max": 8, "clip_qkv": None, "attn_type": "multihead_attention"}
    config = {
        "model_type": "mpt",
        "vocab_size": 97,
        "d_model": 48,
        "n_layers": 3,
        "n_heads": 6,
        "max_seq_len": 128,
        "expansion_ratio": 4,
        "no_bias": True,
        "learned_pos_emb": True,
        "logit_scale": None,
        "norm_type": "low_precision_layernorm",
        **keys,
        "attn_config": {**chosen, **attention_keys},
    }
    return OracleRow(f"mpt {name}", config, oracles.mpt_shapes, oracles.mpt, **rest)


def _glm(name: str, keys: dict[str, Any], **rest: Any) -> OracleRow:
    return OracleRow(f"chatglm {name}", {**_GLM, **keys}, oracles.chatglm_shapes, **rest)


def _transformer(name: str, keys: dict[str, Any], **rest: Any) -> OracleRow:
    return OracleRow(
        f"transformer {name}", {**_TRANSFORMER, **keys}, oracles.transformer_shapes, oracles.transformer, **rest
    )


ORACLE_ROWS = [
    _glm("6B", {}, oracle=oracles.chatglm, change=block(residual_scale=6**0.25)),
    _glm(
        "float16 tables, 60 tokens",
        {"num_attention_heads": 3, "rotary_tables": "float16"},
        oracle=partial(oracles.chatglm, half_tables=True),
        change=position(half_tables=False),
        tokens=60,
        spread=0.2,
    ),
    _glm("6B untied", {"tie_word_embeddings": False}, oracle=oracles.chatglm, relayout=layout("concat")),
    OracleRow("chatglm2", _GLM2, oracles.chatglm2_shapes, oracles.chatglm2, position(width=12)),
    OracleRow(
        "chatglm2 pairs", _GLM2, oracles.chatglm2_shapes, oracles.chatglm2, position(interleaved=False), tokens=60
    ),
    _mpt(
        "largest slope 16, 12 heads",
        {"alibi_bias_max": 16, "clip_qkv": 0.5},
        {"d_model": 96, "n_heads": 12},
        change=position(bias_max=8.0),
    ),
    _mpt("learned positions", {"alibi": False}, {"logit_scale": "inv_sqrt_d_model"}, change=head(scale=1.0)),
    _mpt(
        "one key head, wide 3",
        {"attn_type": "multiquery_attention"},
        {"expansion_ratio": 3, "logit_scale": 0.5},
        change=feedforward(activation="gelu_tanh"),
    ),
    _mpt("grouped keys", {"attn_type": "grouped_query_attention", "kv_n_heads": 2}, {}, relayout=layout("grouped")),
    OracleRow("moss", _MOSS, oracles.moss_shapes, oracles.moss, relayout=layout("grouped")),
    OracleRow(
        "moss 8 heads", {**_MOSS, "n_head": 8, "rotary_dim": 4}, oracles.moss_shapes, oracles.moss, position(width=8)
    ),
    _transformer(
        "after, waves in turn",
        {"norm_first": False, "positions_interleaved": True, "positions_inclusive": False},
        change=block(wiring="pre"),
    ),
    _transformer("before, waves in halves", {}, change=encoder(embedding(scale=1.0))),
    _transformer(
        "before, counted from 1",
        {"positions_start": 1},
        change=everywhere(lambda b: replace(b, cross=replace(b.cross, scale=1.0))),
    ),
]
