"""Pictures as values: boxes, dots, curves and texts at places, written as SVG by us and as PNG by matplotlib.

Units are CSS pixels; y goes down. Texts are placed by the widths of DejaVu Sans, which is wider than most: where it is
missing, another font leaves more room, not less.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from xml.sax.saxutils import escape, quoteattr

from paddock.checkpoint.writing import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Advance widths of DejaVu Sans from " " to "~", in hundredths of the size.
WIDTHS = (
    32, 40, 46, 84, 64, 95, 78, 27, 39, 39, 50, 84, 32, 36, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 34, 34, 84,
    84, 84, 53, 100, 68, 69, 70, 77, 63, 58, 77, 75, 29, 29, 66, 56, 86, 75, 79, 60, 79, 69, 63, 61, 73, 68, 99, 69, 61,
    69, 39, 34, 39, 84, 50, 50, 61, 63, 55, 63, 62, 35, 63, 63, 28, 28, 58, 28, 97, 63, 61, 63, 63, 41, 52, 39, 63, 59,
    82, 59, 59, 52, 64, 34, 64, 84,
)  # fmt: skip
BOLD = 1.13  # how much wider bold letters are, about
FONTS = "'DejaVu Sans', Verdana, Arial, sans-serif"
DARK, GREY, PALE = "#1a1a1a", "#666666", "#d9d9d9"
# Okabe and Ito's colours, which people with any colour vision tell apart.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#7F7F7F", "#E69F00", "#56B4E9", "#8B6F00")
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
MAX_PIXELS = 40_000_000  # of a PNG: beyond them it is drawn smaller
Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A rectangle with round corners. of: the entry it belongs to."""

    x: float
    y: float
    width: float
    height: float
    fill: str = "none"
    stroke: str = "none"
    dash: tuple[float, ...] = ()
    radius: float = 4
    of: str = ""


@dataclass(frozen=True)
class Dot:
    """A circle around x, y."""

    x: float
    y: float
    radius: float
    fill: str
    stroke: str
    of: str = ""


@dataclass(frozen=True)
class Text:
    """One line; y is its baseline."""

    x: float
    y: float
    text: str
    size: float = 11
    colour: str = DARK
    bold: bool = False
    anchor: Literal["start", "middle", "end"] = "start"
    of: str = ""


@dataclass(frozen=True)
class Curve:
    """A line through cubic pieces: a start, and three points for each piece. ends: parent and child of an edge."""

    points: tuple[Point, ...]
    colour: str = GREY
    width: float = 1.2
    dash: tuple[float, ...] = ()
    ends: tuple[str, str] | None = None


Shape = Box | Dot | Text | Curve


@dataclass(frozen=True)
class Picture:
    """Shapes in the order in which they are drawn."""

    width: float
    height: float
    title: str
    shapes: tuple[Shape, ...]


def straight(*points: Point) -> tuple[Point, ...]:
    """The points of a `Curve` that goes straight from one to the next."""
    curve = [points[0]]
    for start, end in itertools.pairwise(points):
        curve += [start, end, end]
    return tuple(curve)


def swung(start: Point, end: Point) -> tuple[Point, ...]:
    """The points of a `Curve` that leaves and arrives level."""
    middle = (start[0] + end[0]) / 2
    return (start, (middle, start[1]), (middle, end[1]), end)


def width(text: str, size: float = 11, bold: bool = False) -> float:
    """How wide a text is, in pixels."""
    total = 0
    for c in text:
        if " " <= c <= "~":
            total += WIDTHS[ord(c) - 32]
        else:
            total += 0 if unicodedata.combining(c) else 100 if unicodedata.east_asian_width(c) in "WF" else 70
    return total / 100 * size * (BOLD if bold else 1)


def fitted(text: str, room: float, size: float = 11, bold: bool = False) -> str:
    """The text, cut with an ellipsis where it is wider than `room`."""
    text = text[:400]
    if width(text, size, bold) <= room:
        return text
    while text and width(text + "…", size, bold) > room:
        text = text[:-1]
    return text.rstrip() + "…"


