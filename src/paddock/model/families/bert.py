"""BERT and what shares its encoder (MiniLM, BGE, E5): masked tokens, sentence classes, embeddings."""

from __future__ import annotations

from paddock.model.config import Config
from paddock.model.families.shared import ACTIVATIONS, has, label_count
from paddock.model.rules import Drop, Rename, Rule
from paddock.model.spec import (
    Architecture,
    Attention,
    Block,
    Embedding,
    FeedForward,
    Full,
    Head,
    LayerNorm,
    Learned,
    Pooler,
    Transform,
)

MODEL_TYPES = ("bert",)


def architecture(config: Config) -> Architecture:
    config.ignore("directionality", "gradient_checkpointing", "vocab_size_or_config_json_file")
    config.ignore("pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers")
    config.ignore("pooler_size_per_head", "pooler_type")
    config.insist("position_embedding_type", "absolute", "relative positions are not run")
    config.insist("is_decoder", False, "a BERT that writes from left to right is not run")
    width, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    activation = config.choice("hidden_act", options=ACTIVATIONS, default="gelu")
    norm = LayerNorm(config.number("layer_norm_eps", default=1e-12))
    positions = config.integer("max_position_embeddings", default=512)
    tied = config.flag("tie_word_embeddings", default=True)
    masked = has(config, ("ForMaskedLM", "ForPreTraining"), "cls.predictions.transform.dense.weight")
    return Architecture(
        family="bert",
        vocabulary=config.integer("vocab_size"),
        width=width,
        blocks=config.integer("num_hidden_layers", high=4096),
        block=Block(
            Attention(heads, heads, width // heads, qkv_bias=True, out_bias=True),
            FeedForward(config.integer("intermediate_size"), activation, gated=False, bias=True),
            norm,
            wiring="post",
        ),
        context=positions,
        embedding=Embedding(Learned(positions), config.integer("type_vocab_size", default=2), norm),
        mask=Full(),
        head=Head(tied=tied, bias=True, transform=Transform(activation, norm)) if masked else None,
        pooler=_pooler(config),
    )


def _pooler(config: Config) -> Pooler | None:
    classes = ("BertModel", "ForPreTraining", "ForSequenceClassification", "ForNextSentencePrediction")
    if not has(config, classes, "bert.pooler.dense.weight", "pooler.dense.weight"):
        return None
    labels = 0
    if has(config, ("ForSequenceClassification",), "classifier.weight"):
        labels = label_count(config)
    follows = has(config, ("ForPreTraining", "ForNextSentencePrediction"), "cls.seq_relationship.weight")
    return Pooler(labels, follows)


_LAYER, _OURS = "[bert.]encoder.layer.{i}", "blocks.{i}"
RULES: list[Rule] = [
    Rename("[bert.]embeddings.word_embeddings.weight", "embedding.tokens.weight"),
    Rename("[bert.]embeddings.position_embeddings.weight", "embedding.positions.weight"),
    Rename("[bert.]embeddings.token_type_embeddings.weight", "embedding.segments.weight"),
    Rename("[bert.]embeddings.LayerNorm.{p}", "embedding.norm.{p}"),
    Rename(f"{_LAYER}.attention.self.query.{{p}}", f"{_OURS}.attention.q.{{p}}"),
    Rename(f"{_LAYER}.attention.self.key.{{p}}", f"{_OURS}.attention.k.{{p}}"),
    Rename(f"{_LAYER}.attention.self.value.{{p}}", f"{_OURS}.attention.v.{{p}}"),
    Rename(f"{_LAYER}.attention.output.dense.{{p}}", f"{_OURS}.attention.out.{{p}}"),
    Rename(f"{_LAYER}.attention.output.LayerNorm.{{p}}", f"{_OURS}.attention_norm.{{p}}"),
    Rename(f"{_LAYER}.intermediate.dense.{{p}}", f"{_OURS}.feedforward.up.{{p}}"),
    Rename(f"{_LAYER}.output.dense.{{p}}", f"{_OURS}.feedforward.down.{{p}}"),
    Rename(f"{_LAYER}.output.LayerNorm.{{p}}", f"{_OURS}.feedforward_norm.{{p}}"),
    Rename("[bert.]pooler.dense.{p}", "pooler.dense.{p}"),
    Rename("classifier.{p}", "pooler.classes.{p}"),
    Rename("cls.seq_relationship.{p}", "pooler.next_sentence.{p}"),
    Rename("cls.predictions.transform.dense.{p}", "head.transform.{p}"),
    Rename("cls.predictions.transform.LayerNorm.{p}", "head.norm.{p}"),
    Rename("cls.predictions.bias", "head.bias"),
    Rename("cls.predictions.decoder.{p}", "head.{p}"),
    Drop("[bert.]embeddings.position_ids"),
]
