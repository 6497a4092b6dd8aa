"""Drafts beside the catalogue: which are new, which known, what they were made of, what goes in a circle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from paddock.catalog.catalogue import Catalogue, edges
from paddock.catalog.importing.drafts import Draft, Listed
from paddock.catalog.importing.names import ALIASES, folded, identifier, look_up
from paddock.catalog.lineage import kind_of
from paddock.catalog.schema import Application, Asset, Dataset, Model, Size
from paddock.errors import DataError

MAX_MEANINGS = 100
TYPES: dict[str, TypeAdapter[Any]] = {
    "model": TypeAdapter(Model),
    "dataset": TypeAdapter(Dataset),
    "application": TypeAdapter(Application),
}
# The field of the schema for what a kind of asset was made of. A program that went into a model has none.
FIELDS = {
    ("model", "model"): "base",
    ("model", "dataset"): "data",
    ("dataset", "model"): "made_with",
    ("dataset", "dataset"): "made_from",
    ("application", "model"): "uses",
    ("application", "dataset"): "uses",
    ("application", "application"): "uses",
}


@dataclass
class Report:
    """What became of lists.

    counts: assets by kind, as listed. known: name -> id in the catalogue. twice: what is listed more than once.
    unknown: a name that nothing has -> who depends on it. several: names with more than one meaning, and the one taken.
    programs: models or datasets made of a program. circles: each as the names along it; the last step was left out, if
    that was asked. differences: where the catalogue says otherwise.
    """

    files: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    new: int = 0
    edges: int = 0
    known: dict[str, str] = field(default_factory=dict)
    twice: list[str] = field(default_factory=list)
    unknown: dict[str, list[str]] = field(default_factory=dict)
    several: list[str] = field(default_factory=list)
    programs: list[str] = field(default_factory=list)
    circles: list[list[str]] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


@dataclass
class Merging:
    """The state of one import."""

    catalogue: Catalogue
    report: Report = field(default_factory=Report)
    entries: dict[str, Draft] = field(default_factory=dict)  # new ones by id
    links: dict[str, dict[str, str]] = field(default_factory=dict)  # id -> what it was made of -> field
    kinds: dict[str, str] = field(default_factory=dict)  # of every id, old and new
    meanings: dict[str, list[str]] = field(default_factory=dict)  # folded spelling -> ids
    unknown: dict[str, str] = field(default_factory=dict)  # folded spelling -> as it was spelt first
    founders: dict[str, str] = field(default_factory=dict)  # id -> the first base of its first base ..., once known


def merge(
    lists: Iterable[Listed], catalogue: Catalogue, read: str, break_circles: bool
) -> tuple[dict[str, Any], Report]:
    """The lists as one document of the catalogue's schema, without what the catalogue has, and what became of them.

    read: the date for the sources. Raises DataError for assets that descend from themselves, unless the edges that
    close circles shall be left out.
    """
    lists = list(lists)
    state = Merging(catalogue)
    state.report.files = len(lists)
    for identity, asset in catalogue.assets.items():
        state.kinds[identity] = kind_of(asset)
    for spelt, found in catalogue.names.items():
        _mean(state, spelt, found.asset.id)
    drafts = [draft for listed in lists for draft in listed.drafts]
    state.report.remarks = [remark for listed in lists for remark in listed.remarks]
    known = _place(state, drafts)
    for identity, draft in [*state.entries.items(), *known]:
        state.links.setdefault(identity, {}).update(_links(state, identity, draft))
    for identity, draft in known:
        state.report.differences += _differences(catalogue.assets[identity], draft, state.links.pop(identity, {}))
    _circles(state, break_circles)
    state.report.edges = sum(map(len, state.links.values()))
    return _document(state, lists, read), state.report


def _mean(state: Merging, name: str, identity: str) -> None:
    """Adds a meaning. Raises DataError for a name that is given to too many: each use of it goes through them all."""
    ids = state.meanings.setdefault(folded(name), [])
    if identity not in ids:
        if len(ids) >= MAX_MEANINGS:
            raise DataError(f"more than {MAX_MEANINGS} assets are called {name!r}", expected="names that tell apart")
        ids.append(identity)


def _place(state: Merging, drafts: Iterable[Draft]) -> list[tuple[str, Draft]]:
    """Gives every new draft an id and a name of its own; returns those that the catalogue has, with its ids."""
    known: list[tuple[str, Draft]] = []
    shipped = {name: list(ids) for name, ids in state.meanings.items()}
    for draft in drafts:
        state.report.counts[draft.kind] = state.report.counts.get(draft.kind, 0) + 1
        spelt = folded(draft.name)
        ways = [spelt, *(folded(draft.name + size["name"]) for size in draft.values.get("sizes", ()))]
        ways += [folded(ALIASES[spelt])] if draft.kind == "model" and spelt in ALIASES else []
        same = [other for way in ways for other in shipped.get(way, ()) if state.kinds[other] == draft.kind]
        if same:
            state.report.known[draft.name] = same[0]
            known.append((same[0], draft))
            continue
        others = [other for other in state.meanings.get(spelt, ()) if other in state.entries]
        again = next((o for o in others if _alike(state.entries[o], draft)), None)
        if again is not None:
            state.report.twice.append(f"{draft.place} ({draft.name}) is {state.entries[again].place} again; left out")
            continue
        if spelt in state.meanings:
            state.report.several.append(f"{draft.place}: {draft.name} is another than {state.meanings[spelt][0]}")
            told = draft.organisation if draft.kind == state.kinds[state.meanings[spelt][0]] else draft.kind
            _mean(state, draft.name, identity := _free(state, f"{draft.name} {told}"))
            draft.name = f"{draft.name} ({told})"
        else:
            identity = _free(state, draft.name)
        _mean(state, draft.name, identity)
        state.entries[identity], state.kinds[identity] = draft, draft.kind
    return known


def _alike(one: Draft, other: Draft) -> bool:
    return one.kind == other.kind and folded(one.organisation) == folded(other.organisation)


def _free(state: Merging, name: str) -> str:
    """An id that nothing has, nor any name of the catalogue."""
    first = identity = identifier(name)
    number = 1
    while identity in state.kinds or identity in state.catalogue.names:
        number += 1
        identity = f"{first}-{number}"
    return identity


def _links(state: Merging, identity: str, draft: Draft) -> dict[str, str]:
    """What a draft was made of: id -> field of the schema."""
    found: dict[str, str] = {}
    for name, only in draft.depends.items():
        ids = look_up(name, state.meanings, state.kinds, only)
        if not ids:
            spelt = state.unknown.setdefault(folded(name), name)
            state.report.unknown.setdefault(spelt, []).append(draft.name)
            continue
        chosen = _chosen(state, ids, draft)
        if len(ids) > 1:
            state.report.several.append(f"{draft.name} is made of {name}: {', '.join(ids)}; taken as {chosen}")
        kind = FIELDS.get((draft.kind, state.kinds[chosen]))
        if kind is None:
            state.report.programs.append(f"{draft.name} is made of the application {name}")
        else:
            found[chosen] = kind
    return found


def _chosen(state: Merging, ids: list[str], draft: Draft) -> str:
    """Of several meanings one that the schema has a field for, of the same organisation where there is one."""
    fit = [one for one in ids if (draft.kind, state.kinds[one]) in FIELDS]
    own = [one for one in fit if one in state.entries and _alike_maker(state.entries[one], draft)]
    return (own or fit or ids)[0]


def _alike_maker(one: Draft, other: Draft) -> bool:
    return one is not other and folded(one.organisation) == folded(other.organisation)


def _circles(state: Merging, leave_out: bool) -> None:
    """Finds every edge that closes a circle among what is new; what is known cannot descend from what is new."""
    done: set[str] = set()
    closing: list[tuple[str, str]] = []
    for start in state.links:
        trail: dict[str, None] = {}
        waiting = [(start, False)]
        while waiting:
            here, leaving = waiting.pop()
            if leaving:
                trail.pop(here, None)
                done.add(here)
                continue
            if here in done or here in trail:
                continue
            trail[here] = None
            waiting.append((here, True))
            for other in state.links.get(here, ()):
                if other in trail:
                    path = list(trail)
                    names = [*path[path.index(other) :], other]
                    state.report.circles.append([_called(state, one) for one in names])
                    closing.append((here, other))
                elif other not in done:
                    waiting.append((other, False))
    if closing and not leave_out:
        circle = " <- ".join(reversed(state.report.circles[0]))
        more = f", and {len(closing) - 1} more" if len(closing) > 1 else ""
        raise DataError(
            f"the list goes in a circle: {circle}{more}",
            expected="what was made of something to be younger than that",
            fix="mend the list, or leave out what closes circles: --break-circles",
        )
    for here, other in closing:
        state.links[here].pop(other, None)


def _called(state: Merging, identity: str) -> str:
    draft = state.entries.get(identity)
    return draft.name if draft else identity


def _document(state: Merging, lists: Iterable[Listed], read: str) -> dict[str, Any]:
    """What is written: entries by kind, the sources they name."""
    tables: dict[str, Any] = {"source": {}, "model": [], "dataset": [], "application": []}
    for identity, draft in state.entries.items():
        entry = _entry(state, identity, draft)
        try:
            TYPES[draft.kind].validate_python(entry)
        except ValidationError as error:
            first = error.errors()[0]
            raise DataError(
                f"{draft.place} ({draft.name}): {'.'.join(map(str, first['loc']))}: {first['msg']}"
            ) from None
        tables[draft.kind].append(entry)
        state.report.new += 1
    used = {draft.source for draft in state.entries.values()}
    for listed in lists:
        for draft in listed.drafts[:1]:
            if draft.source in used:
                tables["source"][draft.source] = {**listed.source, "read": read}
    return {name: table for name, table in tables.items() if table}


def _entry(state: Merging, identity: str, draft: Draft) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": identity, "name": draft.name, "organisation": draft.organisation}
    values = {key: value for key, value in draft.values.items() if key != "sizes"}
    if draft.kind == "model":
        founder = _founder(state, identity)
        known = state.catalogue.assets.get(founder)
        entry |= {"family": known.family if isinstance(known, Model) else _called(state, founder)}
        entry |= {"tasks": [], "method": []}
        if values["branch"] == "other" and isinstance(known, Model):
            values["branch"] = known.branch  # it is built like what it was trained on from
    entry |= values
    for other, kind in state.links.get(identity, {}).items():
        entry.setdefault(kind, []).append(other)
    entry["sources"] = {"default": draft.source}
    return entry | ({"sizes": draft.values["sizes"]} if "sizes" in draft.values else {})


def _founder(state: Merging, identity: str) -> str:
    """The first base of a model, and its first base, to the end."""
    way: dict[str, None] = {}
    here = identity
    while here not in way and here not in state.founders:
        way[here] = None
        here = next((other for other, kind in state.links.get(here, {}).items() if kind == "base"), here)
    found = state.founders.get(here, here)
    state.founders.update(dict.fromkeys(way, found))
    return found


def _differences(asset: Asset, draft: Draft, links: Mapping[str, str]) -> list[str]:
    """Where the catalogue and a list speak of the same entry and do not agree."""
    found = []
    ours, theirs = asset.released, draft.values.get("released")
    if ours and theirs and ours[: len(theirs)] != theirs[: len(ours)]:
        found.append(f"released {ours} in the catalogue, {theirs} in the list")
    if (access := draft.values.get("access")) and access != asset.access:
        found.append(f"access {asset.access} in the catalogue, {access} in the list")
    licence = draft.values.get("licence")
    if licence and asset.licence and folded(licence["name"]) != folded(asset.licence.name):
        found.append(f"licence {asset.licence.name} in the catalogue, {licence['name']} in the list")
    sizes = asset.sizes if isinstance(asset, Model) else ()
    for size in draft.values.get("sizes", ()):
        if sizes and not any(_alike_sizes(own, size) for own in sizes):
            found.append(f"no size of {size['stated']} in the catalogue")
    missing = sorted(set(links) - {other for _, other in edges(asset)} - {asset.id})
    if missing:
        found.append(f"made of {', '.join(missing)} in the list alone")
    return [f"{asset.id}: {difference}" for difference in found]


def _alike_sizes(own: Size, listed: Mapping[str, Any]) -> bool:
    """Whether a listed size may be this one: by its name, or by its count, as people round it."""
    if listed["name"] in own.name.split("-") or (own.stated or "").lower().startswith(listed["name"]):
        return True
    count = listed.get("parameters")
    return own.parameters is None or count is None or abs(count - own.parameters) <= own.parameters / 10
