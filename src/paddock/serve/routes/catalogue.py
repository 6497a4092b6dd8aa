"""Which open models there are: the catalogue, for the page of that name and whoever else asks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from paddock.catalog import evolution, languages, layout
from paddock.catalog.catalogue import Catalogue, Found, catalogue
from paddock.catalog.comparing import MOST, compare, facts, neighbours, used_sources, weights
from paddock.catalog.drawing import svg
from paddock.catalog.lineage import commercial, lineage
from paddock.catalog.schema import Asset, Model, Size
from paddock.errors import NotFoundError, UsageError
from paddock.serve.refusals import BadRequest

router = APIRouter()
USE = {"yes": True, "no": False, "unknown": None}
STEPS = 2  # down to what was made of an entry: LLaMA's whole progeny is no picture to look at


@router.get("/v1/catalogue")
async def listed() -> dict[str, Any]:
    """Every entry, in brief."""
    known = await asyncio.to_thread(catalogue)
    spoken = sorted({code for asset in known.assets.values() for code in asset.languages})
    return {
        "object": "list",
        "data": [row(asset, known) for asset in known.assets.values()],
        "languages": {code: languages.called(code) for code in spoken},
    }


@router.get("/v1/catalogue/compare")
async def compared(name: Annotated[list[str], Query()] = []) -> dict[str, Any]:  # noqa: B006  (FastAPI copies it)
    """Entries side by side, a line for each property."""
    if not 2 <= len(name) <= MOST:
        raise BadRequest(f"{len(name)} names to compare", expected=f"2 to {MOST}, each as name=...", param="name")
    return await asyncio.to_thread(lambda: _compared(catalogue(), name))


@router.get("/v1/catalogue/evolution.svg", response_class=Response)
async def tree() -> Response:
    """All models by year and branch, as a picture."""
    return _picture(await asyncio.to_thread(lambda: svg(evolution.picture(catalogue().models))))


@router.get("/v1/catalogue/lineage.svg", response_class=Response)
async def descent(name: str) -> Response:
    """What an entry was made of, and what was made of it in two steps, as a picture."""
    return _picture(await asyncio.to_thread(lambda: _descent(catalogue(), name)))


@router.get("/v1/catalogue/{name:path}")
async def entry(name: str) -> dict[str, Any]:
    """All that is known of one entry, or of one size of it, each fact with its source."""
    return await asyncio.to_thread(lambda: _entry(catalogue(), name))


def _descent(known: Catalogue, name: str) -> str:
    focus = _find(known, name).asset
    whole = lineage(known.assets)
    graph = whole.only({focus.id, *whole.ancestors(focus.id), *whole.descendants(focus.id, STEPS)})
    return svg(layout.picture(graph, focus.name, focus.id))


def _picture(drawn: str) -> Response:
    return Response(drawn, media_type="image/svg+xml", headers={"Cache-Control": "no-cache"})


def row(asset: Asset, known: Catalogue) -> dict[str, Any]:
    """What a list shows of an entry. commercial: as of `paddock catalog ls --commercial`; null: nothing says."""
    told: dict[str, Any] = {
        "id": asset.id,
        "object": type(asset).__name__.lower(),
        "name": asset.name,
        "aliases": asset.aliases,
        "organisation": asset.organisation,
        "released": asset.released,
        "about": asset.about,
        "access": asset.access,
        "languages": asset.languages,
        "licence": asset.licence.name if asset.licence else None,
        "commercial": USE[commercial(asset, known.assets)],
    }
    if isinstance(asset, Model):
        sizes = [_size(asset, size) for size in asset.sizes]
        told |= {"family": asset.family, "tasks": asset.tasks, "context": asset.context, "sizes": sizes}
    return told


def _size(model: Model, size: Size) -> dict[str, Any]:
    return {
        "id": Found(model, size).name,
        "name": size.name,
        "stated": size.stated,
        "parameters": size.parameters,
        "active": size.active,
        "runnable": size.config is not None,
        "bytes": weights(size),
    }


def _compared(known: Catalogue, names: Iterable[str]) -> dict[str, Any]:
    found = [_find(known, name) for name in names]
    lines = [{"label": line.label, "texts": line.texts, "differs": line.differs} for line in compare(found)]
    return {"names": [each.name for each in found], "lines": lines}


def _entry(known: Catalogue, name: str) -> dict[str, Any]:
    found = _find(known, name)
    keys = used_sources(found)
    up, down = neighbours(known, found)
    return {
        **row(found.asset, known),
        "size": found.size.name if found.size is not None else None,
        "facts": [
            {
                "field": fact.field,
                "label": fact.label,
                "text": fact.text,
                "source": keys.index(fact.source) if fact.source is not None else None,
            }
            for fact in facts(found)
        ],
        "sources": [known.sources[key].model_dump(exclude_none=True) for key in keys],
        "notes": [*found.asset.notes, *(found.size.notes if found.size is not None else ())],
        "up": _named(known, up),
        "down": _named(known, down),
    }


def _named(known: Catalogue, kinds: Any) -> dict[str, list[dict[str, str]]]:
    """Neighbours by the kind of edge, with their names."""
    return {kind: [{"id": other, "name": known.assets[other].name} for other in ids] for kind, ids in kinds.items()}


def _find(known: Catalogue, name: str) -> Found:
    if not name.strip():
        raise BadRequest("an entry of the catalogue has no name", param="name")
    try:
        return known.find(name)
    except UsageError as error:
        raise NotFoundError(error.what, fix="GET /v1/catalogue lists what there is") from None
