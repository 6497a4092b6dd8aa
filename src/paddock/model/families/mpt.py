"""MPT: ALiBi, no biases anywhere, one clamp on fused q, k, v where the file asks for it (StoryWriter)."""

from __future__ import annotations

from paddock.errors import CheckpointError
from paddock.model.config import Config
from paddock.model.families.shared import SCORE, classified, context
from paddock.model.rules import Rename, Rule, SplitQKV
from paddock.model.spec import Alibi, Architecture, Attention, Block, Embedding, FeedForward, Head, LayerNorm, Learned

MODEL_TYPES = ("mpt",)
_KV_HEADS = ("multihead_attention", "multiquery_attention", "grouped_query_attention")


def architecture(config: Config) -> Architecture:
    config.ignore("verbose", "use_pad_tok_in_ffn", "init_config", "embedding_fraction", "fc_type", "attn_impl")
    width, heads = config.integer("d_model"), config.integer("n_heads")
    bias = not config.flag("no_bias", default=True)
    config.choice("norm_type", options=dict.fromkeys(("low_precision_layernorm", "layernorm")), default="layernorm")
    norm = LayerNorm(config.number("layer_norm_epsilon", default=1e-5), bias=bias)
    length = context(config, 2048)
    attention, alibi = _attention(config, width, heads, bias)
    learned = config.flag("learned_pos_emb", default=True) and not alibi  # shipped true even beside ALiBi
    decoder = Architecture(
        family="mpt",
        vocabulary=config.integer("vocab_size"),
        width=width,
        blocks=config.integer("n_layers", high=4096),
        block=Block(attention, FeedForward(_hidden(config, width), "gelu", gated=False, bias=bias), norm),
        context=length,
        embedding=Embedding(positions=Learned(length or 2048) if learned else None),
        final_norm=norm,
        head=Head(tied=config.flag("tie_word_embeddings", default=True), scale=_logit_scale(config, width)),
    )
    return classified(config, decoder)


def _attention(config: Config, width: int, heads: int, bias: bool) -> tuple[Attention, bool]:
    """Re-saved files exist whose attn_config is empty: ALiBi with a largest bias of 8 and no clamp are meant then."""
    table = config.table("attn_config")
    table.ignore("attn_pdrop", "attn_impl", "fused_qkv", "model_type")
    for key in ("prefix_lm", "qk_ln", "qk_gn", "attn_uses_sequence_id", "rope"):
        table.insist(key, False, "Paddock does not run this variant")
    table.insist("sliding_window_size", -1, "Paddock does not run this variant")
    kind = table.choice("attn_type", options={name: name for name in _KV_HEADS}, default="multihead_attention")
    shared = table.integer("kv_n_heads", default=heads)
    alibi = table.flag("alibi", default=True)
    bias_max = table.number("alibi_bias_max", default=8.0, low=0.1, high=1024)
    part = Attention(
        heads,
        {"multihead_attention": heads, "multiquery_attention": 1}.get(kind, shared),
        width // heads,
        position=Alibi(bias_max) if alibi else None,
        qkv_bias=bias,
        out_bias=bias,
        scale=table.number("softmax_scale", default=None),
        clip=table.number("clip_qkv", default=None),
    )
    table.finish()
    return part, alibi


def _hidden(config: Config, width: int) -> int:
    table = config.table("ffn_config")
    table.insist("ffn_type", "mptmlp", "Paddock does not run this variant")
    table.ignore("fc_type")
    table.finish()
    return int(config.number("expansion_ratio", default=4.0, low=0.1, high=64.0) * width)


def _logit_scale(config: Config, width: int) -> float:
    scale = config.get("logit_scale", default=1.0)
    if scale == "inv_sqrt_d_model":
        return width**-0.5
    if not isinstance(scale, int | float) or isinstance(scale, bool):
        raise CheckpointError(f"config.json: logit_scale is {scale!r}", expected="a number or 'inv_sqrt_d_model'")
    return float(scale)


RULES: list[Rule] = [
    Rename("transformer.wte.weight", "embedding.tokens.weight"),
    Rename("transformer.wpe.weight", "embedding.positions.weight"),
    Rename("transformer.blocks.{i}.norm_1.{p}", "blocks.{i}.attention_norm.{p}"),
    Rename("transformer.blocks.{i}.norm_2.{p}", "blocks.{i}.feedforward_norm.{p}"),
    SplitQKV("transformer.blocks.{i}.attn.Wqkv.{p}", "concat"),
    Rename("transformer.blocks.{i}.attn.out_proj.{p}", "blocks.{i}.attention.out.{p}"),
    Rename("transformer.blocks.{i}.ffn.up_proj.{p}", "blocks.{i}.feedforward.up.{p}"),
    Rename("transformer.blocks.{i}.ffn.down_proj.{p}", "blocks.{i}.feedforward.down.{p}"),
    Rename("transformer.norm_f.{p}", "norm.{p}"),
    Rename("lm_head.weight", "head.weight"),
    SCORE,
]
