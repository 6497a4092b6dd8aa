"""Lineage and evolution as text: a tree with lines, a table by year."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paddock.catalog.lineage import CHILD, PARENT, Edge, Lineage, commercial, kind_of, order, released, sizes
from paddock.catalog.schema import Asset, Model

ACCESS = {"open": "open", "gated": "after a form", "research": "for research", "closed": "closed"}


@dataclass(frozen=True)
class Marks:
    """What a tree is drawn with."""

    fork: str
    last: str
    line: str
    access: Mapping[str, str]


FINE = Marks("├─ ", "└─ ", "│  ", {"open": "●", "gated": "◐", "research": "◌", "closed": "○"})
ASCII = Marks("|- ", "`- ", "|  ", {"open": "#", "gated": "+", "research": "~", "closed": "."})


def marks(encoding: str | None) -> Marks:
    """Lines where the encoding of a terminal has them, else ASCII."""
    drawn = FINE.fork + FINE.last + FINE.line + "".join(FINE.access.values())
    try:
        drawn.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return FINE


def facts(asset: Asset, commercial: str) -> str:
    """An entry on one line: date, sizes, organisation, licence."""
    kind = "" if isinstance(asset, Model) else kind_of(asset)
    told = [
        released(asset) or "no date",
        kind,
        sizes(asset),
        asset.organisation,
        f"commercial use: {commercial}",
    ]
    return ", ".join(part for part in told if part)


def tree(graph: Lineage, name: str, drawn: Marks, up: bool = True, down: bool = True) -> str:
    """`name` with what it was made of and what was made of it, each entry told once, then referred to.

    graph: what is to be shown, all of it (`Lineage.around`).
    """
    asset = graph.assets[name]
    lines = [f"{asset.name}: {facts(asset, graph.terms[name])}"]
    ways = [("made of", True)] * up + [("made into", False)] * down
    for at, (title, upward) in enumerate(ways):
        last = at == len(ways) - 1
        reached = _branches(graph, name, drawn, upward, drawn.line if not last else " " * len(drawn.line))
        lines.append((drawn.last if last else drawn.fork) + title + ("" if reached else ": nothing known"))
        lines += reached
    return "\n".join(lines)


def _branches(graph: Lineage, name: str, drawn: Marks, upward: bool, indent: str) -> list[str]:
    """The lines below `name` in one direction, each entry told where it is nearest to `name`."""
    steps = graph.parents if upward else graph.children
    home = {name: name}  # of an entry: below which one it is told
    near = deque([name])
    while near:
        here = near.popleft()
        for edge in steps[here]:
            other = edge.parent if upward else edge.child
            if other not in home:
                home[other] = here
                near.append(other)
    lines: list[str] = []
    waiting: list[tuple[Edge, str, bool]] = []  # a stack of ours, as lines of descent may be long

    def expand(here: str, indent: str) -> None:
        found = steps[here]
        waiting.extend((edge, indent, at == len(found) - 1) for at, edge in reversed(list(enumerate(found))))

    expand(name, indent)
    while waiting:
        edge, space, last = waiting.pop()
        here, other = (edge.child, edge.parent) if upward else (edge.parent, edge.child)
        asset = graph.assets[other]
        how = ", ".join((PARENT if upward else CHILD)[kind] for kind in edge.kinds)
        start = space + (drawn.last if last else drawn.fork)
        if home[other] != here:
            lines.append(f"{start}{asset.name} ({how}): see its own line")
            continue
        lines.append(f"{start}{asset.name} ({how}): {facts(asset, graph.terms[other])}")
        expand(other, space + (" " * len(drawn.line) if last else drawn.line))
    return lines


def by_year(models: Mapping[str, Model], drawn: Marks) -> list[tuple[str, list[list[str]]]]:
    """The evolution of models as tables: for each year its title and rows of when, mark, model, sizes, branch, family,
    organisation, base and commercial use."""
    years: dict[str, list[list[str]]] = {}
    for model in sorted(models.values(), key=order):
        date = released(model)
        base = ", ".join(models[other].name if other in models else other for other in model.base)
        row = [date[5:7] if date else "", drawn.access[model.access], model.name, sizes(model), model.branch]
        years.setdefault(date[:4] if date else "no date", []).append(
            [*row, model.family, model.organisation, base, commercial(model, models)]
        )
    return list(years.items())


HEADER = ["month", "", "model", "sizes", "branch", "family", "organisation", "from", "commercial"]


def narrowed(rows: Sequence[Sequence[str]], room: int) -> list[list[str]]:
    """Rows of a table that is at most `room` columns wide with its header, where that can be: the widest are cut."""
    widths = [max(map(len, column)) for column in zip(HEADER, *rows, strict=True)]
    while sum(widths) + 2 * (len(widths) - 1) > room and max(widths) > 10:
        widths[widths.index(max(widths))] -= 1
    return [
        [cell if len(cell) <= wide else cell[: wide - 1] + "~" for cell, wide in zip(row, widths, strict=True)]
        for row in rows
    ]


def legend(drawn: Marks) -> str:
    """What the marks of access mean."""
    return "weights: " + "  ".join(f"{mark} {ACCESS[access]}" for access, mark in drawn.access.items())