def svg(picture: Picture) -> str:
    """The picture as a file of its own."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{svg_element(picture)}\n'


def svg_element(picture: Picture) -> str:
    """The picture as an <svg> element; groups of an entry say data-id, edges data-from and data-to."""
    wide, high = _n(picture.width), _n(picture.height)
    size = f'width="{wide}" height="{high}" viewBox="0 0 {wide} {high}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family={quoteattr(FONTS)} role="img">',
        f"<title>{_escaped(picture.title)}</title>",
        f'<rect width="{wide}" height="{high}" fill="#ffffff"/>',
    ]
    open_group = ""
    for shape in picture.shapes:
        of = "" if isinstance(shape, Curve) else shape.of
        if of != open_group:
            lines += ["</g>"] * bool(open_group) + [f'<g class="entry" data-id={quoteattr(_clean(of))}>'] * bool(of)
            open_group = of
        lines.append(_svg_shape(shape))
    return "\n".join([*lines, *["</g>"] * bool(open_group), "</svg>"])


def _svg_shape(shape: Shape) -> str:
    if isinstance(shape, Text):
        bold = ' font-weight="bold"' if shape.bold else ""
        anchor = f' text-anchor="{shape.anchor}"' if shape.anchor != "start" else ""
        place = f'x="{_n(shape.x)}" y="{_n(shape.y)}" font-size="{_n(shape.size)}" fill="{shape.colour}"'
        return f"<text {place}{bold}{anchor}>{_escaped(shape.text)}</text>"
    if isinstance(shape, Dot):
        place = f'cx="{_n(shape.x)}" cy="{_n(shape.y)}" r="{_n(shape.radius)}"'
        return f'<circle {place} fill="{shape.fill}" stroke="{shape.stroke}" stroke-width="1.5"/>'
    dash = f' stroke-dasharray="{" ".join(map(_n, shape.dash))}"' if shape.dash else ""
    if isinstance(shape, Box):
        place = f'x="{_n(shape.x)}" y="{_n(shape.y)}" width="{_n(shape.width)}" height="{_n(shape.height)}"'
        return f'<rect {place} rx="{_n(shape.radius)}" fill="{shape.fill}" stroke="{shape.stroke}"{dash}/>'
    start, *rest = shape.points
    pieces = " ".join(f"{_n(x)} {_n(y)}" for x, y in rest)
    ends = ""
    if shape.ends:
        ends = f' class="edge" data-from={quoteattr(_clean(shape.ends[0]))} data-to={quoteattr(_clean(shape.ends[1]))}'
    path = f'd="M{_n(start[0])} {_n(start[1])}C{pieces}"'
    return f'<path {path} fill="none" stroke="{shape.colour}" stroke-width="{_n(shape.width)}"{dash}{ends}/>'


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _clean(text: str) -> str:
    return NOT_XML.sub("\ufffd", text)


def _escaped(text: str) -> str:
    return escape(_clean(text))


def save_png(picture: Picture, path: Path, scale: float = 1.5) -> None:
    """Writes the picture as PNG, `scale` pixels to a unit, fewer where it is very large."""
    from matplotlib import rc_context  # takes a second, and is wanted for a PNG alone
    from matplotlib.figure import Figure

    scale = min(scale, (MAX_PIXELS / (picture.width * picture.height)) ** 0.5)
    with rc_context({"font.family": ["DejaVu Sans"], "text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a script the font lacks is shown as boxes
        figure = Figure(figsize=(picture.width / 100, picture.height / 100), dpi=100 * scale)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(0, picture.width)
        axes.set_ylim(picture.height, 0)
        axes.axis("off")
        for order, shape in enumerate(picture.shapes):
            _draw(axes, shape, order)
        with atomic_write(path) as part:
            figure.savefig(part, format="png", metadata={"Software": None})


def _draw(axes: Axes, shape: Shape, order: int) -> None:
    from matplotlib.patches import Circle, FancyBboxPatch, PathPatch
    from matplotlib.path import Path as Outline

    if isinstance(shape, Text):
        aligned = {"start": "left", "middle": "center", "end": "right"}[shape.anchor]
        points = shape.size * 0.72  # 100 units to an inch
        weight = "bold" if shape.bold else "normal"
        style: dict[str, Any] = {"fontsize": points, "color": shape.colour, "ha": aligned, "fontweight": weight}
        axes.text(shape.x, shape.y, _clean(shape.text), va="baseline", zorder=order, **style)
        return
    line: dict[str, Any] = {"zorder": order, "linewidth": 0.72 * (shape.width if isinstance(shape, Curve) else 1.0)}
    patch: Any
    if isinstance(shape, Dot):
        line["linewidth"] = 0.72 * 1.5
        patch = Circle((shape.x, shape.y), shape.radius, facecolor=shape.fill, edgecolor=shape.stroke, **line)
    elif isinstance(shape, Box):
        inner = min(shape.radius, shape.width / 2, shape.height / 2)
        style = {"boxstyle": f"round,pad=0,rounding_size={inner}", "facecolor": shape.fill, "edgecolor": shape.stroke}
        patch = FancyBboxPatch((shape.x, shape.y), shape.width, shape.height, **style, **line)
    else:
        codes = [Outline.MOVETO, *[Outline.CURVE4] * (len(shape.points) - 1)]
        patch = PathPatch(Outline(shape.points, codes), facecolor="none", edgecolor=shape.colour, **line)
    if not isinstance(shape, Dot) and shape.dash:
        patch.set_linestyle((0, tuple(shape.dash)))
    axes.add_patch(patch)


def legend(marks: Sequence[tuple[Shape, str]], x: float, y: float, room: float) -> tuple[list[Shape], float]:
    """Rows of marks with what they mean, from x, y on, and where they end. A mark is drawn around 0, 0."""
    at = x
    shapes: list[Shape] = []
    for mark, meaning in marks:
        wide = 26 + width(meaning) + 18
        if at + wide > x + room and at > x:
            at, y = x, y + 18
        shapes += [_moved(mark, at + 10, y), Text(at + 26, y + 4, meaning)]
        at += wide
    return shapes, y + 18


def _moved(shape: Shape, x: float, y: float) -> Shape:
    if isinstance(shape, Curve):
        return replace(shape, points=tuple((px + x, py + y) for px, py in shape.points))
    return replace(shape, x=shape.x + x, y=shape.y + y)
