"""The graph of descent, and how it is told, drawn and handed on."""

from __future__ import annotations

import csv
import io
import json
import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lineage_entries import HOSTILE, small

from paddock.catalog import drawing, exporting, layout, terminal
from paddock.catalog.catalogue import SHIPPED, Catalogue, assemble
from paddock.catalog.drawing import Box, Curve, Picture, Text
from paddock.catalog.lineage import Lineage, commercial, lineage, released
from paddock.catalog.schema import File
from paddock.catalog.webpage import html


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def shipped() -> Catalogue:
    """What ships, without what the user of this machine has added."""
    return assemble(sorted(SHIPPED.glob("*.toml")))


@pytest.fixture(scope="module")
def graph(known: Catalogue) -> Lineage:
    return lineage(known.assets)


def test_ancestors_and_descendants_with_their_distance(graph: Lineage) -> None:
    assert graph.ancestors("seeing") == {"young": 1, "old": 2, "tales": 2, "crawl": 3}
    assert graph.ancestors("seeing", depth=2) == {"young": 1, "old": 2, "tales": 2}
    assert graph.descendants("crawl") == {"old": 1, "tales": 1, "young": 2, "program": 2, "seeing": 3}
    assert graph.descendants("program") == {}
    assert graph.roots() == ["crawl"]
    assert {edge.kinds for edge in graph.parents["young"]} == {("base", "teachers"), ("data",)}


def test_children_come_by_date_whatever_the_order_of_the_files(known: Catalogue) -> None:
    turned = lineage(dict(reversed(known.assets.items())))
    assert [edge.child for edge in turned.children["crawl"]] == ["old", "tales"]
    assert [edge.child for edge in turned.children["tales"]] == ["young", "program"]


def test_without_datasets_what_only_they_joined_is_apart(known: Catalogue) -> None:
    models = lineage(known.assets, data=False)
    assert set(models.assets) == {"old", "young", "seeing", "program"}
    assert models.descendants("old") == {"young": 1, "seeing": 2, "program": 3}


def test_around_is_bounded_in_both_directions(graph: Lineage) -> None:
    assert set(graph.around("young", depth=1).assets) == {"old", "tales", "young", "seeing"}
    assert set(graph.around("young", up=False).assets) == {"young", "seeing", "program"}
    part = graph.around("young", down=False)
    assert all(edge.parent in part.assets and edge.child in part.assets for edge in part.edges)


def test_layers_rise_along_every_edge_of_what_ships(shipped: Catalogue) -> None:
    whole = lineage(shipped.assets)
    layer = whole.layers()
    assert all(layer[edge.parent] < layer[edge.child] for edge in whole.edges)
    assert len(whole.edges) > 3


def test_facts_of_an_entry(known: Catalogue) -> None:
    old, young, seeing = (known.assets[name] for name in ("old", "young", "seeing"))
    # What sees says nothing of its licence, but comes from Young, whose licence forbids it.
    assert [commercial(asset, known.assets) for asset in (old, young, seeing)] == ["yes", "no", "no"]
    assert commercial(seeing, {}) == "unknown"
    assert lineage(known.assets).only(["seeing"]).terms["seeing"] == "no"
    assert (released(old), released(seeing)) == ("2023-02-24", None)


def test_the_tree_in_a_terminal(graph: Lineage) -> None:
    told = terminal.tree(graph.around("young"), "young", terminal.FINE).splitlines()
    assert told[0].startswith("Young: 2023-05,")
    assert told[1:4] == [
        "├─ made of",
        "│  ├─ Old (base, teacher): 2023-02-24, 7b, 13b, Home, commercial use: yes",
        "│  │  └─ Crawl (training data): no date, dataset, 1 TB, Everybody, commercial use: unknown",
    ]
    # Tales descends from Old and from Crawl, which were told above: they are referred to, not told again.
    assert told[4].startswith("│  └─ Tales (training data):")
    assert told[5] == "│     ├─ Old (its writer): see its own line"
    assert told[6] == "│     └─ Crawl (its source): see its own line"
    assert told[7] == "└─ made into"
    assert terminal.tree(graph.only(["crawl"]), "crawl", terminal.ASCII).endswith("`- made into: nothing known")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "no-such-encoding", None])
