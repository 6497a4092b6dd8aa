"""The original encoder-decoder Transformer, pre- or post-norm, in the spelling that OpenNMT and CTranslate2 publish.

Those tools keep no config.json; the keys below are Paddock's own words for what their training options say.
"""

from __future__ import annotations

import math

from paddock.model.config import Config
from paddock.model.families.shared import ACTIVATIONS
from paddock.model.rules import Rename, Rule, SplitQKV, Stack
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

MODEL_TYPES = ("transformer",)


def architecture(config: Config) -> Architecture:
    width, heads = config.integer("d_model"), config.integer("num_heads")
    norm = LayerNorm(config.number("layer_norm_epsilon", default=1e-5))
    first = config.flag("norm_first", default=True)
    waves = Sinusoidal(
        interleaved=config.flag("positions_interleaved", default=False),
        inclusive=config.flag("positions_inclusive", default=True),
        start=config.integer("positions_start", default=0, low=0),
    )
    embedding = Embedding(waves, scale=math.sqrt(width) if config.flag("scale_embedding", default=True) else 1.0)
    activation = config.choice("activation", options=ACTIVATIONS, default="relu")
    feedforward = FeedForward(config.integer("d_ff"), activation, gated=False, bias=True)
    attention = Attention(heads, heads, width // heads, qkv_bias=True, out_bias=True)
    wiring, last = ("pre", norm) if first else ("post", None)
    target = config.integer("vocab_size")
    context = config.integer("max_position_embeddings", default=1024)
    encoder = Architecture(
        family="transformer",
        vocabulary=config.integer("source_vocab_size", default=target),
        width=width,
        blocks=config.integer("encoder_layers", high=4096),
        block=Block(attention, feedforward, norm, wiring=wiring),  # type: ignore[arg-type]
        context=context,
        embedding=embedding,
        final_norm=last,
        mask=Full(),
    )
    return Architecture(
        family="transformer",
        vocabulary=target,
        width=width,
        blocks=config.integer("decoder_layers", high=4096),
        block=Block(attention, feedforward, norm, wiring=wiring, cross=attention),  # type: ignore[arg-type]
        context=context,
        embedding=embedding,
        final_norm=last,
        head=Head(tied=config.flag("tie_word_embeddings", default=False), bias=True),
        encoder=encoder,
        shared_embedding=config.flag("shared_embedding", default=False),
    )


def _stack(side: str, ours: str) -> list[Rule]:
    layer, mine = f"{side}/layer_{{i}}", f"{ours}blocks.{{i}}"
    return [
        Rename(f"{side}/embeddings/weight", f"{ours}embedding.tokens.weight"),
        Rename(f"{layer}/self_attention/layer_norm/{{p}}", f"{mine}.attention_norm.{{p}}"),
        SplitQKV(f"{layer}/self_attention/linear_0/{{p}}", "concat", at=f"{mine}.attention"),
        Rename(f"{layer}/self_attention/linear_1/{{p}}", f"{mine}.attention.out.{{p}}"),
        Rename(f"{layer}/ffn/layer_norm/{{p}}", f"{mine}.feedforward_norm.{{p}}"),
        Rename(f"{layer}/ffn/linear_0/{{p}}", f"{mine}.feedforward.up.{{p}}"),
        Rename(f"{layer}/ffn/linear_1/{{p}}", f"{mine}.feedforward.down.{{p}}"),
        Rename(f"{side}/layer_norm/{{p}}", f"{ours}norm.{{p}}"),
    ]


_CROSS, _OURS = "decoder/layer_{i}/attention", "blocks.{i}.cross"
RULES: list[Rule] = [
    *_stack("encoder", "encoder."),
    *_stack("decoder", ""),
    Rename(f"{_CROSS}/layer_norm/{{p}}", "blocks.{i}.cross_norm.{p}"),
    Rename(f"{_CROSS}/linear_0/{{p}}", f"{_OURS}.q.{{p}}"),
    Stack(f"{_CROSS}/linear_1/{{p}}", (f"{_OURS}.k.{{p}}", f"{_OURS}.v.{{p}}")),
    Rename(f"{_CROSS}/linear_2/{{p}}", f"{_OURS}.out.{{p}}"),
    Rename("decoder/projection/{p}", "head.{p}"),
]
