"""The table of families. Widths, heads and vocabularies are awkward on purpose; texts run past windows and tables."""

from __future__ import annotations

from typing import Any

import transformers as hf
from family_rows import (
    Change,
    Row,
    attention,
    before_2025,
    block,
    coarser_norm,
    embedding,
    encoder,
    everywhere,
    feedforward,
    head,
    layout,
    position,
    pythia,
    refined_web,
    scaling,
    swapped,
    wider_window,
    without,
)

from paddock.model.spec import LayerNorm

_LLAMA = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
}
_GQA = {**_LLAMA, "num_key_value_heads": 2}


def _rope(kind: str, **keys: Any) -> dict[str, Any]:
    return {**_GQA, "rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **keys}}


def _llama(name: str, keys: dict[str, Any], change: Change, **rest: Any) -> Row:
    return Row(f"llama {name}", hf.LlamaForCausalLM, hf.LlamaConfig, keys, change, **rest)


_YARN = {**_rope("yarn", factor=4.0, original_max_position_embeddings=64), "head_dim": 32}
_LLAMA3 = _rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)

LLAMA = [
    _llama("multi-head", _LLAMA, position(theta=10100.0)),
    _llama("grouped", _GQA, position(interleaved=True)),
    _llama("one key head", {**_LLAMA, "num_key_value_heads": 1, "vocab_size": 131}, everywhere(coarser_norm)),
    _llama("wide heads", {**_GQA, "head_dim": 20}, attention(scale=48**-0.5)),
    _llama(
        "biases", {**_GQA, "attention_bias": True, "mlp_bias": True}, relayout=swapped("q_proj", "o_proj"), change=None
    ),
    _llama("tied", {**_GQA, "tie_word_embeddings": True}, head(scale=1.001)),
    _llama("theta 1e6, old spelling", {**_GQA, "rope_theta": 1e6}, position(theta=1e5), published=before_2025),
    _llama("linear", _rope("linear", factor=4.0), scaling(factor=4.01), tokens=40),
    _llama("linear, old spelling", _rope("linear", factor=4.0), scaling(factor=4.01), published=before_2025),
    _llama(
        "dynamic",
        {**_rope("dynamic", factor=2.0), "max_position_embeddings": 24},
        scaling(original=23),
        tokens=40,
        whole_only=True,
    ),
    _llama("yarn", _YARN, scaling(attention=1.0), tokens=60),
    _llama("yarn, old spelling", _YARN, scaling(truncate=False), tokens=60, published=before_2025),
    _llama("llama3", _LLAMA3, scaling(high=8.0), tokens=60),
    _llama("llama3, old spelling", _LLAMA3, scaling(factor=9.0), tokens=60, published=before_2025),
    _llama("gelu", {**_GQA, "hidden_act": "gelu_pytorch_tanh"}, feedforward(activation="gelu")),
]

MISTRAL = [
    Row("mistral", hf.MistralForCausalLM, hf.MistralConfig, {**_GQA, "sliding_window": None}, position(theta=10100.0)),
    Row(
        "mistral window 5",
        hf.MistralForCausalLM,
        hf.MistralConfig,
        {**_GQA, "sliding_window": 5},
        everywhere(wider_window),
    ),
    Row(
        "mistral window 16, 60 tokens",
        hf.MistralForCausalLM,
        hf.MistralConfig,
        {**_GQA, "sliding_window": 16},
        everywhere(wider_window),
        tokens=60,
    ),
    Row(
        "mixtral top 2 of 5",
        hf.MixtralForCausalLM,
        hf.MixtralConfig,
        {**_GQA, "num_local_experts": 5, "sliding_window": None},
        feedforward(active=1),
        spread=0.1,
    ),
    Row(
        "mixtral top 3 of 4",
        hf.MixtralForCausalLM,
        hf.MixtralConfig,
        {**_GQA, "num_local_experts": 4, "num_experts_per_tok": 3, "sliding_window": None},
        feedforward(active=4),
    ),
    Row("qwen2", hf.Qwen2ForCausalLM, hf.Qwen2Config, _GQA, position(theta=1e6), published=before_2025),
    Row(
        "qwen2 sliding from layer 2",
        hf.Qwen2ForCausalLM,
        hf.Qwen2Config,
        {**_GQA, "num_hidden_layers": 4, "use_sliding_window": True, "max_window_layers": 2, "sliding_window": 4},
        everywhere(wider_window),
    ),
    Row(
        "qwen2 sliding, old spelling",
        hf.Qwen2ForCausalLM,
        hf.Qwen2Config,
        {**_GQA, "use_sliding_window": True, "max_window_layers": 1, "sliding_window": 7},
        everywhere(wider_window),
        published=lambda c: without("layer_types")(before_2025(c)),
    ),
]

