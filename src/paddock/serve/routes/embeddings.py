"""/v1/embeddings: one vector for each text."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response
from torch import Tensor

from paddock.serve.bodies import tell_ignored
from paddock.serve.reading import Texts, pooling_told, prepared, vectors
from paddock.serve.refusals import BadRequest
from paddock.serve.registry import Served
from paddock.serve.schemas.embeddings import EmbeddingsBody
from paddock.serve.server import Here
from paddock.serve.streaming import unless_gone

router = APIRouter()


@router.post("/v1/embeddings")
async def embeddings(body: EmbeddingsBody, request: Request, server: Here) -> Response:
    """Vectors of length 1; `paddock` in the answer says how they were pooled and which texts were cut, as asked."""
    ignored = body.ignored(server.settings.strict)
    served = server.registry.find(body.model)
    width = served.model.architecture.width
    if body.dimensions not in (None, width):
        raise BadRequest(
            f"dimensions is {body.dimensions}, and the vectors of {served.name} cannot be shortened",
            expected=str(width),
            param="dimensions",
            code="unsupported_parameter",
        )
    most = body.truncate_prompt_tokens
    cut = body.truncate or most is not None
    texts = await asyncio.to_thread(prepared, served, body.texts, cut, None if most == -1 else most)
    found = await unless_gone(request, vectors(server.worker, served, texts))
    response = await asyncio.to_thread(_answer, served, body.encoding_format, texts, found)
    tell_ignored(response, ignored)
    return response


def _answer(served: Served, encoding: str, texts: Texts, found: Tensor) -> JSONResponse:
    rows: list[Any] = _base64(found) if encoding == "base64" else found.tolist()
    return JSONResponse({
        "object": "list",
        "data": [{"object": "embedding", "index": place, "embedding": row} for place, row in enumerate(rows)],
        "model": served.name,
        "usage": {"prompt_tokens": texts.tokens, "total_tokens": texts.tokens},
        "paddock": {**pooling_told(served), "truncated": texts.cut},
    })  # fmt: skip


def _base64(found: Tensor) -> list[str]:
    """Each row as little-endian float32."""
    return [base64.b64encode(row.tobytes()).decode("ascii") for row in found.numpy().astype(np.dtype("<f4"))]
