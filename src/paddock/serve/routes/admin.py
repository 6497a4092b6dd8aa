"""Models that come and go while the server runs. All of it needs an administrator's key (--admin-key)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import PlainTextResponse, Response

from paddock.serve.access import Administrator
from paddock.serve.bodies import Body, tell_ignored
from paddock.serve.refusals import BadRequest
from paddock.serve.registry import Served
from paddock.serve.routes.models import described
from paddock.serve.server import Here, Server
from paddock.serve.settings import LONGEST_NAME, Named

router = APIRouter()
Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
Place = Annotated[str, Field(min_length=1, max_length=4096)]


class LoadBody(Body):
    """`path`: a model's folder or file, or a name that `paddock ls` shows; with `base`, the folder of a LoRA adapter
    for the model of that name."""

    name: Name
    path: Place
    base: Name | None = None


class UnloadBody(Body):
    name: Name


class LoadLoraBody(Body):
    """vLLM's."""

    lora_name: Name
    lora_path: Place
    base_model_name: Name | None = None


class UnloadLoraBody(Body):
    lora_name: Name


@router.post("/v1/admin/load")
async def load(body: LoadBody, server: Here, admin: Administrator, response: Response) -> dict[str, Any]:
    """One more model or adapter. Answers when it can be asked; requests that run go on."""
    tell_ignored(response, body.ignored(server.settings.strict))
    return described(await brought(server, Named(body.name, body.path, body.base)))


@router.post("/v1/admin/unload")
async def unload(body: UnloadBody, server: Here, admin: Administrator, response: Response) -> dict[str, Any]:
    """One less. New requests are refused at once; answers when those that run have ended and its memory is free."""
    tell_ignored(response, body.ignored(server.settings.strict))
    await server.unload(body.name)
    return {"id": body.name, "object": "model", "deleted": True}


@router.post("/v1/load_lora_adapter")
async def load_lora(body: LoadLoraBody, server: Here, admin: Administrator) -> Response:
    """vLLM's way to load an adapter, on the first model unless `base_model_name` names another."""
    ignored = body.ignored(server.settings.strict)
    base = body.base_model_name or server.registry.find(None).name
    await brought(server, Named(body.lora_name, body.lora_path, base))
    response = PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' added successfully.")
    tell_ignored(response, ignored)
    return response


@router.post("/v1/unload_lora_adapter")
async def unload_lora(body: UnloadLoraBody, server: Here, admin: Administrator) -> Response:
    """vLLM's way to unload one."""
    ignored = body.ignored(server.settings.strict)
    if server.registry.find(body.lora_name).parent is None:
        raise BadRequest(f"{body.lora_name!r} is no adapter", param="lora_name", fix="use /v1/admin/unload")
    await server.unload(body.lora_name)
    response = PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")
    tell_ignored(response, ignored)
    return response


async def brought(server: Server, named: Named) -> Served:
    """Loads what is named, one at a time."""
    parent = None if named.base is None else server.registry.find(named.base)
    path = allowed(named.path or "", server.settings.models_dirs)
    async with server.changing:
        if parent is None:
            return await asyncio.to_thread(server.load, Named(named.name, path))
        return await asyncio.to_thread(server.adapt, Named(named.name, path), parent)


def allowed(path: str, roots: Sequence[Path]) -> str:
    """`path`, if it lies in one of `roots`, links followed; any path where there are none. Raises BadRequest."""
    if "\0" in path:
        raise BadRequest("the path holds a NUL", param="path")
    if not roots:
        return path
    for root in roots:
        try:
            found = (root / path).resolve(strict=True)
        except (OSError, RuntimeError):  # missing, or links in a circle
            continue
        if found.is_relative_to(root.resolve()):
            return str(found)
    raise BadRequest("nothing lies there in the folders that models may be loaded from (--models-dir)", param="path")
