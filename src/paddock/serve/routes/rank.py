"""/v1/rerank and /v1/classify: which documents answer a query best, and which class a text belongs to."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from paddock.engine import encoders, pairs
from paddock.engine.encoders import Label
from paddock.serve.bodies import tell_ignored
from paddock.serve.reading import each, pooling_told, prepared, vectors
from paddock.serve.registry import Served
from paddock.serve.schemas.rank import ClassifyBody, RerankBody
from paddock.serve.server import Here
from paddock.serve.streaming import unless_gone
from paddock.serve.worker import Worker

router = APIRouter()


class Scored(NamedTuple):
    """Each document's relevance, the tokens that were read, and how it was found."""

    scores: list[float]
    tokens: int
    told: dict[str, Any]


@router.post("/v1/rerank")
@router.post("/rerank", include_in_schema=False)
async def rerank(body: RerankBody, request: Request, server: Here) -> Response:
    """Documents by how well they answer the query, the best first; `paddock` says what judged them."""
    ignored = body.ignored(server.settings.strict)
    served = server.registry.find(body.model)
    judge = _by_pairs if pairs.scores_pairs(served.model.model) else _by_vectors
    found = await unless_gone(request, judge(server.worker, served, body))
    order = sorted(range(len(found.scores)), key=lambda place: -found.scores[place])[: body.top_n]
    texts = body.texts
    results: list[dict[str, Any]] = [{"index": place, "relevance_score": found.scores[place]} for place in order]
    if body.return_documents:
        results = [{**result, "document": {"text": texts[result["index"]]}} for result in results]
    response = JSONResponse({
        "id": f"rerank-{uuid.uuid4().hex}",
        "object": "rerank",
        "model": served.name,
        "results": results,
        "usage": {"prompt_tokens": found.tokens, "total_tokens": found.tokens},
        "paddock": found.told,
    })  # fmt: skip
    tell_ignored(response, ignored)
    return response


@router.post("/v1/classify")
@router.post("/classify", include_in_schema=False)
async def classify(body: ClassifyBody, request: Request, server: Here) -> Response:
    """The classes of each text, or of each pair of texts, with their probabilities, likeliest first."""
    ignored = body.ignored(server.settings.strict)
    served = server.registry.find(body.model)
    tokens = await asyncio.to_thread(_counted, served, body.texts)
    found = await unless_gone(request, each(server.worker, lambda texts: served.model.classify(*texts), body.texts))
    several = encoders.several_apply(served.model.checkpoint.config)
    response = JSONResponse({
        "id": f"classify-{uuid.uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": served.name,
        "data": [_classified(place, labels, several) for place, labels in enumerate(found)],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })  # fmt: skip
    tell_ignored(response, ignored)
    return response


async def _by_pairs(worker: Worker, served: Served, body: RerankBody) -> Scored:
    """A cross-encoder reads the query with each document. Raises what `pairs.joined` does."""
    model = served.model
    join = partial(pairs.joined, model.tokenizer, model.model, body.query, truncate=body.truncate)
    joined = await asyncio.to_thread(lambda: [join(text) for text in body.texts])
    scores = await each(worker, partial(pairs.score, model.reader), joined)
    cut = [place for place, pair in enumerate(joined) if pair.cut]
    told = {"method": "cross-encoder", "score": "sigmoid", "truncated": cut}
    return Scored(scores, sum(len(pair.ids) for pair in joined), told)


async def _by_vectors(worker: Worker, served: Served, body: RerankBody) -> Scored:
    """The cosine between the query's vector and each document's. Raises what `LanguageModel.embed` does."""
    query = await asyncio.to_thread(prepared, served, [body.query])
    texts = await asyncio.to_thread(prepared, served, body.texts, body.truncate)
    asked = (await vectors(worker, served, query))[0]
    scores = (await vectors(worker, served, texts) @ asked).tolist()
    told = {"method": "embedding", "score": "cosine", **pooling_told(served), "truncated": texts.cut}
    return Scored(scores, query.tokens + texts.tokens, told)


def _classified(place: int, labels: Sequence[Label], several: bool) -> dict[str, Any]:
    """several: whether more than one class may apply, or none; then it says which do."""
    apply = [label.name for label in labels if label.score >= encoders.APPLIES]
    return {
        "index": place,
        "label": labels[0].name,
        **({"apply": apply} if several else {}),
        "labels": [{"label": label.name, "score": label.score} for label in labels],
        "num_classes": len(labels),
    }


def _counted(served: Served, texts: Sequence[Sequence[str]]) -> int:
    """The tokens of all texts, none of which is too long: the worker is not kept busy with cutting up what is refused.

    Raises ContextLengthError, UnsupportedError for a model without classes."""
    model = served.model
    encoders.check_classes(model.model)
    counts = [encoders.tokens_of(model.tokenizer, model.architecture, each) for each in texts]
    encoders.check_length(max(counts), model.architecture.context, "a text")
    return sum(counts)
