"""The catalogue, or a part of it, in formats of others: JSON, DOT, Markdown, CSV, and TOML in its own schema.

Texts may be a stranger's, from files that were imported: every format escapes them in its own way.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from paddock.catalog.catalogue import Catalogue
from paddock.catalog.evolution import COLOURS
from paddock.catalog.layout import DATA, PROGRAM, STYLES
from paddock.catalog.lineage import Lineage, commercial, kind_of, order, released, sizes
from paddock.catalog.schema import Asset, Dataset, Model, Source
from paddock.catalog.toml_text import dumps

FORMAT, VERSION = "paddock catalogue", 1  # of the JSON: a new version where a reader of this one would go wrong
MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$-])")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how cells begin that spreadsheets run
COLUMNS = (
    "kind", "id", "name", "organisation", "released", "size", "parameters", "active", "context", "access", "licence",
    "commercial_use", "branch", "family", "languages", "base", "data", "url", "source",
)  # fmt: skip


def record(graph: Lineage, every: Catalogue) -> dict[str, Any]:
    """Entries with all their facts, edges, and the sources they name; docs/lineage.md says what stands where."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "entries": [{"kind": kind_of(asset), "facts": _facts(asset)} for asset in graph.assets.values()],
        "edges": [{"from": edge.parent, "to": edge.child, "kinds": list(edge.kinds)} for edge in graph.edges],
        "sources": {key: _facts(source) for key, source in _sources(graph, every).items()},
    }


def as_json(graph: Lineage, every: Catalogue) -> str:
    """`record` as text."""
    return json.dumps(record(graph, every), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def as_toml(graph: Lineage, every: Catalogue) -> str:
    """A file of the catalogue. Edges to entries that are not in `graph` are left out."""
    tables: dict[str, Any] = {"source": {key: _facts(source) for key, source in _sources(graph, every).items()}}
    for asset in graph.assets.values():
        facts = _facts(asset)
        for kind in STYLES:
            if kind in facts:
                facts[kind] = [other for other in facts[kind] if other in graph.assets]
        tables.setdefault(kind_of(asset), []).append(facts)
    return dumps(tables)


def _facts(value: Asset | Source) -> dict[str, Any]:
    """What is said, without what is not: fields at their defaults are left out."""
    return value.model_dump(mode="json", exclude_none=True, exclude_defaults=True)


def _sources(graph: Lineage, every: Catalogue) -> dict[str, Source]:
    """Those that the entries name."""
    named: dict[str, None] = {}
    for asset in graph.assets.values():
        named |= dict.fromkeys(asset.sources.values())
        for size in asset.sizes if isinstance(asset, Model) else ():
            named |= dict.fromkeys([*size.sources.values(), *(score.source for score in size.scores)])
    return {key: every.sources[key] for key in every.sources if key in named}


def as_dot(graph: Lineage) -> str:
    """A directed graph for Graphviz, what was there first on the left."""
    lines = ["digraph catalogue {", "  rankdir=LR;", '  node [shape=box, style="rounded", fontname="DejaVu Sans"];']
    for name, asset in graph.assets.items():
        told = ", ".join(part for part in (released(asset), asset.organisation, sizes(asset)) if part)
        colour = (
            COLOURS[asset.branch] if isinstance(asset, Model) else (DATA if isinstance(asset, Dataset) else PROGRAM)[1]
        )
        style = "rounded" if graph.terms[name] == "yes" else "rounded,dashed"
        label = _dot(f"{asset.name}\n{told}")
        lines.append(f'  {_dot(name)} [label={label}, color="{colour}", style="{style}"];')
    for edge in graph.edges:
        colour, dash, _ = STYLES[edge.kinds[0]]
        style = "dashed" if dash else "solid"
        label = _dot(", ".join(edge.kinds))
        lines.append(
            f'  {_dot(edge.parent)} -> {_dot(edge.child)} [tooltip={label}, color="{colour}", style="{style}"];'
        )
    return "\n".join([*lines, "}", ""])


def _dot(text: str) -> str:
    """A quoted string of DOT. Backslashes start escapes there, so one of the text's own is doubled."""
    plain = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def as_markdown(graph: Lineage, every: Catalogue) -> str:
    """Tables of models, datasets and applications, each row with its source."""
    lines = ["# Open models and what they were made of", ""]
    for title, kind in (("Models", "model"), ("Datasets", "dataset"), ("Applications", "application")):
        assets = sorted((asset for asset in graph.assets.values() if kind_of(asset) == kind), key=order)
        if assets:
            lines += [f"## {title}", "", *_rows(assets, graph, every), ""]
    return "\n".join(lines)


def _rows(assets: Iterable[Asset], graph: Lineage, every: Catalogue) -> Iterator[str]:
    yield "| name | organisation | released | size | licence | commercial use | made of | source |"
    yield "|---|---|---|---|---|---|---|---|"
    for asset in assets:
        made = ", ".join(graph.assets[edge.parent].name for edge in graph.parents[asset.id])
        licence = asset.licence.name if asset.licence else ""
        source = every.source(asset, "name")
        cells = [
            asset.name,
            asset.organisation,
            released(asset) or "",
            sizes(asset),
            licence,
            graph.terms[asset.id],
            made,
        ]
        link = f"[{_marked(source.title)}](<{_address(source.url)}>), {source.told}"
        yield f"| {' | '.join(map(_marked, cells))} | {link} |"


def _marked(text: str) -> str:
    """Text for a cell of Markdown: every sign that could mean something is escaped."""
    return MARKDOWN.sub(r"\\\1", " ".join(text.split())).replace("\\-", "-")


def _address(url: str) -> str:
    return url.replace("<", "%3C").replace(">", "%3E").replace("|", "%7C").replace("\\", "%5C")


def as_csv(graph: Lineage, every: Catalogue) -> str:
    """A row per size of a model, one for everything else. What a spreadsheet would run gets a quote before it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for asset in sorted(graph.assets.values(), key=order):
        for row in _cells(asset, every):
            writer.writerow([_harmless(str(row.get(column, ""))) for column in COLUMNS])
    return out.getvalue()


def _cells(asset: Asset, every: Catalogue) -> Iterator[Mapping[str, object]]:
    row: dict[str, object] = {
        "kind": kind_of(asset),
        "id": asset.id,
        "name": asset.name,
        "organisation": asset.organisation,
        "released": released(asset) or "",
        "access": asset.access,
        "licence": asset.licence.name if asset.licence else "",
        "commercial_use": commercial(asset, every.assets),
        "languages": " ".join(asset.languages),
        "url": asset.url or "",
        "source": every.source(asset, "name").url,
    }
    if not isinstance(asset, Model):
        yield row
        return
    row |= {"branch": asset.branch, "family": asset.family, "base": " ".join(asset.base), "data": " ".join(asset.data)}
    for size in asset.sizes:
        own = {"size": size.name, "parameters": size.parameters, "active": size.active, "released": size.released}
        own["context"] = size.context or asset.context
        yield row | {key: value for key, value in own.items() if value is not None}
    if not asset.sizes:
        yield row | ({"context": asset.context} if asset.context else {})


def _harmless(text: str) -> str:
    return "'" + text if text.startswith(FORMULA) else text