def test_lines_of_ascii_where_the_terminal_has_no_others(encoding: str | None, graph: Lineage) -> None:
    drawn = terminal.marks(encoding)
    assert terminal.tree(graph.only(["old", "young"]), "old", drawn).isascii()
    assert terminal.marks("utf-8") is terminal.FINE


def test_a_long_line_of_descent_is_told_without_recursion(tmp_path: Path) -> None:
    entry = (
        '[[model]]\nid = "m{0}"\nname = "M{0}"\norganisation = "o"\nabout = "a"\nfamily = "f"\nbranch = "other"\n'
        'tasks = []\nmethod = []\nbase = {1}\nsources = {{ default = "s" }}\n'
    )
    text = '[source.s]\ntitle = "t"\nurl = "https://example.org"\nread = "2026"\n'
    text += "".join(entry.format(n, f'["m{n - 1}"]' if n else "[]") for n in range(1500))
    (tmp_path / "long.toml").write_text(text, encoding="utf-8")
    whole = lineage(assemble([tmp_path / "long.toml"]).assets)
    assert terminal.tree(whole, "m0", terminal.ASCII).count("\n") == 1501
    assert whole.layers()["m1499"] == 1499


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(1, 50)), min_size=1, max_size=30))
def test_places_keep_their_order_and_their_room(wanted: list[tuple[float, float]]) -> None:
    places, rooms = layout.spread([w for w, _ in wanted], [r for _, r in wanted]), [r for _, r in wanted]
    for n in range(len(places) - 1):
        assert places[n + 1] - places[n] >= (rooms[n] + rooms[n + 1]) / 2 - 1e-6
    # Moved as a whole, they could not be nearer: least squares leaves no mean difference.
    assert abs(sum(places) - sum(w for w, _ in wanted)) < 1e-5 * len(places) + 1e-6


def test_places_that_are_free_stay() -> None:
    assert layout.spread([0.0, 100.0, 250.0], [45.0, 45.0, 45.0]) == [0.0, 100.0, 250.0]
    assert layout.spread([10.0, 10.0], [40.0, 40.0]) == [-10.0, 30.0]


def overlapping(picture: Picture) -> list[tuple[Box, Box]]:
    """Boxes of different entries that lie on one another."""
    boxes = [shape for shape in picture.shapes if isinstance(shape, Box) and shape.of]
    boxes.sort(key=lambda box: box.y)
    found = []
    for n, one in enumerate(boxes):
        for other in boxes[n + 1 :]:
            if other.y >= one.y + one.height:
                break
            if one.of != other.of and one.x < other.x + other.width and other.x < one.x + one.width:
                found.append((one, other))
    return found


def test_no_box_lies_on_another_and_no_line_runs_behind_one(shipped: Catalogue) -> None:
    picture = layout.picture(lineage(shipped.assets), "everything")
    assert overlapping(picture) == []
    boxes = [shape for shape in picture.shapes if isinstance(shape, Box) and shape.of]
    for curve in (shape for shape in picture.shapes if isinstance(shape, Curve) and shape.ends):
        for (x0, y0), (x1, y1) in zip(curve.points, curve.points[1:], strict=False):
            if y0 != y1 or x1 - x0 < layout.WIDE - 1:
                continue  # only where a line passes through a column
            assert not [b for b in boxes if b.x < x1 - 1 and b.x + b.width > x0 + 1 and b.y < y0 < b.y + b.height]


def test_texts_stay_within_their_boxes(shipped: Catalogue) -> None:
    picture = layout.picture(lineage(shipped.assets), "everything")
    for shape in picture.shapes:
        if isinstance(shape, Text) and shape.of:
            assert drawing.width(shape.text, shape.size, shape.bold) <= layout.WIDE - 15.9


def test_widths_are_not_less_than_the_font_draws() -> None:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    for text in ("Llama 3.1 Instruct", "WizardLM-30B (V1.0)", "illicit, ffi 1234567890"):
        drawn = TextPath((0, 0), text, size=100, prop=FontProperties(family="DejaVu Sans")).get_extents().width
        assert drawn <= drawing.width(text, 100) <= drawn * 1.12 + 10