_NEOX = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "max_position_embeddings": 128,
}


def _neox(name: str, keys: dict[str, Any], **rest: Any) -> Row:
    return Row(f"gpt_neox {name}", hf.GPTNeoXForCausalLM, hf.GPTNeoXConfig, {**_NEOX, **keys}, **rest)


NEOX = [
    _neox("25 %", {}, change=block(wiring="pre"), published=pythia),
    _neox("25 %, new spelling", {}, relayout=layout("concat")),
    _neox(
        "20 rotary features of 80",
        {"hidden_size": 240, "num_hidden_layers": 2, "rotary_pct": 0.25},
        change=position(width=80),
    ),
    _neox("sequential", {"use_parallel_residual": False, "rotary_pct": 1.0}, change=block(wiring="parallel")),
    _neox("tanh", {"hidden_act": "gelu_fast", "rotary_pct": 0.5}, change=feedforward(activation="gelu")),
    _neox(
        "no attention bias",
        {"attention_bias": False, "rotary_emb_base": 5000},
        change=position(theta=10000.0),
        published=pythia,
    ),
]

_FALCON = {"vocab_size": 97, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6}
_FALCON40 = {**_FALCON, "num_kv_heads": 2, "new_decoder_architecture": True}
_RW = {
    **_FALCON,
    "hidden_size": 96,
    "num_attention_heads": 12,
    "multi_query": False,
    "parallel_attn": False,
    "bias": True,
    "alibi": True,
}


def _falcon(name: str, keys: dict[str, Any], **rest: Any) -> Row:
    return Row(f"falcon {name}", hf.FalconForCausalLM, hf.FalconConfig, keys, **rest)


FALCON = [
    _falcon("7B", {**_FALCON, "hidden_size": 56, "num_attention_heads": 7}, change=block(wiring="pre")),
    _falcon("40B", _FALCON40, relayout=layout("concat")),
    _falcon(
        "40B, first spelling",
        _FALCON40,
        change=feedforward(activation="gelu_tanh"),
        published=refined_web,
        readable=False,
    ),
    # The eager path of transformers 5.23 adds ALiBi twice; its other path adds it once, as the first release did.
    _falcon("RW", _RW, change=position(before_scale=False), attention="sdpa"),
    _falcon("RW, 60 tokens", _RW, change=position(rounded=False), attention="sdpa", tokens=60),
    _falcon(
        "11B: one norm, untied",
        {
            **_FALCON40,
            "num_ln_in_parallel_attn": 1,
            "tie_word_embeddings": False,
            "ffn_hidden_size": 100,
            "rope_theta": 500042.0,
        },
        change=position(theta=10000.0),
    ),
    _falcon(
        "parallel multi-head with biases",
        {**_FALCON, "multi_query": False, "bias": True},
        change=block(wiring="pre", shared_norm=True),
    ),
]

_MPT = {"vocab_size": 97, "d_model": 48, "n_layers": 3, "n_heads": 6, "max_seq_len": 128}


def _mpt(name: str, keys: dict[str, Any], **rest: Any) -> Row:
    return Row(f"mpt {name}", hf.MptForCausalLM, hf.MptConfig, {**_MPT, **keys}, **rest)


_BLOOM = {"vocab_size": 97, "hidden_size": 48, "n_layer": 3, "n_head": 6}
_GPT2 = {"vocab_size": 97, "n_embd": 48, "n_layer": 3, "n_head": 6, "n_positions": 128}
_CODEGEN = {"vocab_size": 97, "n_embd": 64, "n_layer": 3, "n_head": 4, "rotary_dim": 8, "n_positions": 128}

