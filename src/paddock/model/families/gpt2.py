"""GPT-2: learned positions, and matrices stored (in, out), the other way round than everyone else's."""

from __future__ import annotations

from dataclasses import replace

from paddock.model.config import Config
from paddock.model.families.shared import ACTIVATIONS, SCORE, classified, context
from paddock.model.rules import Drop, Rename, Rule, SplitQKV
from paddock.model.spec import Architecture, Attention, Block, Embedding, FeedForward, Head, LayerNorm, Learned

MODEL_TYPES = ("gpt2",)


def architecture(config: Config) -> Architecture:
    config.ignore("reorder_and_upcast_attn")  # a guard against float16 overflow, not another function
    config.ignore("n_special", "predict_special_tokens")  # of the first library that published it
    width, heads = config.integer("n_embd", "hidden_size"), config.integer("n_head", "num_attention_heads")
    norm = LayerNorm(config.number("layer_norm_epsilon", default=1e-5))
    positions = context(config, 1024)
    activation = config.choice("activation_function", options=ACTIVATIONS, default="gelu_new")
    hidden = config.integer("n_inner", default=4 * width)
    layers = config.integer("n_layer", "num_hidden_layers", high=4096)
    attention = Attention(heads, heads, width // heads, qkv_bias=True, out_bias=True)
    if not config.flag("scale_attn_weights", default=True):
        attention = replace(attention, scale=1.0)
    block = Block(attention, FeedForward(hidden, activation, gated=False, bias=True), norm)
    by_layer = config.flag("scale_attn_by_inverse_layer_idx", default=False)
    decoder = Architecture(
        family="gpt2",
        vocabulary=config.integer("vocab_size"),
        width=width,
        blocks=layers,
        block=tuple(_scaled(block, i + 1) for i in range(layers)) if by_layer else block,
        context=positions,
        embedding=Embedding(positions=Learned(positions or 1024)),
        final_norm=norm,
        head=Head(tied=config.flag("tie_word_embeddings", default=True)),
    )
    return classified(config, decoder)


def _scaled(block: Block, divisor: int) -> Block:
    return replace(block, attention=replace(block.attention, scale=block.attention.multiplier / divisor))


RULES: list[Rule] = [
    Rename("[transformer.]wte.weight", "embedding.tokens.weight"),
    Rename("[transformer.]wpe.weight", "embedding.positions.weight"),
    Rename("[transformer.]h.{i}.ln_1.{p}", "blocks.{i}.attention_norm.{p}"),
    SplitQKV("[transformer.]h.{i}.attn.c_attn.{p}", "concat", transpose=True),
    Rename("[transformer.]h.{i}.attn.c_proj.{p}", "blocks.{i}.attention.out.{p}", transpose=True),
    Rename("[transformer.]h.{i}.ln_2.{p}", "blocks.{i}.feedforward_norm.{p}"),
    Rename("[transformer.]h.{i}.mlp.c_fc.{p}", "blocks.{i}.feedforward.up.{p}", transpose=True),
    Rename("[transformer.]h.{i}.mlp.c_proj.{p}", "blocks.{i}.feedforward.down.{p}", transpose=True),
    Rename("[transformer.]ln_f.{p}", "norm.{p}"),
    Rename("lm_head.weight", "head.weight"),
    SCORE,
    Drop("[transformer.]h.{i}.attn.bias"),
    Drop("[transformer.]h.{i}.attn.masked_bias"),
]
