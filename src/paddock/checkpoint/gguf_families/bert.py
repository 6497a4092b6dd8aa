"""BERT encoders, as llama.cpp keeps them: for embeddings, or for classes and reranking (`pooling_type` rank).

The first is without pooler, neither has a masked-word head. A head over classes is `cls` (what the first token's vector
goes through, then tanh) and `cls.output`, whose classes the key `classifier.output_labels` names.
"""

from __future__ import annotations

from typing import Any

from paddock.checkpoint.gguf_families.metadata import MAX_BLOCKS, Family, Metadata, plain_heads
from paddock.errors import CheckpointError, UnsupportedError

_LAYER = "encoder.layer.{i}."
_NAMES = {
    "token_embd": "embeddings.word_embeddings",
    "position_embd": "embeddings.position_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "token_embd_norm": "embeddings.LayerNorm",
    "blk.{i}.attn_q": _LAYER + "attention.self.query",
    "blk.{i}.attn_k": _LAYER + "attention.self.key",
    "blk.{i}.attn_v": _LAYER + "attention.self.value",
    "blk.{i}.attn_output": _LAYER + "attention.output.dense",
    "blk.{i}.attn_output_norm": _LAYER + "attention.output.LayerNorm",
    "blk.{i}.ffn_up": _LAYER + "intermediate.dense",
    "blk.{i}.ffn_down": _LAYER + "output.dense",
    "blk.{i}.layer_output_norm": _LAYER + "output.LayerNorm",
    "cls": "pooler.dense",
    "cls.output": "classifier",
}


def _config(metadata: Metadata) -> dict[str, Any]:
    metadata.insist("attention.causal", False, "a BERT reads both ways")
    metadata.ignore("pooling_type")  # how a retrieval tool condenses the states; the states are the same
    return {
        "model_type": "bert",
        **_classes(metadata),
        "hidden_size": metadata.integer("embedding_length"),
        "intermediate_size": metadata.integer("feed_forward_length"),
        "num_hidden_layers": metadata.integer("block_count", high=MAX_BLOCKS),
        "num_attention_heads": plain_heads(metadata),
        "max_position_embeddings": metadata.integer("context_length"),
        "vocab_size": metadata.rows("token_embd.weight"),
        "type_vocab_size": metadata.rows("token_types.weight"),
        "layer_norm_eps": metadata.number("attention.layer_norm_epsilon"),
        "hidden_act": "gelu",
    }


def _classes(metadata: Metadata) -> dict[str, Any]:
    """What config.json says of a model with classes, or without. One class needs no name, as llama.cpp counts."""
    labels = metadata.texts("classifier.output_labels")
    if not metadata.stores("cls.output.weight"):
        if labels is not None:
            raise CheckpointError(
                f"{metadata.name} names {len(labels)} classes and has no head over them",
                fix="download or copy the file again",
            )
        return {"architectures": ["BertModel"]}
    count = metadata.rows("cls.output.weight")
    if labels is None and count == 1:
        labels = ["LABEL_0"]
    if labels is None or len(labels) != count:
        found = "no classes" if labels is None else f"{len(labels)} classes"
        raise CheckpointError(
            f"{metadata.name} names {found} in bert.classifier.output_labels, and its head has {count}",
            expected=f"{count} names",
        )
    if missing := [name for name in ("cls.weight", "cls.bias", "cls.output.bias") if not metadata.stores(name)]:
        raise UnsupportedError(
            f"{metadata.name} has a head over classes without {missing[0]}",
            expected="a pooler before it, and biases",
            fix="convert the published folder again: paddock convert FOLDER model.gguf",
        )
    return {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {str(number): name for number, name in enumerate(labels)},
        "label2id": {name: number for number, name in enumerate(labels)},
    }


FAMILY = Family(lambda _: _NAMES, _config)
