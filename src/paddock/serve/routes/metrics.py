"""/metrics, for Prometheus."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from paddock.errors import NotFoundError
from paddock.serve.server import Here

router = APIRouter()


@router.get("/metrics")
async def metrics(server: Here) -> Response:
    """What is counted, in Prometheus' text form."""
    if not server.settings.metrics:
        raise NotFoundError("this server was started with --no-metrics")
    page = await asyncio.to_thread(server.metrics.page)
    return Response(page, media_type=CONTENT_TYPE_LATEST)
