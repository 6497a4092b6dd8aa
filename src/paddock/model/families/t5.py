"""T5, T5 v1.1 and Flan-T5: an encoder and a decoder with learned distance buckets and unscaled scores."""

from __future__ import annotations

from dataclasses import replace

from paddock.errors import UnsupportedError
from paddock.model.config import Config
from paddock.model.families.shared import ACTIVATIONS
from paddock.model.rules import Drop, Rename, Rule
from paddock.model.spec import Architecture, Attention, Block, Buckets, FeedForward, Full, Head, RMSNorm

MODEL_TYPES = ("t5",)


def architecture(config: Config) -> Architecture:
    config.ignore("n_positions", "dense_act_fn", "is_gated_act")
    width, heads = config.integer("d_model"), config.integer("num_heads")
    norm = RMSNorm(config.number("layer_norm_epsilon", default=1e-6))
    buckets = Buckets(
        config.integer("relative_attention_num_buckets", default=32, high=65536),
        config.integer("relative_attention_max_distance", default=128),
        both_ways=True,
    )
    attention = Attention(heads, heads, config.integer("d_kv", default=64), buckets, scale=1.0)
    block = Block(attention, _feedforward(config), norm)
    layers = config.integer("num_layers", high=4096)
    encoder = Architecture("t5", config.integer("vocab_size"), width, layers, block, None, final_norm=norm, mask=Full())
    scaled = config.flag("scale_decoder_outputs", default=config.flag("tie_word_embeddings", default=True))
    tied = config.flag("tie_word_embeddings", default=True) and not config.stores("lm_head.weight")
    return replace(
        encoder,
        blocks=config.integer("num_decoder_layers", default=layers, high=4096),
        block=replace(
            block,
            attention=replace(attention, position=replace(buckets, both_ways=False)),
            cross=replace(attention, position=None),
        ),
        mask=Architecture.mask,
        head=Head(tied=tied, scale=width**-0.5 if scaled else 1.0),
        encoder=encoder,
        shared_embedding=True,
    )


def _feedforward(config: Config) -> FeedForward:
    kind = config.get("feed_forward_proj", default="relu")
    gated = str(kind).startswith("gated-")
    word = str(kind).removeprefix("gated-")
    if word not in ACTIVATIONS:
        raise UnsupportedError(f"config.json: feed_forward_proj is {kind!r}", expected="relu, gated-gelu or the like")
    activation = (
        "gelu_tanh" if kind == "gated-gelu" else ACTIVATIONS[word]
    )  # published so: "gelu" there is the tanh form
    return FeedForward(config.integer("d_ff"), activation, gated)


def _gated(architecture: Architecture) -> bool:
    part = architecture.layer(0).feedforward
    return isinstance(part, FeedForward) and part.gated


def _plain(architecture: Architecture) -> bool:
    return not _gated(architecture)


def _stack(theirs: str, ours: str, feedforward: int) -> list[Rule]:
    """The rules of one side; its feed-forward is sublayer 1 in the encoder, 2 in the decoder."""
    block, mine = f"{theirs}.block.{{i}}.layer", f"{ours}blocks.{{i}}"
    dense = f"{block}.{feedforward}.DenseReluDense"
    return [
        Rename(f"{block}.0.layer_norm.weight", f"{mine}.attention_norm.weight"),
        Rename(f"{block}.0.SelfAttention.q.weight", f"{mine}.attention.q.weight"),
        Rename(f"{block}.0.SelfAttention.k.weight", f"{mine}.attention.k.weight"),
        Rename(f"{block}.0.SelfAttention.v.weight", f"{mine}.attention.v.weight"),
        Rename(f"{block}.0.SelfAttention.o.weight", f"{mine}.attention.out.weight"),
        Rename(f"{theirs}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", f"{ours}relative_bias.weight"),
        Rename(f"{block}.{feedforward}.layer_norm.weight", f"{mine}.feedforward_norm.weight"),
        Rename(f"{dense}.wi.weight", f"{mine}.feedforward.up.weight", when=_plain),
        Rename(f"{dense}.wi_0.weight", f"{mine}.feedforward.gate.weight", when=_gated),
        Rename(f"{dense}.wi_1.weight", f"{mine}.feedforward.up.weight", when=_gated),
        Rename(f"{dense}.wo.weight", f"{mine}.feedforward.down.weight"),
        Rename(f"{theirs}.final_layer_norm.weight", f"{ours}norm.weight"),
    ]


_CROSS = "decoder.block.{i}.layer.1"
RULES: list[Rule] = [
    Rename("shared.weight", "embedding.tokens.weight"),
    Rename("decoder.embed_tokens.weight", "embedding.tokens.weight"),
    Rename("encoder.embed_tokens.weight", "encoder.embedding.tokens.weight"),
    *_stack("encoder", "encoder.", 1),
    *_stack("decoder", "", 2),
    Rename(f"{_CROSS}.layer_norm.weight", "blocks.{i}.cross_norm.weight"),
    Rename(f"{_CROSS}.EncDecAttention.q.weight", "blocks.{i}.cross.q.weight"),
    Rename(f"{_CROSS}.EncDecAttention.k.weight", "blocks.{i}.cross.k.weight"),
    Rename(f"{_CROSS}.EncDecAttention.v.weight", "blocks.{i}.cross.v.weight"),
    Rename(f"{_CROSS}.EncDecAttention.o.weight", "blocks.{i}.cross.out.weight"),
    Rename("lm_head.weight", "head.weight"),
    Drop("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"),  # in the first files; never read
]
