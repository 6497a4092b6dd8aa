"""GPT-NeoX: Pythia, Dolly, OASST-Pythia. Attention and feed-forward read the same x through two norms of their own."""

from __future__ import annotations

from paddock.model.config import Config
from paddock.model.families.shared import ACTIVATIONS, SCORE, classified, context, rope
from paddock.model.rules import Drop, Rename, Rule, SplitQKV
from paddock.model.spec import Architecture, Attention, Block, FeedForward, Head, LayerNorm

MODEL_TYPES = ("gpt_neox",)


def architecture(config: Config) -> Architecture:
    width, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    head_dim = width // heads
    bias = config.flag("attention_bias", default=True)
    norm = LayerNorm(config.number("layer_norm_eps", default=1e-5))
    fraction = config.number("rotary_pct", default=0.25, high=1.0)
    theta = config.number("rotary_emb_base", default=10000.0, low=1.0)
    position = rope(config, head_dim, fraction, theta)
    activation = config.choice("hidden_act", options=ACTIVATIONS, default="gelu")
    decoder = Architecture(
        family="gpt_neox",
        vocabulary=config.integer("vocab_size"),
        width=width,
        blocks=config.integer("num_hidden_layers", high=4096),
        block=Block(
            Attention(heads, heads, head_dim, position, qkv_bias=bias, out_bias=bias),
            FeedForward(config.integer("intermediate_size"), activation, gated=False, bias=True),
            norm,
            wiring="parallel" if config.flag("use_parallel_residual", default=True) else "pre",
        ),
        context=context(config, 2048, position),
        final_norm=norm,
        head=Head(tied=config.flag("tie_word_embeddings", default=False)),
    )
    return classified(config, decoder)


RULES: list[Rule] = [
    Rename("gpt_neox.embed_in.weight", "embedding.tokens.weight"),
    Rename("gpt_neox.layers.{i}.input_layernorm.{p}", "blocks.{i}.attention_norm.{p}"),
    Rename("gpt_neox.layers.{i}.post_attention_layernorm.{p}", "blocks.{i}.feedforward_norm.{p}"),
    SplitQKV("gpt_neox.layers.{i}.attention.query_key_value.{p}", "grouped"),
    Rename("gpt_neox.layers.{i}.attention.dense.{p}", "blocks.{i}.attention.out.{p}"),
    Rename("gpt_neox.layers.{i}.mlp.dense_h_to_4h.{p}", "blocks.{i}.feedforward.up.{p}"),
    Rename("gpt_neox.layers.{i}.mlp.dense_4h_to_h.{p}", "blocks.{i}.feedforward.down.{p}"),
    Rename("gpt_neox.final_layer_norm.{p}", "norm.{p}"),
    Rename("embed_out.weight", "head.weight"),
    SCORE,
    Drop("gpt_neox.layers.{i}.attention.rotary_emb.inv_freq"),
    Drop("gpt_neox.layers.{i}.attention.bias"),
    Drop("gpt_neox.layers.{i}.attention.masked_bias"),
]
