"""CodeGen, and MOSS made from it: one norm feeds attention and feed-forward; the head has a bias."""

from __future__ import annotations

from dataclasses import replace

from paddock.errors import CheckpointError
from paddock.model.config import Config
from paddock.model.families.shared import ACTIVATIONS, context
from paddock.model.rules import Drop, Rename, Rule, SplitQKV
from paddock.model.spec import Architecture, Attention, Block, FeedForward, Head, LayerNorm, Rope

MODEL_TYPES = ("codegen", "moss")


def architecture(config: Config) -> Architecture:
    config.ignore("rotary", "scale_attn_weights", "wbits", "groupsize")
    width, heads = config.integer("n_embd"), config.integer("n_head")
    if heads % 4:
        raise CheckpointError(
            f"config.json: n_head is {heads}", expected="a multiple of 4, the parts its q, k, v lie in"
        )
    norm = LayerNorm(config.number("layer_norm_epsilon", default=1e-5))
    rope = Rope(10000.0, config.integer("rotary_dim", default=64), interleaved=True)
    activation = config.choice("activation_function", options=ACTIVATIONS, default="gelu_new")
    hidden = config.integer("n_inner", default=4 * width)
    length = context(config, 2048)
    config.ignore("n_ctx")  # the same number again
    return Architecture(
        family="codegen",
        vocabulary=config.integer("vocab_size"),
        width=width,
        blocks=config.integer("n_layer", high=4096),
        block=Block(
            Attention(heads, heads, width // heads, rope),
            FeedForward(hidden, activation, gated=False, bias=True),
            norm,
            wiring="parallel",
            shared_norm=True,
        ),
        context=length,
        final_norm=norm,
        head=replace(Head(tied=config.flag("tie_word_embeddings", default=False)), bias=True),
    )


RULES: list[Rule] = [
    Rename("transformer.wte.weight", "embedding.tokens.weight"),
    Rename("transformer.h.{i}.ln_1.{p}", "blocks.{i}.attention_norm.{p}"),
    SplitQKV("transformer.h.{i}.attn.qkv_proj.weight", "codegen"),
    Rename("transformer.h.{i}.attn.out_proj.weight", "blocks.{i}.attention.out.weight"),
    Rename("transformer.h.{i}.mlp.fc_in.{p}", "blocks.{i}.feedforward.up.{p}"),
    Rename("transformer.h.{i}.mlp.fc_out.{p}", "blocks.{i}.feedforward.down.{p}"),
    Rename("transformer.ln_f.{p}", "norm.{p}"),
    Rename("lm_head.{p}", "head.{p}"),
    Drop("transformer.h.{i}.attn.causal_mask"),
    Drop("transformer.h.{i}.attn.embed_positions"),
    Drop("transformer.h.{i}.attn.bias"),
    Drop("transformer.h.{i}.attn.masked_bias"),
]
