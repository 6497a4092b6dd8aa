"""Which models there are: /v1/models."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from paddock.serve.registry import Served
from paddock.serve.server import Here

router = APIRouter()


@router.get("/v1/models")
async def models(server: Here) -> dict[str, Any]:
    """The models that requests may name."""
    return {"object": "list", "data": [described(served) for served in server.registry]}


@router.get("/v1/models/{name}")
async def model(name: str, server: Here) -> dict[str, Any]:
    """One of them."""
    return described(server.registry.find(name))


def described(served: Served) -> dict[str, Any]:
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "paddock",
        "parent": served.parent,
        "max_model_len": served.context,
    }
