"""Ollama's /api/tags, /api/show, /api/ps and /api/version, which tell of models; /api/embed, which reads with one."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from paddock import __version__
from paddock.serve.bodies import tell_ignored
from paddock.serve.reading import Texts, prepared, vectors
from paddock.serve.refusals import BadRequest
from paddock.serve.registry import Served
from paddock.serve.routes.models import facts, settings
from paddock.serve.routes.ollama import NANOSECONDS, check_context, find
from paddock.serve.schemas.ollama import EmbedBody, EmbeddingsBody, Options, ShowBody
from paddock.serve.server import Here, Server
from paddock.serve.streaming import unless_gone

router = APIRouter()
MOST_FILES = 10_000
NEVER = "2318-01-01T00:00:00Z"  # when a model that stays in memory leaves it, as Ollama spells that
FORMATS = {"folder": "safetensors"}
TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


@router.get("/api/version")
async def version() -> dict[str, str]:
    """Paddock's own, which is not one of Ollama's."""
    return {"version": __version__}


@router.get("/api/tags")
async def tags(server: Here) -> dict[str, Any]:
    """The models that requests may name."""
    return {"models": await asyncio.to_thread(lambda: [_listed(served) for served in server.registry])}


@router.get("/api/ps")
async def loaded(server: Here) -> dict[str, Any]:
    """The same models: all that are served are in memory."""
    return {"models": await asyncio.to_thread(lambda: [_running(served) for served in server.registry])}


@router.post("/api/show")
async def show(body: ShowBody, server: Here) -> Response:
    """What one of them is."""
    ignored = body.ignored(server.settings.strict)
    name = body.model or body.name
    if name is None:
        raise BadRequest("no model is named", param="model")
    response = JSONResponse(await asyncio.to_thread(_shown, find(server.registry, name)))
    tell_ignored(response, ignored)
    return response


@router.post("/api/embed")
async def embed(body: EmbedBody, request: Request, server: Here) -> Response:
    """Vectors of length 1. A text that is too long is refused, unless `truncate` asks for it to be cut."""
    started = time.monotonic()
    ignored = body.ignored(server.settings.strict)
    texts = [body.input] if isinstance(body.input, str) else body.input
    served = find(server.registry, body.model)
    _check_width(served, body.dimensions)
    read, rows = await _vectors(request, server, served, texts, body.options, bool(body.truncate))
    answer = {
        "model": body.model,
        "embeddings": rows,
        "total_duration": int((time.monotonic() - started) * NANOSECONDS),
        "load_duration": 0,
        "prompt_eval_count": read.tokens,
        "truncated": read.cut,
    }
    response = JSONResponse(answer)
    tell_ignored(response, ignored)
    return response


@router.post("/api/embeddings")
async def embeddings(body: EmbeddingsBody, request: Request, server: Here) -> Response:
    """The vector of one text, in the form before /api/embed."""
    ignored = body.ignored(server.settings.strict)
    served = find(server.registry, body.model)
    _, rows = await _vectors(request, server, served, [body.prompt], body.options, False)
    response = JSONResponse({"embedding": rows[0]})
    tell_ignored(response, ignored)
    return response


async def _vectors(
    request: Request, server: Server, served: Served, texts: list[str], options: Options | None, truncate: bool
) -> tuple[Texts, list[list[float]]]:
    check_context(served, options or Options())
    read = await asyncio.to_thread(prepared, served, texts, truncate)
    found = await unless_gone(request, vectors(server.worker, served, read))
    return read, found.tolist()


def _check_width(served: Served, dimensions: int | None) -> None:
    width = served.model.architecture.width
    if dimensions not in (None, width):
        raise BadRequest(
            f"dimensions is {dimensions}, and the vectors of {served.name} cannot be shortened",
            expected=str(width),
            param="dimensions",
            code="unsupported_parameter",
        )


# --- what models are -----------------------------------------------------------------------------------------------


def _listed(served: Served) -> dict[str, Any]:
    size, digest, modified = _files(served.root)
    return {
        "name": served.name,
        "model": served.name,
        "modified_at": modified,
        "size": size,
        "digest": digest,
        "details": _details(served),
    }


def _running(served: Served) -> dict[str, Any]:
    listed = _listed(served)
    del listed["modified_at"]
    size = facts(served)["bytes"]
    on_device = size if served.model.device.type != "cpu" else 0
    rest = {"expires_at": NEVER, "size": size, "size_vram": on_device, "context_length": served.context}
    return {**listed, **rest}


def _details(served: Served) -> dict[str, Any]:
    known, checkpoint = facts(served), served.model.checkpoint
    return {
        "parent_model": served.parent or "",
        "format": FORMATS.get(checkpoint.kind, checkpoint.kind),
        "family": known["family"],
        "families": [known["family"]],
        "parameter_size": _in_words(known["parameters"]),
        "quantization_level": (known["quantised"] or TYPES.get(checkpoint.dtype, "unknown")).upper(),
    }


def _shown(served: Served) -> dict[str, Any]:
    """In `model_info` every key but the general ones begins with the family's name, as in Ollama."""
    known, model = facts(served), served.model
    family, template = known["family"], model.template
    _, _, modified = _files(served.root)
    return {
        "modified_at": modified,
        "details": _details(served),
        "template": "" if template is None else template.source,
        "parameters": "\n".join(_published(served)),
        "license": "",
        "modelfile": "",
        "capabilities": _capabilities(served),
        "model_info": {
            "general.architecture": family,
            "general.parameter_count": known["parameters"],
            f"{family}.context_length": served.context,
            f"{family}.embedding_length": model.architecture.width,
            f"{family}.block_count": model.architecture.blocks,
            f"{family}.vocabulary_length": model.architecture.vocabulary,
        },
    }


def _published(served: Served) -> list[str]:
    """The settings that the model's own files make, a line each."""
    known = settings(served)
    return [f"{name} {told['value']}" for name, told in known.items() if told["from"] == "model"]


def _capabilities(served: Served) -> list[str]:
    model = served.model
    found = ["completion"] if model.architecture.generates else []
    if model.template is not None and model.template.takes_tools:
        found.append("tools")
    if model.architecture.encoder is None:
        found.append("embedding")
    return found


def _files(root: Path) -> tuple[int, str, str]:
    """The bytes of a model's files, a digest that changes when one of them does, and when the last one did."""
    paths = [root] if root.is_file() else sorted(root.glob("*"))[:MOST_FILES]
    found = []
    for path in paths:
        with contextlib.suppress(OSError):  # a model goes on without its files
            if path.is_file():
                found.append((path.name, path.stat()))
    digest = hashlib.sha256()
    for name, state in found:
        digest.update(f"{len(name)} {name} {state.st_size} {state.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    last = max((state.st_mtime for _, state in found), default=0.0)
    modified = datetime.fromtimestamp(last, UTC).isoformat().replace("+00:00", "Z")
    return sum(state.st_size for _, state in found), digest.hexdigest(), modified


def _in_words(count: int) -> str:
    """7,241,732,096 is "7.2B"."""
    for unit, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= unit:
            return f"{count / unit:.1f}".removesuffix(".0") + letter
    return str(count)
