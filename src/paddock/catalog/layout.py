"""The graph of descent as a picture: columns by depth, what was there first on the left.

Columns follow from the longest way to an entry, the order in a column from the neighbours' mean places (the method of
Sugiyama, Tagawa and Toda 1981, with barycentres), and the places from the neighbours' again, as near as room allows.
Where an edge passes a column it has a place of its own there, so that no line runs behind a box.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from paddock.catalog import drawing
from paddock.catalog.drawing import Box, Curve, Picture, Shape, Text
from paddock.catalog.evolution import COLOURS, DASHES, TINTS
from paddock.catalog.lineage import Edge, Lineage, order, released, sizes
from paddock.catalog.schema import Application, Asset, Dataset, Model

WIDE, HIGH, GAP, ACROSS = 196.0, 36.0, 9.0, 84.0  # pixels: a box, and the room below and beside it
THIN = 9.0  # the room of a line between boxes
NARROWEST = 860.0
SWEEPS = 6
DATA, PROGRAM = ("#fff4d6", "#8B6F00"), ("#ffffff", "#333333")
STYLES: dict[str, tuple[str, tuple[float, ...], str]] = {  # of an edge by its kind: colour, dashes, meaning
    "base": ("#333333", (), "base of"),
    "teachers": ("#D55E00", (6, 3), "teacher of"),
    "data": ("#0072B2", (), "training data of"),
    "made_with": ("#CC79A7", (6, 3), "wrote"),
    "made_from": ("#8B6F00", (2, 3), "part or source of"),
    "uses": ("#009E73", (2, 3), "used by"),
}


@dataclass(frozen=True)
class Bend:
    """Where an edge passes through a column, between the boxes."""

    edge: Edge
    column: int


Node = str | Bend  # an entry's id, or a bend


def picture(graph: Lineage, title: str, focus: str | None = None) -> Picture:
    """The whole of `graph`, with a thicker frame around the entry `focus`."""
    depth = _depth(graph)
    chains = {edge: _chain(edge, depth) for edge in graph.edges}
    neighbours = _neighbours(graph, chains.values())
    columns = _columns(graph, depth, chains.values(), neighbours)
    middles = _places(columns, neighbours)
    wide = max(NARROWEST, len(columns) * (WIDE + ACROSS) - ACROSS + 48)
    head, top = _head(graph, title, wide)
    lift = top + 4 + HIGH / 2 - min((middles[name] for name in graph.assets), default=0.0)
    at = {
        node: (24 + number * (WIDE + ACROSS), middles[node] + lift)
        for number, column in enumerate(columns)
        for node in column
    }
    height = max((y for _, y in at.values()), default=top) + HIGH / 2 + 24
    shapes = [*head, *(_edge(edge, [at[node] for node in chain]) for edge, chain in chains.items())]
    for name, asset in graph.assets.items():
        shapes += _box(asset, graph.terms[name], *at[name], name == focus)
    return Picture(wide, height, title, tuple(shapes))


def _depth(graph: Lineage) -> dict[str, int]:
    """The column of every entry; a root stands just left of the first thing made of it."""
    depth = graph.layers()
    for name in graph.roots():
        depth[name] = min((depth[edge.child] for edge in graph.children[name]), default=1) - 1
    used = {level: number for number, level in enumerate(sorted(set(depth.values())))}
    return {name: used[level] for name, level in depth.items()}


def _chain(edge: Edge, depth: Mapping[str, int]) -> list[Node]:
    """An edge's way: its parent, a bend in every column between, its child."""
    between = range(depth[edge.parent] + 1, depth[edge.child])
    return [edge.parent, *(Bend(edge, column) for column in between), edge.child]


def _neighbours(graph: Lineage, chains: Iterable[list[Node]]) -> dict[Node, list[Node]]:
    found: dict[Node, list[Node]] = {name: [] for name in graph.assets}
    for chain in chains:
        for one, other in itertools.pairwise(chain):
            found.setdefault(one, []).append(other)
            found.setdefault(other, []).append(one)
    return found


