"""The evolution tree: models over the years, families as limbs of four branches, after the survey of arXiv 2304.13712.

A model stands at its date; a line leads to it from what it was trained on from. Filled dots are models whose weights
all may have, rings those that are not given out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from paddock.catalog import drawing
from paddock.catalog.drawing import Box, Curve, Dot, Picture, Shape, Text
from paddock.catalog.lineage import commercial, order, released
from paddock.catalog.schema import Model

BRANCHES = ("encoder", "encoder-decoder", "decoder", "multimodal", "other")
COLOURS = dict(zip(BRANCHES, drawing.PALETTE, strict=False))
TINTS = dict(zip(BRANCHES, ("#dcebf5", "#fbe6d9", "#d9f0e8", "#f7e6ef", "#ececec"), strict=True))
DASHES: dict[str, tuple[float, ...]] = {"yes": (), "no": (3, 2), "unknown": (1, 3)}
SINGLES = 10  # more families of one model than these share one limb
LEFT, LANE, LABEL = 200.0, 18.0, 190.0  # pixels: left of the tree, a row, the longest label
NARROWEST = 900.0


@dataclass(frozen=True)
class Limb:
    """A family in a branch: its models with the lane each stands in."""

    branch: str
    family: str
    lanes: Mapping[str, int]

    @property
    def height(self) -> int:
        return max(self.lanes.values()) + 1


@dataclass(frozen=True)
class Years:
    """Where a date stands: each year is as wide as it is full. starts: of every year and of what follows the last."""

    first: int
    starts: tuple[float, ...]
    undated: float

    def place(self, date: str | None) -> float:
        """x of a date. What is known by its year alone stands in the middle of the year."""
        if date is None:
            return self.undated
        year = int(date[:4]) - self.first
        month = int(date[5:7]) - 1 if date[5:7] else 5.5
        day = int(date[8:10]) / 31 if date[8:10] else 0.5
        return self.starts[year] + (self.starts[year + 1] - self.starts[year]) * (month + day) / 12.2


def families(models: Iterable[Model]) -> dict[tuple[str, str], list[Model]]:
    """Models by branch and family, branches in their order, families and models by date.

    Where a branch has many families of a single model, these share a limb called "others".
    """
    found: dict[tuple[str, str], list[Model]] = {}
    for model in sorted(models, key=order):
        found.setdefault((model.branch, model.family), []).append(model)
    result: dict[tuple[str, str], list[Model]] = {}
    for branch in BRANCHES:
        here = {key: members for key, members in found.items() if key[0] == branch}
        single = [key for key, members in here.items() if len(members) == 1]
        if len(single) > SINGLES:
            others = [here.pop(key)[0] for key in single]
            here[branch, "others"] = others
        result |= here
    return result


def years(models: Iterable[Model]) -> Years:
    """The axis: a narrow column for a quiet year, a wide one for a busy one."""
    dates = [released(model) for model in models]
    counts: dict[int, int] = {}
    for date in dates:
        if date:
            counts[int(date[:4])] = counts.get(int(date[:4]), 0) + 1
    first, last = min(counts, default=2023), max(counts, default=2023)
    most = max(counts.values(), default=1)
    starts = [LEFT]
    for year in range(first, last + 1):
        starts.append(starts[-1] + 60 + 460 * (counts.get(year, 0) / most) ** 0.7)
    return Years(first, tuple(starts), starts[-1] + LABEL)


def limb(branch: str, family: str, models: list[Model], axis: Years) -> Limb:
    """Lanes for the models of a family, so that no label lies on another and no line passes a stranger.

    A model stands below what it came from or, next in its lane, beside it: the line to it takes a lane from there on.
    """
    x = {model.id: axis.place(released(model)) for model in models}
    lanes: dict[str, int] = {}
    ends: list[float] = []
    last: list[str] = []
    for model in sorted(models, key=lambda model: (x[model.id], model.id)):
        base = _first_base(model, lanes, x)
        start = x[model.id] - 6
        way = start if base is None else x[base]
        lane = 0 if base is None else lanes[base]
        while lane < len(ends) and not (ends[lane] <= way or (last[lane] == base and ends[lane] <= start)):
            lane += 1
        ends += [0.0] * (lane + 1 - len(ends))
        last += [""] * (lane + 1 - len(last))
        lanes[model.id], last[lane] = lane, model.id
        ends[lane] = start + 6 + _wide(model) + 8
    return Limb(branch, family, lanes)


def _first_base(model: Model, here: Iterable[str], x: Mapping[str, float]) -> str | None:
    """The base a model hangs from: the first in its limb that is not younger (some models were begun anew later)."""
    return next((base for base in model.base if base in here and x[base] <= x[model.id]), None)


def _wide(model: Model) -> float:
    """Of the dot and the label together."""
    return 8 + drawing.width(drawing.fitted(model.name, LABEL, 10.5), 10.5) + 8


def picture(models: Iterable[Model], title: str = "Open models by year and branch") -> Picture:
    """The tree of these models."""
    models = list(models)
    axis = years(models)
    named = {model.id: model for model in models}
    limbs = [limb(branch, family, members, axis) for (branch, family), members in families(models).items()]
    ends = [axis.place(released(model)) + _wide(model) + 16 for model in models]
    wide = max(NARROWEST, axis.starts[-1] + 40, *ends, 0)
    head, top = _head(title, len(models), wide)
    places: dict[str, tuple[float, float]] = {}
    grounds: list[Shape] = []
    spans: dict[str, tuple[float, float]] = {}
    y = top + 10
    for number, one in enumerate(limbs):
        y += 12 if number and one.branch != limbs[number - 1].branch else 0
        for name, lane in one.lanes.items():
            places[name] = (axis.place(released(named[name])), y + (lane + 0.5) * LANE)
        spans[one.branch] = (spans.get(one.branch, (y, y))[0], y + one.height * LANE)
        grounds += _ground(one, y, min(places[name][0] for name in one.lanes))
        y += one.height * LANE + 3
    height = y + 16
    undated = any(released(model) is None for model in models)
    shapes = [*head, *_columns(axis, top, height, undated), *grounds, *_trunks(spans), *_lines(limbs, named, places)]
    for model in models:
        shapes += _leaf(model, commercial(model, named), *places[model.id])
    return Picture(wide, height, title, tuple(shapes))


def _head(title: str, count: int, wide: float) -> tuple[list[Shape], float]:
    """Title and legend, and where they end."""
    told = f"{count} models. A line leads from a model to what was trained on from it."
    marks: list[tuple[Shape, str]] = [(Dot(0, 0, 5, COLOURS[b], COLOURS[b]), b) for b in BRANCHES]
    marks += [
        (Dot(0, 0, 4, drawing.DARK, drawing.DARK), "weights for all"),
        (Dot(0, 0, 4, "#bbbbbb", drawing.DARK), "after a form, or for research"),
        (Dot(0, 0, 4, "#ffffff", drawing.DARK), "closed"),
    ]
    words = {"yes": "commercial use allowed", "no": "not allowed", "unknown": "not known"}
    marks += [(Box(-8, -6, 18, 12, "#ffffff", drawing.DARK, DASHES[key]), text) for key, text in words.items()]
    legend, end = drawing.legend(marks, 16, 68, wide - 32)
    return [Text(16, 30, title, 18, bold=True), Text(16, 48, told, 11, drawing.GREY), *legend], end + 16


def _columns(axis: Years, top: float, height: float, undated: bool) -> list[Shape]:
    """The years, every other one shaded."""
    shapes: list[Shape] = []
    for number, (start, end) in enumerate(itertools.pairwise(axis.starts)):
        if number % 2 == 0:
            shapes.append(Box(start, top - 18, end - start, height - top + 18, "#f6f6f6", radius=0))
        shapes.append(Text(start + 5, top - 4, str(axis.first + number), 12, drawing.GREY, True))
    return shapes + [Text(axis.undated, top - 4, "no date", 12, drawing.GREY, True)] * undated


def _ground(one: Limb, y: float, first: float) -> list[Shape]:
    """A family's name, and the limb from the trunk to its first model."""
    colour = COLOURS[one.branch]
    middle = y + LANE / 2
    name = drawing.fitted(one.family, LEFT - 62, 11.5, True)
    return [
        Curve(drawing.straight((20, middle), (46, middle)), colour, 2.4),
        Curve(drawing.straight((52 + drawing.width(name, 11.5, True), middle), (first, middle)), colour, 1.0, (1, 3)),
        Text(48, middle + 4, name, 11.5, drawing.DARK, True),
    ]


