"""The evolution tree: limbs, lanes, years, and the picture of it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from lineage_entries import small

from paddock.catalog import drawing, evolution, terminal
from paddock.catalog.catalogue import SHIPPED, assemble
from paddock.catalog.drawing import Box, Curve, Dot, Picture, Text
from paddock.catalog.schema import Model


def model(identity: str, released: str | None, **more: object) -> Model:
    values = {"id": identity, "name": identity, "organisation": "o", "about": "a", "released": released, "family": "F"}
    values |= {"branch": "decoder", "tasks": (), "method": (), "sources": {"default": "s"}}
    return Model.model_validate(values | more)


@pytest.fixture(scope="module")
def shipped() -> tuple[Model, ...]:
    return assemble(sorted(SHIPPED.glob("*.toml"))).models


@pytest.fixture(scope="module")
def drawn(shipped: tuple[Model, ...]) -> Picture:
    return evolution.picture(shipped)


def test_branches_and_families_come_in_order() -> None:
    models = [
        model("c", "2023"),
        model("b", "2020", family="G"),
        model("a", "2019", branch="encoder"),
        model("d", "2021"),
    ]
    assert list(evolution.families(models)) == [("encoder", "F"), ("decoder", "G"), ("decoder", "F")]
    assert [one.id for one in evolution.families(models)["decoder", "F"]] == ["d", "c"]


def test_many_families_of_one_model_share_a_limb() -> None:
    models = [model(f"m{n}", "2023", family=f"F{n}") for n in range(evolution.SINGLES + 1)]
    assert list(evolution.families(models)) == [("decoder", "others")]
    assert len(evolution.families(models[1:])) == evolution.SINGLES


def test_dates_stand_in_order_and_as_exactly_as_they_are_known() -> None:
    axis = evolution.years([model("a", "2019"), model("b", "2023-06"), model("c", "2023-06-30"), model("d", None)])
    places = [
        axis.place(date) for date in ("2019", "2020-01-01", "2023-01", "2023-06", "2023-06-30", "2023-12-31", None)
    ]
    assert places == sorted(places)
    assert axis.starts[0] < axis.place("2019") < axis.starts[1]
    assert axis.place("2023-12-31") <= axis.starts[-1] < axis.undated


def test_a_model_stands_below_or_beside_what_it_came_from() -> None:
    models = [model("a", "2023-01"), model("b", "2023-01", base=("a",)), model("c", "2024-01", base=("a",))]
    models += [model("d", "2024-06", base=("a",)), model("e", "2024-06", base=("c",)), model("f", "2022", base=("a",))]
    lanes = evolution.limb("decoder", "F", models, evolution.years(models)).lanes
    # d does not stand behind c, or it would seem to come from c; f is older than its base, and hangs from nothing.
    assert lanes == {"f": 0, "a": 0, "b": 1, "c": 0, "d": 2, "e": 0}


def test_what_is_older_than_its_base_has_a_faint_line() -> None:
    models = [model("a", "2023-01"), model("f", "2022", base=("a",)), model("b", "2024", base=("a",))]
    lines = {shape.ends: shape.colour for shape in evolution.picture(models).shapes if isinstance(shape, Curve)}
    assert (lines["a", "f"], lines["a", "b"]) == ("#9a9a9a", evolution.COLOURS["decoder"])


def test_no_line_within_a_limb_passes_a_stranger(drawn: Picture) -> None:
    dots = [shape for shape in drawn.shapes if isinstance(shape, Dot) and shape.of]
    for curve in drawn.shapes:
        if isinstance(curve, Curve) and curve.ends and curve.colour != "#9a9a9a":
            start, (end, y) = curve.points[0][0], curve.points[-1]
            assert not [dot for dot in dots if dot.y == y and start < dot.x < end and dot.of not in curve.ends]


def test_no_label_lies_on_another(drawn: Picture, shipped: tuple[Model, ...]) -> None:
    boxes = sorted((s for s in drawn.shapes if isinstance(s, Box) and s.of), key=lambda box: (box.y, box.x))
    assert len(boxes) == len(shipped)
    for one, other in itertools.pairwise(boxes):
        assert other.y >= one.y + one.height or other.x >= one.x + one.width, (one.of, other.of)
    assert all(box.x + box.width < drawn.width and box.y + box.height < drawn.height for box in boxes)


def test_every_known_base_has_its_line(drawn: Picture, shipped: tuple[Model, ...]) -> None:
    known = {model.id for model in shipped}
    wanted = {(base, model.id) for model in shipped for base in model.base if base in known}
    assert {shape.ends for shape in drawn.shapes if isinstance(shape, Curve) and shape.ends} == wanted


@pytest.mark.parametrize(("access", "fill"), [("open", "#009E73"), ("closed", "#ffffff"), ("gated", "#bbbbbb")])
def test_a_dot_says_who_may_have_the_weights(access: str, fill: str) -> None:
    picture = evolution.picture([model("a", "2023", access=access)])
    assert [shape.fill for shape in picture.shapes if isinstance(shape, Dot) and shape.of == "a"] == [fill]


@pytest.mark.parametrize("dates", [[], [None], ["2023"]], ids=["none", "undated", "one"])
def test_pictures_of_next_to_nothing(dates: list[str | None]) -> None:
    picture = evolution.picture([model(f"m{n}", date) for n, date in enumerate(dates)])
    texts = {shape.text for shape in picture.shapes if isinstance(shape, Text)}
    assert ("no date" in texts) == (dates == [None])
    assert f"{len(dates)} model" in drawing.svg(picture)


def test_png_and_svg_come_out_the_same_every_time(tmp_path: Path) -> None:
    models = [*small(tmp_path).models, model("names", "2022", name="悟道 ☃ $x_1$ \u0301")]
    picture = evolution.picture(models)
    for name in ("a.png", "b.png"):
        drawing.save_png(picture, tmp_path / name, scale=0.5)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert drawing.svg(picture) == drawing.svg(evolution.picture(models))


def test_a_huge_picture_is_drawn_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "MAX_PIXELS", 10_000)
    drawing.save_png(Picture(2000, 500, "t", (Text(5, 20, "x"),)), tmp_path / "a.png")
    width, height = (int.from_bytes((tmp_path / "a.png").read_bytes()[at : at + 4], "big") for at in (16, 20))
    assert width * height <= 10_100 and width == 4 * height


def test_the_table_by_year(tmp_path: Path) -> None:
    models = {one.id: one for one in small(tmp_path).models}
    table = terminal.by_year(models, terminal.ASCII)
    assert [year for year, _ in table] == ["2023", "no date"]
    assert table[0][1] == [
        ["02", "#", "Old", "7b, 13b", "decoder", "Old", "Home", "", "yes"],
        ["05", "~", "Young", "", "decoder", "Old", "=cmd|' /C calc'!A0", "Old", "no"],
    ]


def test_a_narrow_terminal_cuts_the_widest_columns() -> None:
    row = ["02", "#", "A model", "7b", "decoder", "Old", "An organisation with a very long name", "Base", "yes"]
    assert terminal.narrowed([row], 200) == [row]
    cut = terminal.narrowed([row], 80)[0]
    widths = [max(len(cell), len(title)) for cell, title in zip(cut, terminal.HEADER, strict=True)]
    assert sum(widths) + 2 * 8 <= 80
    assert cut[6].endswith("~") and cut[2] == "A model"
