"""The original Transformer as MarianMT publishes it: post-norm encoder and decoder, sinusoidal positions."""

from __future__ import annotations

import math

from paddock.model.config import Config
from paddock.model.families.shared import ACTIVATIONS
from paddock.model.rules import Drop, Rename, Row, Rule
from paddock.model.spec import (
    Architecture,
    Attention,
    Block,
    Embedding,
    FeedForward,
    Full,
    Head,
    LayerNorm,
    Sinusoidal,
)

MODEL_TYPES = ("marian",)


def architecture(config: Config) -> Architecture:
    for side in ("encoder", "decoder"):
        config.ignore(f"{side}_layerdrop")
    config.ignore("num_hidden_layers", "classif_dropout", "add_bias_logits", "encoder_attention_type")
    for key in ("add_final_layer_norm", "normalize_before", "normalize_embedding", "static_position_embeddings"):
        config.insist(key, key == "static_position_embeddings", "no published model does otherwise")
    config.ignore("add_bias_logits", "extra_pos_embeddings")
    width = config.integer("d_model")
    activation = config.choice("activation_function", options=ACTIVATIONS, default="gelu")
    norm = LayerNorm(1e-5)
    scale = math.sqrt(width) if config.flag("scale_embedding", default=False) else 1.0
    embedding = Embedding(Sinusoidal(), scale=scale)
    context = config.integer("max_position_embeddings", default=1024)
    vocabulary = config.integer("vocab_size")
    shared = config.flag("share_encoder_decoder_embeddings", default=True)

    def block(side: str, *, crossed: bool) -> Block:
        heads = config.integer(f"{side}_attention_heads")
        attention = Attention(heads, heads, width // heads, qkv_bias=True, out_bias=True)
        feedforward = FeedForward(config.integer(f"{side}_ffn_dim"), activation, gated=False, bias=True)
        return Block(attention, feedforward, norm, wiring="post", cross=attention if crossed else None)

    layers = config.integer("encoder_layers", high=4096)
    encoder = Architecture(
        "marian", vocabulary, width, layers, block("encoder", crossed=False), context, embedding, mask=Full()
    )
    return Architecture(
        family="marian",
        vocabulary=config.integer("decoder_vocab_size", default=vocabulary),
        width=width,
        blocks=config.integer("decoder_layers", high=4096),
        block=block("decoder", crossed=True),
        context=context,
        embedding=embedding,
        head=Head(tied=config.flag("tie_word_embeddings", default=True), bias=True),
        encoder=encoder,
        shared_embedding=shared,
    )


def _attention(theirs: str, ours: str) -> list[Rule]:
    roles = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "out_proj": "out"}
    return [Rename(f"{theirs}.{name}.{{p}}", f"{ours}.{role}.{{p}}") for name, role in roles.items()]


def _stack(theirs: str, ours: str) -> list[Rule]:
    layer, mine = f"model.{theirs}.layers.{{i}}", f"{ours}blocks.{{i}}"
    return [
        *_attention(f"{layer}.self_attn", f"{mine}.attention"),
        Rename(f"{layer}.self_attn_layer_norm.{{p}}", f"{mine}.attention_norm.{{p}}"),
        Rename(f"{layer}.fc1.{{p}}", f"{mine}.feedforward.up.{{p}}"),
        Rename(f"{layer}.fc2.{{p}}", f"{mine}.feedforward.down.{{p}}"),
        Rename(f"{layer}.final_layer_norm.{{p}}", f"{mine}.feedforward_norm.{{p}}"),
        Drop(f"model.{theirs}.embed_positions.weight"),  # sines and cosines
    ]


def _shared(architecture: Architecture) -> bool:
    return architecture.shared_embedding


RULES: list[Rule] = [
    Rename("model.shared.weight", "embedding.tokens.weight", when=_shared),
    Rename("model.decoder.embed_tokens.weight", "embedding.tokens.weight"),
    Rename("model.encoder.embed_tokens.weight", "encoder.embedding.tokens.weight"),
    *_stack("encoder", "encoder."),
    *_stack("decoder", ""),
    *_attention("model.decoder.layers.{i}.encoder_attn", "blocks.{i}.cross"),
    Rename("model.decoder.layers.{i}.encoder_attn_layer_norm.{p}", "blocks.{i}.cross_norm.{p}"),
    Row("final_logits_bias", "head.bias"),
    Rename("lm_head.weight", "head.weight"),
]
