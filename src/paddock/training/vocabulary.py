"""A model given rows for new tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from paddock.errors import UnsupportedError, UsageError
from paddock.model.families import describe
from paddock.model.transformer import Transformer

KEYS = ("padded_vocab_size", "vocab_size")


def grow(
    model: Transformer, config: Mapping[str, Any], first: int, spelled: Sequence[Sequence[int]]
) -> tuple[Transformer, dict[str, Any]]:
    """The model with tokens `first`, `first + 1`, ... and its configuration; everything else is as it was.

    The row of a new token, in the embedding and in the head, is the mean of the rows of the old tokens that spelt it
    (`spelled`): the model begins with what it knew of them. Rows that a padded vocabulary kept free are used before
    new ones are made. Logits of old tokens are unchanged.

    Raises UsageError for a vocabulary that goes beyond the model's rows already, UnsupportedError for a model with two.
    """
    old = model.architecture.vocabulary
    if first > old or any(not 0 <= id < min(first, old) for ids in spelled for id in ids):
        raise UsageError(f"the tokenizer has {first} tokens, the model {old}", fix="use the model's own tokenizer")
    if model.architecture.encoder is not None and not model.architecture.shared_embedding:
        raise UnsupportedError("a model with two vocabularies cannot be extended", expected="one shared embedding")
    rows = max(old, first + len(spelled))
    key = next(key for key in KEYS if key in config)
    changed = {**config, key: rows}
    architecture = describe(changed)
    if architecture.vocabulary != rows:
        raise UnsupportedError(f"{architecture.family} does not take its vocabulary from {key}")
    grown = Transformer(architecture).to(next(model.parameters()).dtype)
    before = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in grown.named_parameters():
            if parameter.shape == before[name].shape:
                parameter.copy_(before[name])
            if parameter.shape[0] == rows and name.rpartition(".")[0] in ("embedding.tokens", "head"):
                _fill(parameter, before[name], first, spelled)
    return grown, changed


def _fill(rows: Tensor, before: Tensor, first: int, spelled: Sequence[Sequence[int]]) -> None:
    rows[: len(before)] = before
    for place, ids in enumerate(spelled):
        if ids:
            rows[first + place] = before[list(ids)].float().mean(0)
        else:  # nothing spelt it: the mean of all, which no token is far from
            rows[first + place] = before[:first].float().mean(0)