def _columns(
    graph: Lineage,
    depth: Mapping[str, int],
    chains: Iterable[list[Node]],
    neighbours: Mapping[Node, list[Node]],
) -> list[list[Node]]:
    """Entries and bends by column, ordered so that few lines cross."""
    columns: list[list[Node]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for name in sorted(depth, key=lambda name: order(graph.assets[name])):
        columns[depth[name]].append(name)
    for chain in chains:
        for node in chain[1:-1]:
            columns[node.column if isinstance(node, Bend) else 0].append(node)
    at: dict[Node, float] = {}
    for column in columns:
        at.update(_shares(column))
    for sweep in range(SWEEPS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            column.sort(key=lambda node: _mean((at[n] for n in neighbours[node]), at[node]))
            at.update(_shares(column))
    return columns


def _shares(column: Sequence[Node]) -> dict[Node, float]:
    return {node: number / len(column) for number, node in enumerate(column)}


def _mean(values: Iterable[float], otherwise: float) -> float:
    found = list(values)
    return sum(found) / len(found) if found else otherwise


def _room(node: Node) -> float:
    return HIGH + GAP if isinstance(node, str) else THIN


def _places(columns: Sequence[Sequence[Node]], neighbours: Mapping[Node, list[Node]]) -> dict[Node, float]:
    """The middle of every box and bend: near its neighbours, in the order of its column, with room between."""
    rooms = [[_room(node) for node in column] for column in columns]
    tallest = max(map(sum, rooms), default=0.0)
    y: dict[Node, float] = {}
    for column, room in zip(columns, rooms, strict=True):
        above = (tallest - sum(room)) / 2
        for node, own in zip(column, room, strict=True):
            y[node] = above + own / 2
            above += own
    for sweep in range(2 * SWEEPS):
        for column, room in list(zip(columns, rooms, strict=True))[:: 1 if sweep % 2 == 0 else -1]:
            wanted = [_mean((y[n] for n in neighbours[node]), y[node]) for node in column]
            y.update(zip(column, spread(wanted, room), strict=True))
    return y


def spread(wanted: Sequence[float], rooms: Sequence[float]) -> list[float]:
    """The places nearest to `wanted` (least squares) that keep its order and leave everything its room.

    Less the room before them, the places must not fall: isotonic regression, by pooling neighbours that violate it.
    """
    before = [0.0]
    for one, other in itertools.pairwise(rooms):
        before.append(before[-1] + (one + other) / 2)
    pools: list[tuple[float, int]] = []  # mean, members
    for value, offset in zip(wanted, before, strict=False):
        pools.append((value - offset, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (mean, count), (above, others) = pools.pop(), pools.pop()
            pools.append(((mean * count + above * others) / (count + others), count + others))
    flat = [mean for mean, count in pools for _ in range(count)]
    return [value + offset for value, offset in zip(flat, before, strict=False)]


def _head(graph: Lineage, title: str, wide: float) -> tuple[list[Shape], float]:
    """Title and legend of what is in the picture, and where they end."""
    kinds = {kind for edge in graph.edges for kind in edge.kinds}
    branches = {asset.branch for asset in graph.assets.values() if isinstance(asset, Model)}
    marks: list[tuple[Shape, str]] = [
        (Box(-8, -6, 18, 12, TINTS[branch], COLOURS[branch]), branch) for branch in COLOURS if branch in branches
    ]
    others = {Dataset: (DATA, "dataset"), Application: (PROGRAM, "application")}
    for kind, ((fill, stroke), meaning) in others.items():
        if any(isinstance(asset, kind) for asset in graph.assets.values()):
            marks.append((Box(-8, -6, 18, 12, fill, stroke), meaning))
    marks += [
        (Curve(drawing.straight((-9, 0), (11, 0)), colour, 1.6, dash), meaning)
        for kind, (colour, dash, meaning) in STYLES.items()
        if kind in kinds
    ]
    words = {"yes": "commercial use allowed", "no": "not allowed", "unknown": "not known"}
    marks += [(Box(-8, -6, 18, 12, "#ffffff", drawing.DARK, DASHES[key]), text) for key, text in words.items()]
    legend, end = drawing.legend(marks, 16, 52, wide - 32)
    return [Text(16, 30, drawing.fitted(title, wide - 32, 18, True), 18, bold=True), *legend], end + 10


def _edge(edge: Edge, way: Sequence[drawing.Point]) -> Curve:
    """From the right side of a box, level through columns, to the left side of the other."""
    colour, dash, _ = STYLES[edge.kinds[0]]
    points: list[drawing.Point] = [(way[0][0] + WIDE, way[0][1])]
    for x, y in way[1:]:
        points += drawing.swung(points[-1], (x, y))[1:]
        if (x, y) != way[-1]:
            points += drawing.straight((x, y), (x + WIDE, y))[1:]
    return Curve(tuple(points), colour, 1.1, dash, (edge.parent, edge.child))


def _box(asset: Asset, commercial: str, x: float, middle: float, focus: bool) -> list[Shape]:
    """Name above, facts below."""
    y = middle - HIGH / 2
    if isinstance(asset, Model):
        fill, stroke = TINTS[asset.branch], COLOURS[asset.branch]
    else:
        fill, stroke = DATA if isinstance(asset, Dataset) else PROGRAM
    told = ", ".join(part for part in ((released(asset) or "")[:7], asset.organisation, sizes(asset)) if part)
    frame = [Box(x - 3, y - 3, WIDE + 6, HIGH + 6, "none", drawing.DARK, radius=6, of=asset.id)] * focus
    return [
        *frame,
        Box(x, y, WIDE, HIGH, fill, stroke, DASHES[commercial], of=asset.id),
        Text(x + 8, y + 15, drawing.fitted(asset.name, WIDE - 16, 11.5, True), 11.5, bold=True, of=asset.id),
        Text(x + 8, y + 29, drawing.fitted(told, WIDE - 16, 9.5), 9.5, drawing.GREY, of=asset.id),
    ]
