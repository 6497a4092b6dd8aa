"""BLOOM, BLOOMZ, and BELLE and Phoenix made from them: ALiBi, biases everywhere, a norm right after the embedding."""

from __future__ import annotations

from paddock.model.config import Config
from paddock.model.families.shared import SCORE, classified
from paddock.model.rules import Rename, Rule, SplitQKV
from paddock.model.spec import Alibi, Architecture, Attention, Block, Embedding, FeedForward, Head, LayerNorm

MODEL_TYPES = ("bloom",)


def architecture(config: Config) -> Architecture:
    # How sums were split over training devices; the numbers are the same but for rounding.
    config.ignore(
        "slow_but_exact", "skip_bias_add", "skip_bias_add_qkv", "attention_softmax_in_fp32", "bias_dropout_fusion"
    )
    config.ignore("masked_softmax_fusion", "unk_token_id", "n_inner", "offset_alibi", "seq_length", "hidden_act")
    config.insist("apply_residual_connection_post_layernorm", False, "no published model does this")
    width, heads = config.integer("hidden_size", "n_embed"), config.integer("n_head", "num_attention_heads")
    norm = LayerNorm(config.number("layer_norm_epsilon", default=1e-5))
    decoder = Architecture(
        family="bloom",
        vocabulary=config.integer("vocab_size"),
        width=width,
        blocks=config.integer("n_layer", "num_hidden_layers", high=4096),
        block=Block(
            Attention(heads, heads, width // heads, Alibi(), qkv_bias=True, out_bias=True),
            FeedForward(4 * width, "gelu_tanh", gated=False, bias=True),
            norm,
        ),
        context=config.integer("seq_length", default=2048, high=2**31),
        embedding=Embedding(norm=norm),
        final_norm=norm,
        head=Head(tied=config.flag("tie_word_embeddings", default=True)),
    )
    return classified(config, decoder)


RULES: list[Rule] = [
    Rename("[transformer.]word_embeddings.weight", "embedding.tokens.weight"),
    Rename("[transformer.]word_embeddings_layernorm.{p}", "embedding.norm.{p}"),
    Rename("[transformer.]h.{i}.input_layernorm.{p}", "blocks.{i}.attention_norm.{p}"),
    SplitQKV("[transformer.]h.{i}.self_attention.query_key_value.{p}", "grouped"),
    Rename("[transformer.]h.{i}.self_attention.dense.{p}", "blocks.{i}.attention.out.{p}"),
    Rename("[transformer.]h.{i}.post_attention_layernorm.{p}", "blocks.{i}.feedforward_norm.{p}"),
    Rename("[transformer.]h.{i}.mlp.dense_h_to_4h.{p}", "blocks.{i}.feedforward.up.{p}"),
    Rename("[transformer.]h.{i}.mlp.dense_4h_to_h.{p}", "blocks.{i}.feedforward.down.{p}"),
    Rename("[transformer.]ln_f.{p}", "norm.{p}"),
    Rename("lm_head.weight", "head.weight"),
    SCORE,
]
