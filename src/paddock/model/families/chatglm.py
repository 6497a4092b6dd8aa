"""ChatGLM-6B: two-part positions, a prompt that sees all of itself, and DeepNorm's residual from the normed value."""

from __future__ import annotations

import math

from paddock.model.config import Config
from paddock.model.families.shared import context
from paddock.model.rules import Drop, Rename, Rule, SplitQKV
from paddock.model.spec import Architecture, Attention, Block, FeedForward, Head, LayerNorm, Prefix, Rope2D

MODEL_TYPES = ("chatglm",)


def architecture(config: Config) -> Architecture:
    config.insist("position_encoding_2d", True, "one-part positions belong to GLM-130B, which Paddock does not run")
    config.insist("pre_seq_len", None, "a P-Tuning prefix is not part of these weights")
    config.insist("quantization_bit", 0, "use the unquantised weights")
    config.insist("quantization_embeddings", False, "use the unquantised weights")
    config.ignore("prefix_projection")
    # Not published: a user who wants the first release bit for bit adds "rotary_tables": "float16" to its config.json.
    half = config.choice("rotary_tables", options={"float32": False, "float16": True}, default="float32")
    vocabulary = config.integer("vocab_size")
    width, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    layers, head_dim = config.integer("num_layers", "num_hidden_layers", high=4096), width // heads
    norm = LayerNorm(config.number("layernorm_epsilon", default=1e-5))
    sentence = config.integer("smask_token_id", default=None)  # not published either: of models trained here
    specials = 150000 if vocabulary == 150528 else 130000  # the first release had 20,000 image tokens in front
    return Architecture(
        family="chatglm",
        vocabulary=vocabulary,
        width=width,
        blocks=layers,
        block=Block(
            Attention(heads, heads, head_dim, Rope2D(10000.0, head_dim // 2, half), qkv_bias=True, out_bias=True),
            FeedForward(config.integer("inner_hidden_size", default=4 * width), "gelu_tanh", gated=False, bias=True),
            norm,
            wiring="deepnorm",
            residual_scale=math.sqrt(2 * layers),
        ),
        context=context(config, 2048),
        final_norm=norm,
        mask=Prefix(
            mask_tokens=(
                config.integer("gmask_token_id", default=specials + 1),
                config.integer("mask_token_id", default=specials),
                *(() if sentence is None else (sentence,)),
            ),
            start_token=config.integer("bos_token_id", default=specials + 4),
        ),
        head=Head(tied=config.flag("tie_word_embeddings", default=True)),
    )


RULES: list[Rule] = [
    Rename("transformer.word_embeddings.weight", "embedding.tokens.weight"),
    Rename("transformer.layers.{i}.input_layernorm.{p}", "blocks.{i}.attention_norm.{p}"),
    SplitQKV("transformer.layers.{i}.attention.query_key_value.{p}", "grouped"),
    Rename("transformer.layers.{i}.attention.dense.{p}", "blocks.{i}.attention.out.{p}"),
    Rename("transformer.layers.{i}.post_attention_layernorm.{p}", "blocks.{i}.feedforward_norm.{p}"),
    Rename("transformer.layers.{i}.mlp.dense_h_to_4h.{p}", "blocks.{i}.feedforward.up.{p}"),
    Rename("transformer.layers.{i}.mlp.dense_4h_to_h.{p}", "blocks.{i}.feedforward.down.{p}"),
    Rename("transformer.final_layernorm.{p}", "norm.{p}"),
    Rename("lm_head.weight", "head.weight"),
    Drop("transformer.layers.{i}.attention.rotary_emb.inv_freq"),
]
