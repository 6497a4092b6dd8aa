"""ChatGLM2 and 3: another architecture under the same name, near LLaMA: grouped heads, RoPE on half of each head."""

from __future__ import annotations

from paddock.model.config import Config
from paddock.model.families.shared import context
from paddock.model.rules import Drop, Rename, Rule, SplitQKV, Stack
from paddock.model.spec import Architecture, Attention, Block, FeedForward, Head, RMSNorm, Rope

MODEL_TYPES = ("chatglm2",)  # published as "chatglm"; `family()` tells them apart


def architecture(config: Config) -> Architecture:
    for key in ("rmsnorm", "post_layer_norm", "original_rope"):
        config.insist(key, True, "no published model does otherwise")
    config.insist("apply_residual_connection_post_layernorm", False, "no published model does otherwise")
    config.insist("pre_seq_len", None, "a P-Tuning prefix is not part of these weights")
    config.insist("quantization_bit", 0, "use the unquantised weights")
    config.ignore("apply_query_key_layer_scaling", "attention_softmax_in_fp32", "fp32_residual_connection")
    config.ignore("bias_dropout_fusion", "prefix_projection", "interleaved_qkv", "vocab_size")
    width, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    head_dim = config.integer("kv_channels", default=width // heads)
    bias = config.flag("add_bias_linear", default=False)
    norm = RMSNorm(config.number("layernorm_epsilon", default=1e-5))
    groups = config.integer("multi_query_group_num", default=1)
    shared = config.flag("multi_query_attention", default=False)
    theta = 10000.0 * config.number("rope_ratio", default=1.0, low=1e-3)
    return Architecture(
        family="chatglm2",
        vocabulary=config.integer("padded_vocab_size"),
        width=width,
        blocks=config.integer("num_layers", "num_hidden_layers", high=4096),
        block=Block(
            Attention(
                heads,
                groups if shared else heads,
                head_dim,
                Rope(theta, head_dim // 2, interleaved=True),
                qkv_bias=bias or config.flag("add_qkv_bias", default=False),
                out_bias=bias,
            ),
            FeedForward(config.integer("ffn_hidden_size"), "silu", gated=True, bias=bias),
            norm,
        ),
        context=context(config, 2048),
        final_norm=norm,
        head=Head(tied=config.flag("tie_word_embeddings", default=False)),
    )


_FF = "blocks.{i}.feedforward"
RULES: list[Rule] = [
    Rename("transformer.embedding.word_embeddings.weight", "embedding.tokens.weight"),
    Rename("transformer.encoder.layers.{i}.input_layernorm.weight", "blocks.{i}.attention_norm.weight"),
    SplitQKV("transformer.encoder.layers.{i}.self_attention.query_key_value.{p}", "concat"),
    Rename("transformer.encoder.layers.{i}.self_attention.dense.{p}", "blocks.{i}.attention.out.{p}"),
    Rename("transformer.encoder.layers.{i}.post_attention_layernorm.weight", "blocks.{i}.feedforward_norm.weight"),
    Stack("transformer.encoder.layers.{i}.mlp.dense_h_to_4h.{p}", (f"{_FF}.gate.{{p}}", f"{_FF}.up.{{p}}")),
    Rename("transformer.encoder.layers.{i}.mlp.dense_4h_to_h.{p}", f"{_FF}.down.{{p}}"),
    Rename("transformer.encoder.final_layernorm.weight", "norm.weight"),
    Rename("transformer.output_layer.weight", "head.weight"),
    Drop("transformer.rotary_pos_emb.inv_freq"),
]
