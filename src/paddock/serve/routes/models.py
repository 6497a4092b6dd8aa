"""Which models there are: /v1/models, and what one of them is."""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

from fastapi import APIRouter

from paddock.engine.locate import bundled
from paddock.errors import NotFoundError
from paddock.kernels.packed import PLAIN, Packed
from paddock.model.linear import weights_of
from paddock.serve.registry import Served
from paddock.serve.server import Here

router = APIRouter()
PLAIN_FORMATS = frozenset(PLAIN.values())
_counted: WeakKeyDictionary[Served, dict[str, Any]] = WeakKeyDictionary()  # weights do not change while they are served


@router.get("/v1/models")
async def models(server: Here) -> dict[str, Any]:
    """The models that requests may name."""
    return {"object": "list", "data": [described(served) | {"paddock": facts(served)} for served in server.registry]}


@router.get("/v1/models/{name:path}")
async def model(name: str, server: Here) -> dict[str, Any]:
    """One of them, with what it is and the settings that a request without any would run under."""
    if not name:
        raise NotFoundError("there is no such page")
    served = server.registry.find(name)
    told = await asyncio.to_thread(lambda: facts(served) | {"settings": settings(served)})
    return described(served) | {"paddock": told}


def described(served: Served) -> dict[str, Any]:
    """OpenAI's model object."""
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "paddock",
        "parent": served.parent,
        "max_model_len": served.context,
    }


def facts(served: Served) -> dict[str, Any]:
    """What a user should know of a model before the first message. `roles`: those its chat template takes, null where
    only the template itself knows."""
    model, architecture, template = served.model, served.model.architecture, served.model.template
    return {
        "family": architecture.family,
        **_weight(served),
        "context": served.context,
        "generates": architecture.generates,
        "encoder": not architecture.generates,
        "encoder_decoder": architecture.encoder is not None,
        "classes": model.model.pooler is not None and model.model.pooler.classes is not None,
        "bundled": model.checkpoint.path == bundled(),
        "chat": template is not None,
        "template": None if template is None else template.name,
        "tools": template is not None and template.takes_tools,
        "roles": None if template is None or template.roles is None else sorted(template.roles),
    }


def settings(served: Served) -> dict[str, Any]:
    """Every setting's value and who said so (model or default), as a request that names none of them runs under.

    max_new_tokens is null where an answer may take what the context leaves. Raises what `LanguageModel.settings` does.
    """
    values = served.model.settings().values()
    found = {name: {"value": value, "from": origin} for name, (value, origin) in values.items()}
    published = served.model.generation.get("max_new_tokens") or None
    return found | {"max_new_tokens": {"value": published, "from": "model" if published else "default"}}


def _weight(served: Served) -> dict[str, Any]:
    """How many numbers, in how many bytes of memory, and the codes of the quantised ones (null where none are)."""
    if served not in _counted:
        weights = weights_of(served.model.model).values()
        formats = {weight.native.format for weight in weights if isinstance(weight, Packed)} - PLAIN_FORMATS
        _counted[served] = {
            "parameters": sum(weight.shape.numel() for weight in weights),
            "bytes": served.model.model.weight_bytes,
            "quantised": ", ".join(sorted(formats)) or None,
        }
    return _counted[served]
