"""What a GGUF file says of a model's classes: their names, and that a text is scored rather than embedded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paddock.checkpoint.gguf_write import Value
from paddock.errors import CheckpointError, UnsupportedError
from paddock.model.spec import Architecture, LastToken

RANK = 4  # llama.cpp's `pooling_type` of a model whose result are scores of classes


def described(part: Architecture, config: Mapping[str, Any]) -> dict[str, Value]:
    """The keys of a model with classes; none for one without.

    Raises UnsupportedError for a decoder's classes and for what the format cannot say of them, CheckpointError for an
    id2label that does not fit.
    """
    pooler = part.pooler
    if pooler is None or not pooler.labels:
        return {}
    folder = "write a Hugging Face folder (paddock quantize --to int8 makes one smaller)"
    if isinstance(pooler, LastToken):
        raise UnsupportedError(
            f"llama.cpp, and so GGUF, has no place for the classes of a {part.family} model",
            expected="a BERT with classes",
            fix=folder,
        )
    usual = "regression" if pooler.labels == 1 else "single_label_classification"
    if (kind := config.get("problem_type") or usual) != usual:
        raise UnsupportedError(
            f"a GGUF file cannot say that {pooler.labels} scores are a {str(kind)[:60]}", expected=usual, fix=folder
        )
    return {"bert.pooling_type": RANK, "bert.classifier.output_labels": _names(config.get("id2label"), pooler.labels)}


def _names(table: Any, count: int) -> list[str]:
    """In the order of the ids; numbered where config.json names none, as transformers does it."""
    if not table:
        return [f"LABEL_{number}" for number in range(count)]
    own = {str(id): name for id, name in table.items()} if isinstance(table, Mapping) else {}
    if len(own) != count or any(not isinstance(own.get(str(number)), str) for number in range(count)):
        raise CheckpointError(
            f"config.json's id2label does not name the classes: {str(table)[:80]}",
            expected=f"{count} names, for 0 to {count - 1}",
        )
    return [own[str(number)] for number in range(count)]
