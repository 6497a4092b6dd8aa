"""Cross-encoders: how well a document answers a query, by a model that reads both as one text."""

from __future__ import annotations

from typing import NamedTuple

import torch

from paddock.engine.memory import memory_for
from paddock.engine.reading import Reader
from paddock.errors import ContextLengthError, UnsupportedError
from paddock.model.step import Step
from paddock.model.transformer import Transformer
from paddock.tokenizer import Tokenizer


class Pair(NamedTuple):
    """Two texts as one: [CLS] a [SEP] b [SEP], the first in segment 0 and the second in 1. `cut`: b was shortened."""

    ids: list[int]
    segments: list[int]
    cut: bool


def scores_pairs(model: Transformer) -> bool:
    """Whether the model was fine-tuned to give pairs of texts one number."""
    pooler = model.pooler
    return pooler is not None and pooler.classes is not None and pooler.classes.out_features == 1


def joined(tokenizer: Tokenizer, model: Transformer, first: str, second: str, truncate: bool = False) -> Pair:
    """Two texts as BERT reads pairs; `truncate` cuts the second at its end.

    Raises ContextLengthError, UnsupportedError for a vocabulary whose pairs are not known, TokenizerError.
    """
    before, after = list(tokenizer.before), list(tokenizer.after)
    roles = tokenizer.specials
    if before != [roles.get("cls")] or after != [roles.get("sep")] or model.embedding.segments is None:
        raise UnsupportedError("how this model reads a pair of texts is not known", expected="[CLS] a [SEP] b [SEP]")
    head = [*before, *tokenizer.encode(first, add_special=False), *after]
    tail = [*tokenizer.encode(second, add_special=False), *after]
    limit = model.architecture.context
    long = limit is not None and len(head) + len(tail) > limit
    if limit is not None and long:
        room = limit - len(head) - len(after)
        if not truncate or room < 1:
            raise ContextLengthError(
                f"a pair of {len(head) + len(tail)} tokens does not fit",
                expected=f"at most {limit}",
                fix="shorten the query" if room < 1 else "split the document, or ask for truncation",
            )
        tail = [*tail[:room], *after]
    return Pair([*head, *tail], [0] * len(head) + [1] * len(tail), long)


def score(reader: Reader, pair: Pair) -> float:
    """How well they go together, 0 to 1."""
    model, device = reader.model, reader.model.embedding.tokens.weight.device
    ids, segments = torch.tensor([pair[0]], device=device), torch.tensor([pair[1]], device=device)
    with torch.no_grad(), memory_for("to read this pair of texts"):
        return model.classify(ids, Step.begin(model.architecture, ids, segments=segments)).float().sigmoid().item()
