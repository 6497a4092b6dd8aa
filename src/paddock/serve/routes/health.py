"""Whether the server lives (/health) and takes work (/ready). Open to everybody, and tell nothing else."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import JSONResponse

from paddock.serve.access import open_to_all
from paddock.serve.lifecycle import WHY
from paddock.serve.server import Here

router = APIRouter()


@router.get("/health")
@open_to_all
async def health() -> JSONResponse:
    """200 while the process works at all."""
    return JSONResponse({"status": "ok"})


@router.get("/ready")
@open_to_all
async def ready(server: Here) -> JSONResponse:
    """200 while new requests are taken; 503 while models load, while the server drains, and after its engine died."""
    state = server.state
    if state == "ready":
        return JSONResponse({"status": "ok"})
    return JSONResponse({"status": state}, status_code=503, headers={"Retry-After": str(WHY[state][1])})