OTHERS = [
    _mpt("6 heads", {}, change=position(bias_max=16.0)),
    _mpt("12 heads", {"d_model": 96, "n_heads": 12}, relayout=layout("grouped")),
    _mpt("clamped", {"attn_config": {"clip_qkv": 0.5}}, change=attention(clip=0.51)),
    _mpt("own scale", {"attn_config": {"softmax_scale": 0.2}, "vocab_size": 101}, change=attention(scale=None)),
    Row("bloom 6 heads", hf.BloomForCausalLM, hf.BloomConfig, _BLOOM, position(before_scale=True)),
    Row(
        "bloom 12 heads",
        hf.BloomForCausalLM,
        hf.BloomConfig,
        {**_BLOOM, "hidden_size": 96, "n_head": 12},
        feedforward(activation="gelu"),
    ),
    Row(
        "bloom 8 heads, 60 tokens",
        hf.BloomForCausalLM,
        hf.BloomConfig,
        {**_BLOOM, "n_head": 8},
        relayout=layout("concat"),
        tokens=60,
    ),
    Row("gpt2", hf.GPT2LMHeadModel, hf.GPT2Config, _GPT2, feedforward(activation="gelu")),
    Row(
        "gpt2 scaled by layer",
        hf.GPT2LMHeadModel,
        hf.GPT2Config,
        {**_GPT2, "scale_attn_by_inverse_layer_idx": True, "n_inner": 100},
        attention(scale=None),
    ),
    Row(
        "gpt2 unscaled, relu, untied",
        hf.GPT2LMHeadModel,
        hf.GPT2Config,
        {**_GPT2, "scale_attn_weights": False, "activation_function": "relu", "tie_word_embeddings": False},
        attention(scale=None),
    ),
    Row("codegen", hf.CodeGenForCausalLM, hf.CodeGenConfig, _CODEGEN, relayout=layout("grouped")),
    Row(
        "codegen 8 heads",
        hf.CodeGenForCausalLM,
        hf.CodeGenConfig,
        {**_CODEGEN, "n_head": 8, "rotary_dim": 4},
        position(interleaved=False),
    ),
]

_BERT = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "max_position_embeddings": 64,
}
_T5 = {
    "vocab_size": 97,
    "d_model": 48,
    "d_kv": 10,
    "d_ff": 80,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 5,
    "relative_attention_num_buckets": 12,
    "relative_attention_max_distance": 20,
    "decoder_start_token_id": 0,
}
_MARIAN = {
    "vocab_size": 97,
    "d_model": 48,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_ffn_dim": 80,
    "decoder_ffn_dim": 64,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 96,
    "eos_token_id": 0,
    "decoder_start_token_id": 96,
}


def _bert(name: str, model: Any, keys: dict[str, Any], change: Change) -> Row:
    return Row(f"bert {name}", model, hf.BertConfig, {**_BERT, **keys}, change, spread=0.2)


ENCODERS = [
    _bert("masked tokens", hf.BertForMaskedLM, {}, feedforward(activation="gelu_tanh")),
    _bert(
        "masked tokens, tanh",
        hf.BertForMaskedLM,
        {"hidden_act": "gelu_new", "num_attention_heads": 12},
        block(wiring="pre"),
    ),
    _bert("pre-training", hf.BertForPreTraining, {}, embedding(norm=LayerNorm(1e-3))),
    _bert("3 classes", hf.BertForSequenceClassification, {"num_labels": 3}, everywhere(coarser_norm)),
    _bert("hidden states", hf.BertModel, {"type_vocab_size": 3}, attention(scale=0.5)),
]

ENCODER_DECODERS = [
    Row("t5 relu, tied", hf.T5ForConditionalGeneration, hf.T5Config, _T5, head(scale=1.0), tokens=33),
    Row(
        "t5 gated gelu, untied",
        hf.T5ForConditionalGeneration,
        hf.T5Config,
        {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        encoder(position(max_distance=40)),
        tokens=33,
    ),
    Row(
        "t5 gated silu",
        hf.T5ForConditionalGeneration,
        hf.T5Config,
        {**_T5, "feed_forward_proj": "gated-silu"},
        position(both_ways=True),
        tokens=33,
    ),
    Row(
        "marian shared",
        hf.MarianMTModel,
        hf.MarianConfig,
        {**_MARIAN, "scale_embedding": True, "activation_function": "swish"},
        embedding(scale=1.0),
    ),
    Row(
        "marian two vocabularies",
        hf.MarianMTModel,
        hf.MarianConfig,
        {
            **_MARIAN,
            "vocab_size": 101,
            "decoder_vocab_size": 97,
            "share_encoder_decoder_embeddings": False,
            "tie_word_embeddings": False,
        },
        block(wiring="pre"),
        vectors=0.05,
    ),
]

ROWS = LLAMA + MISTRAL + NEOX + FALCON + OTHERS + ENCODERS + ENCODER_DECODERS
