"""Whole texts read on the worker's thread, a little at a time, so that who writes meanwhile is not kept waiting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from paddock.engine import encoders
from paddock.engine.request import token_ids
from paddock.serve.registry import Served
from paddock.serve.worker import Worker

AT_ONCE = 512  # tokens of one piece of work; a longer text is one by itself
Result = TypeVar("Result")


@dataclass(frozen=True)
class Texts:
    """Texts ready to be read. `cut`: which of them were shortened, as asked."""

    ids: list[list[int]]
    cut: list[int]

    @property
    def tokens(self) -> int:
        return sum(map(len, self.ids))


def prepared(
    served: Served, texts: Sequence[str | list[int]], truncate: bool = False, most: int | None = None
) -> Texts:
    """The ids of texts whose vectors are wanted; the operator's limit counts too. Raises what `LanguageModel.embed`
    does."""
    model = served.model
    limits = [limit for limit in (most, model.planner.limit) if limit is not None]
    most = min(limits) if limits else None
    encoders.check_embeds(model.model)
    whole = [
        encoders.text_ids(model.tokenizer, text, model.pooling)
        if isinstance(text, str)
        else list(token_ids(text, model.architecture.vocabulary, "a text"))
        for text in texts
    ]
    ids = [encoders.fitted(row, model.model, model.tokenizer, model.pooling, truncate, most) for row in whole]
    return Texts(ids, [place for place, row in enumerate(whole) if len(row) > len(ids[place])])


async def vectors(worker: Worker, served: Served, texts: Texts) -> Tensor:
    """(texts, width) float32 of length 1, whatever the model's own files say of their length."""
    pooling, reader = served.model.pooling, served.model.reader
    result = torch.zeros(len(texts.ids), served.model.architecture.width)
    for rows in encoders.batches([len(row) for row in texts.ids], AT_ONCE):
        ids = [texts.ids[row] for row in rows]
        result[rows] = await worker.run(partial(encoders.vectors, reader, ids, pooling))
    return result if pooling.normalise else torch.nn.functional.normalize(result, dim=-1)


async def each(worker: Worker, work: Callable[[Any], Result], items: Sequence[Any]) -> list[Result]:
    """`work` of every item, one at a time between the steps of who writes."""
    return [await worker.run(partial(work, item)) for item in items]


def pooling_told(served: Served) -> dict[str, Any]:
    """How a text's vector was made, and where that is written ("default": nowhere)."""
    pooling = served.model.pooling
    return {"pooling": pooling.mode, "pooling_from": pooling.origin, "normalised": True, "prefix": pooling.prefix}