def test_svg_is_xml_with_every_entry_and_edge(graph: Lineage) -> None:
    root = ElementTree.fromstring(drawing.svg(layout.picture(graph, "t\x00itle & <more>", "old")))
    space = {"s": "http://www.w3.org/2000/svg"}
    assert {group.get("data-id") for group in root.findall("s:g", space)} == set(graph.assets)
    ends = {(path.get("data-from"), path.get("data-to")) for path in root.findall("s:path[@class='edge']", space)}
    assert ends == {(edge.parent, edge.child) for edge in graph.edges}
    assert root.findtext("s:title", namespaces=space) == "t\ufffditle & <more>"
    assert not root.findall(".//s:script", space)


def test_the_page_holds_nothing_that_a_stranger_wrote_as_markup(graph: Lineage, known: Catalogue) -> None:
    page = html(layout.picture(graph, HOSTILE), graph, known)
    assert "<script>alert" not in page
    assert page.count("<script") == 2
    assert "://" not in re.sub(
        r'<script type="application/json".*?</script>|http://www\.w3\.org/2000/svg', "", page, flags=re.DOTALL
    )
    data = json.loads(re.search(r'id="facts">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    assert data["entries"]["seeing"]["name"] == HOSTILE
    assert "default-src 'none'" in page


def test_json_says_everything_and_only_once(graph: Lineage, known: Catalogue) -> None:
    value = json.loads(exporting.as_json(graph, known))
    assert (value["format"], value["version"]) == ("paddock catalogue", 1)
    assert [entry["facts"]["id"] for entry in value["entries"]] == list(graph.assets)
    assert {"from": "old", "to": "young", "kinds": ["base", "teachers"]} in value["edges"]
    assert value["sources"]["paper"]["url"].startswith("https://example.org")
    old = next(entry["facts"] for entry in value["entries"] if entry["facts"]["id"] == "old")
    assert old["sizes"][0] == {"name": "7b", "parameters": 7_000_000_000}


def test_toml_of_what_ships_is_the_same_catalogue(tmp_path: Path, shipped: Catalogue) -> None:
    path = tmp_path / "all.toml"
    path.write_text(exporting.as_toml(lineage(shipped.assets), shipped), encoding="utf-8")
    again = assemble([path])
    assert {name: asset.model_dump() for name, asset in again.assets.items()} == {
        name: asset.model_dump() for name, asset in shipped.assets.items()
    }


def test_toml_of_a_part_names_nothing_outside(graph: Lineage, known: Catalogue) -> None:
    text = exporting.as_toml(graph.only(["young", "seeing"]), known)
    file = File.model_validate(tomllib.loads(text))
    assert file.model[0].base == () and file.model[1].base == ("young",)


DOT = re.compile(
    r"digraph catalogue \{\n  rankdir=LR;\n  node \[[^\n]*\];\n"
    r'(?:  "(?:[^"\\\n]|\\.)*"(?: -> "(?:[^"\\\n]|\\.)*")? '
    r'\[(?:\w+="(?:[^"\\\n]|\\.)*"(?:, )?)+\];\n)*\}\n'
)


def test_dot_keeps_to_the_rules_of_quoted_strings(graph: Lineage) -> None:
    text = exporting.as_dot(graph)
    assert DOT.fullmatch(text)
    assert '\\"q\\"' in text and "`x` \\\\ " in text
    assert text.count(" -> ") == len(graph.edges)


def test_markdown_escapes_what_would_be_markup(graph: Lineage, known: Catalogue) -> None:
    text = exporting.as_markdown(graph, known)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 9 for row in rows)
    assert "<script>" not in text.replace("\\<", "")
    assert "[A \\| paper \\<b\\>](<https://example.org/paper?a=1&b=(2)>), 2023-02, read 2026-11-22" in text


def test_csv_has_a_row_per_size_and_no_formulas(graph: Lineage, known: Catalogue) -> None:
    rows = list(csv.DictReader(io.StringIO(exporting.as_csv(graph, known))))
    assert [row["size"] for row in rows if row["id"] == "old"] == ["7b", "13b"]
    assert next(row for row in rows if row["id"] == "young")["organisation"].startswith("'=cmd")
    assert len(rows) == 7
