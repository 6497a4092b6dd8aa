"""Ecosystem Graphs (arXiv 2303.15772): a YAML file per organisation, each a list of assets.

A field may be a scalar or {value, explanation}; sizes and licences are free text; dependencies are names of other
assets, perhaps of other files. Read as strictly as a recipe: no aliases, no tags, no key twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paddock.catalog.importing import wording
from paddock.catalog.importing.drafts import Draft, Kind, Listed
from paddock.errors import DataError
from paddock.training.recipe_files import strict_yaml

KINDS: dict[Any, Kind] = {"model": "model", "dataset": "dataset", "application": "application"}
ACCESS = {"open": "open", "limited": "gated", "closed": "closed"}
MAX_ASSETS = 2_000
MAX_DEPENDENCIES = 500
HOME = "https://github.com/stanford-crfm/ecosystem-graphs"


def read(text: str, path: Path, key: str) -> Listed:
    """The assets of one file. key: its source's. Raises DataError for what is no list of assets."""
    assets = strict_yaml(text, str(path), "a list of assets in YAML")
    if not isinstance(assets, list):
        raise DataError(f"{path} holds {type(assets).__name__}", expected="a list of assets, as in Ecosystem Graphs")
    if len(assets) > MAX_ASSETS:
        raise DataError(f"{path} has {len(assets):,} assets", expected=f"at most {MAX_ASSETS:,}")
    listed = Listed([], {"title": f"Ecosystem Graphs, {path.name}", "url": HOME}, [])
    for number, asset in enumerate(assets, 1):
        place = f"{path}: asset {number}"
        if not isinstance(asset, dict):
            raise DataError(f"{place} is {type(asset).__name__}", expected="a mapping with type, name and organization")
        name = wording.told(asset.get("name"), 200)
        if name is None or len(wording.plain(asset.get("name"), 10_000)) > 200:
            listed.remarks.append(f"{place} has {'no name' if name is None else 'an endless name'}; left out")
            continue
        kind = asset.get("type")
        if not isinstance(kind, str) or kind not in KINDS:
            listed.remarks.append(f"{place} ({name}) is of type {str(kind)[:40]!r}; left out")
            continue
        listed.drafts.append(_draft(asset, KINDS[kind], name, place, key, listed.remarks))
    return listed


def _draft(asset: dict[Any, Any], kind: Kind, name: str, place: str, key: str, remarks: list[str]) -> Draft:
    organisation = wording.told(asset.get("organization")) or "not stated"
    draft = Draft(kind, name, organisation, place, key)
    about = wording.told(asset.get("description"))
    draft.values["about"] = about or f"A {kind} that Ecosystem Graphs lists."
    date = wording.when(asset.get("created_date"))
    if date:
        draft.values["released"] = date
    elif wording.told(asset.get("created_date")):
        remarks.append(f"{place} ({name}): created_date {wording.plain(asset['created_date'], 60)!r} is no date")
    url = wording.plain(asset.get("url"), 300)
    if url.startswith(("https://", "http://")) and not any(c in url for c in ' <>"'):
        draft.values["url"] = url
    access = wording.plain(asset.get("access"), 40).lower()
    if access in ACCESS:
        draft.values["access"] = ACCESS[access]
    else:
        remarks.append(f"{place} ({name}): access is {access!r}; taken as closed")
        draft.values["access"] = "closed"
    draft.values |= wording.licences(asset.get("license"))
    _size(asset, draft, remarks)
    _more(asset, draft)
    draft.depends = _dependencies(asset.get("dependencies"), f"{place} ({name})")
    return draft


def _size(asset: dict[Any, Any], draft: Draft, remarks: list[str]) -> None:
    text = wording.told(asset.get("size"), 200)
    if text is None:
        return
    if draft.kind == "dataset":
        draft.values["size"] = text
        for field, number in (("tokens", wording.tokens(text)), ("records", wording.records(text))):
            if number:
                draft.values[field] = number
        return
    if draft.kind != "model":
        return
    whole, active = wording.parameters(text)
    if whole is None:
        remarks.append(f"{draft.place} ({draft.name}): the size {text!r} is no number of parameters")
        draft.values["notes"] = [f"Size, as listed: {text}"]
        return
    stated = text.split()[0].rstrip(";,")
    size = {"name": stated.lower().replace(",", ""), "stated": stated, "parameters": whole}
    draft.values["sizes"] = [size | ({"active": active} if active else {})]


def _more(asset: dict[Any, Any], draft: Draft) -> None:
    """What only models or only datasets have."""
    modality = wording.plain(asset.get("modality"), 200).lower()
    seen = any(word in modality for word in ("image", "video", "audio", "speech"))
    if draft.kind == "dataset":
        draft.values["kind"] = "images and text" if "image" in modality else "text" if modality == "text" else "other"
    elif draft.kind == "model":
        draft.values["branch"] = "multimodal" if seen else "other"
        hardware = wording.told(asset.get("training_hardware"))
        if hardware:
            draft.values["hardware"] = hardware


def _dependencies(value: Any, place: str) -> dict[str, Kind | None]:
    if isinstance(value, dict):
        value = value.get("value")
    if value is None or isinstance(value, str):
        value = [value] if value else []
    if not isinstance(value, list):
        raise DataError(f"{place}: dependencies is {type(value).__name__}", expected="a list of names")
    if len(value) > MAX_DEPENDENCIES:
        raise DataError(f"{place} has {len(value):,} dependencies", expected=f"at most {MAX_DEPENDENCIES}")
    names = [wording.told(name, 200) for name in value]
    return {name: None for name in names if name}
