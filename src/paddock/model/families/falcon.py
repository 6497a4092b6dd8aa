"""Falcon: 7B (one key-value head, one norm), 40B and 180B (groups, two norms), RW (ALiBi, sequential), Falcon 2 11B."""

from __future__ import annotations

from dataclasses import replace

from paddock.model.config import Config
from paddock.model.families.shared import ACTIVATIONS, SCORE, classified, context, rope
from paddock.model.rules import Drop, Rename, Rule, SplitQKV
from paddock.model.spec import Alibi, Architecture, Attention, Block, FeedForward, Head, LayerNorm

MODEL_TYPES = ("falcon", "RefinedWeb", "RefinedWebModel")


def architecture(config: Config) -> Architecture:
    config.insist("apply_residual_connection_post_layernorm", False, "no published model does this")
    width, heads = config.integer("hidden_size", "n_embed"), config.integer("num_attention_heads", "n_head")
    head_dim = width // heads
    bias, wider = config.flag("bias", default=False), config.integer("ff_factor", default=4)
    norm = LayerNorm(config.number("layer_norm_epsilon", default=1e-5))
    alibi, rotary = config.flag("alibi", default=False), rope(config, head_dim)
    activation = config.choice("activation", options=ACTIVATIONS, default="gelu")
    block = Block(
        Attention(
            heads,
            _kv_heads(config, heads),
            head_dim,
            position=Alibi(before_scale=True, rounded=True) if alibi else rotary,
            qkv_bias=bias,
            out_bias=bias,
        ),
        FeedForward(config.integer("ffn_hidden_size", default=wider * width), activation, gated=False, bias=bias),
        norm,
    )
    decoder = Architecture(
        family="falcon",
        vocabulary=config.integer("vocab_size"),
        width=width,
        blocks=config.integer("num_hidden_layers", "n_layer", high=4096),
        block=_wired(config, block),
        context=context(config, 2048, rotary),
        final_norm=norm,
        head=Head(tied=config.flag("tie_word_embeddings", default=True)),
    )
    return classified(config, decoder)


def _kv_heads(config: Config, heads: int) -> int:
    """Falcon-7B's file names no key-value heads: its one comes from `multi_query`; 40B's come from their own key."""
    given = config.integer("num_kv_heads", "n_head_kv", default=heads)
    multi_query = config.flag("multi_query", default=True)
    if config.flag("new_decoder_architecture", default=config.values.get("n_head_kv") is not None):
        return given
    return 1 if multi_query else heads


def _wired(config: Config, block: Block) -> Block:
    new = config.flag("new_decoder_architecture", default=config.values.get("n_head_kv") is not None)
    parallel = config.flag("parallel_attn", default=True)
    norms = config.integer("num_ln_in_parallel_attn", default=2 if new else 1, high=2)
    if not new and not parallel:
        return block
    return replace(block, wiring="parallel", shared_norm=not (new and norms == 2))


def _two_norms(architecture: Architecture) -> bool:
    block = architecture.layer(0)
    return block.wiring == "parallel" and not block.shared_norm


def _one_norm(architecture: Architecture) -> bool:
    return not _two_norms(architecture)


RULES: list[Rule] = [
    Rename("transformer.word_embeddings.weight", "embedding.tokens.weight"),
    Rename("transformer.h.{i}.input_layernorm.{p}", "blocks.{i}.attention_norm.{p}", when=_one_norm),
    Rename("transformer.h.{i}.post_attention_layernorm.{p}", "blocks.{i}.feedforward_norm.{p}", when=_one_norm),
    Rename("transformer.h.{i}.ln_attn.{p}", "blocks.{i}.attention_norm.{p}", when=_two_norms),
    Rename("transformer.h.{i}.ln_mlp.{p}", "blocks.{i}.feedforward_norm.{p}", when=_two_norms),
    SplitQKV("transformer.h.{i}.self_attention.query_key_value.{p}", "grouped"),
    Rename("transformer.h.{i}.self_attention.dense.{p}", "blocks.{i}.attention.out.{p}"),
    Rename("transformer.h.{i}.mlp.dense_h_to_4h.{p}", "blocks.{i}.feedforward.up.{p}"),
    Rename("transformer.h.{i}.mlp.dense_4h_to_h.{p}", "blocks.{i}.feedforward.down.{p}"),
    Rename("transformer.ln_f.{p}", "norm.{p}"),
    Rename("lm_head.weight", "head.weight"),
    SCORE,
    Drop("transformer.h.{i}.self_attention.rotary_emb.inv_freq"),
    Drop("transformer.h.{i}.self_attention.maybe_rotary.inv_freq"),
]
