"""LLaMA 1, 2, 3, Code Llama, and what was made from them: Vicuna, Alpaca, Koala, StableBeluga, Baize, R1 distills."""

from __future__ import annotations

from paddock.model.config import Config
from paddock.model.families.shared import ACTIVATIONS, SCORE, classified, context, rope
from paddock.model.rules import Drop, Rename, Rule
from paddock.model.spec import Architecture, Attention, Block, FeedForward, Head, RMSNorm

MODEL_TYPES = ("llama",)


def architecture(config: Config, eps: float = 1e-6, theta: float = 10000.0) -> Architecture:
    """`eps` and `theta`: what a configuration that says nothing of its norms' or its rotary base means."""
    config.insist("use_mrope", False, "positions in three parts belong to Qwen2-VL, which Paddock does not run")
    width = config.integer("hidden_size")
    heads = config.integer("num_attention_heads")
    head_dim = config.integer("head_dim", default=width // heads)
    bias, mlp_bias = config.flag("attention_bias", default=False), config.flag("mlp_bias", default=False)
    norm = RMSNorm(config.number("rms_norm_eps", default=eps))
    position = rope(config, head_dim, theta=theta)
    attention = Attention(
        heads,
        config.integer("num_key_value_heads", default=heads),
        head_dim,
        position=position,
        qkv_bias=bias,
        out_bias=bias,
    )
    activation = config.choice("hidden_act", options=ACTIVATIONS, default="silu")
    decoder = Architecture(
        family="llama",
        vocabulary=config.integer("vocab_size"),
        width=width,
        blocks=config.integer("num_hidden_layers", high=4096),
        block=Block(attention, FeedForward(config.integer("intermediate_size"), activation, True, mlp_bias), norm),
        context=context(config, rope=position),
        final_norm=norm,
        head=Head(tied=config.flag("tie_word_embeddings", default=False)),
    )
    return classified(config, decoder)


RULES: list[Rule] = [
    Rename("model.embed_tokens.weight", "embedding.tokens.weight"),
    Rename("model.layers.{i}.input_layernorm.weight", "blocks.{i}.attention_norm.weight"),
    Rename("model.layers.{i}.self_attn.q_proj.{p}", "blocks.{i}.attention.q.{p}"),
    Rename("model.layers.{i}.self_attn.k_proj.{p}", "blocks.{i}.attention.k.{p}"),
    Rename("model.layers.{i}.self_attn.v_proj.{p}", "blocks.{i}.attention.v.{p}"),
    Rename("model.layers.{i}.self_attn.o_proj.{p}", "blocks.{i}.attention.out.{p}"),
    Rename("model.layers.{i}.post_attention_layernorm.weight", "blocks.{i}.feedforward_norm.weight"),
    Rename("model.layers.{i}.mlp.gate_proj.{p}", "blocks.{i}.feedforward.gate.{p}"),
    Rename("model.layers.{i}.mlp.up_proj.{p}", "blocks.{i}.feedforward.up.{p}"),
    Rename("model.layers.{i}.mlp.down_proj.{p}", "blocks.{i}.feedforward.down.{p}"),
    Rename("model.norm.weight", "norm.weight"),
    Rename("lm_head.weight", "head.weight"),
    SCORE,
    Drop("model.layers.{i}.self_attn.rotary_emb.inv_freq"),
]