def _trunks(spans: Mapping[str, tuple[float, float]]) -> list[Shape]:
    return [
        Curve(drawing.straight((20, top + LANE / 2 - 6), (20, bottom - LANE / 2)), COLOURS[branch], 5)
        for branch, (top, bottom) in spans.items()
    ]


def _lines(limbs: list[Limb], named: Mapping[str, Model], places: Mapping[str, tuple[float, float]]) -> list[Shape]:
    """From every model to what was trained on from it: strong where it hangs from that, faint for the rest."""
    x = {name: place[0] for name, place in places.items()}
    strong: list[Shape] = []
    faint: list[Shape] = []
    for one in limbs:
        for model in (named[name] for name in one.lanes):
            hangs = _first_base(model, one.lanes, x)
            for base in (base for base in model.base if base in places):
                ends = (base, model.id)
                if base == hangs:
                    points = _bent(places[base], places[model.id])
                    strong.append(Curve(points, COLOURS[one.branch], 1.3, (), ends))
                else:
                    faint.append(Curve(drawing.swung(places[base], places[model.id]), "#9a9a9a", 0.9, (), ends))
    return [*faint, *strong]


def _bent(start: drawing.Point, end: drawing.Point) -> tuple[drawing.Point, ...]:
    """Down from the start, then level to the end, with a round corner."""
    (x0, y0), (x1, y1) = start, end
    if abs(y1 - y0) < 1 or x1 - x0 < 4:
        return drawing.straight(start, end)
    turn = min(8.0, x1 - x0, abs(y1 - y0))
    above = y1 - turn if y1 > y0 else y1 + turn
    corner = ((x0, y1), (x0, y1), (x0 + turn, y1))
    return (*drawing.straight(start, (x0, above)), *corner, (x0 + turn, y1), end, end)


def _leaf(model: Model, terms: str, x: float, y: float) -> list[Shape]:
    """A model's dot and label."""
    colour = COLOURS[model.branch]
    fill = {"open": colour, "closed": "#ffffff"}.get(model.access, "#bbbbbb")
    text = drawing.fitted(model.name, LABEL, 10.5)
    box = Box(
        x + 7,
        y - 7.5,
        drawing.width(text, 10.5) + 8,
        15,
        TINTS[model.branch],
        colour,
        DASHES[terms],
        of=model.id,
    )
    return [box, Text(x + 11, y + 4, text, 10.5, of=model.id), Dot(x, y, 4, fill, colour, model.id)]
