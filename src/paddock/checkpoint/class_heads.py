"""A head over classes that an adapter brings along: what the base's config.json does not say, in a file beside it.

PEFT keeps the head's numbers in an adapter (modules_to_save), but not what its classes are called.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from paddock.checkpoint.jsonfile import read as read_json
from paddock.errors import CheckpointError
from paddock.model.families import describe
from paddock.model.transformer import Pooler, Transformer, pooler
from paddock.model.twin import twin_of

FILE = "classes.json"
KEYS = ("architectures", "id2label", "label2id", "problem_type", "pad_token_id")


def described(config: Mapping[str, Any]) -> dict[str, bytes]:
    """The file, by its name, that says of a configuration what is about its classes."""
    told = {key: config[key] for key in KEYS if key in config}
    return {FILE: (json.dumps(told, indent=2, ensure_ascii=False) + "\n").encode()}


def read(folder: Path) -> dict[str, Any]:
    """What an adapter's folder says of its classes, as keys of a config.json; nothing where it has no file of them.

    Raises CheckpointError for a file that says anything else.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    told = read_json(path)
    if strange := sorted(told.keys() - set(KEYS)):
        raise CheckpointError(f"{path} says {strange[0][:80]!r}", expected=", ".join(KEYS))
    return told


def with_head(model: Transformer, config: Mapping[str, Any]) -> tuple[Transformer, tuple[str, ...]]:
    """A Transformer like `model`, with the head that `config` describes, and the names of its parameters that have no
    numbers yet; `model` itself where it has that head. What is not replaced is shared."""
    part = describe(config).pooler  # by its class name: there are no tensors to ask
    if part is None or part == model.architecture.pooler:
        return model, ()
    twin: Transformer = twin_of(model)
    like = model.embedding.tokens.weight
    with torch.device(like.device):
        made = pooler(part, model.architecture.width).to(like.dtype).requires_grad_(False)
    if isinstance(twin.pooler, Pooler) and isinstance(made, Pooler):
        made.dense = twin.pooler.dense
    kept = set() if model.pooler is None else {id(p) for p in model.pooler.parameters()}
    twin.architecture, twin.head, twin.pooler = replace(model.architecture, head=None, pooler=part), None, made
    return twin, tuple(f"pooler.{name}" for name, p in made.named_parameters() if id(p) not in kept)


def check_filled(before: Transformer, after: Transformer, blank: Iterable[str]) -> None:
    """Raises CheckpointError where an adapter left a parameter of `before` as it was that has no numbers of its own."""
    empty, now = dict(before.named_parameters()), dict(after.named_parameters())
    for name in blank:
        if now.get(name) is empty[name]:
            raise CheckpointError(
                f"{FILE} describes classes, and the adapter lacks {name}", fix="copy the adapter's folder again"
            )
