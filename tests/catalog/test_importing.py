"""Lists of others as files of the catalogue: what is understood, what is told, what is refused."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Any

import pytest
from lineage_entries import HOSTILE, small

from paddock.catalog.catalogue import Catalogue, assemble
from paddock.catalog.importing import files, names, wording
from paddock.catalog.importing.merging import Report, merge
from paddock.catalog.schema import File
from paddock.catalog.toml_text import dumps
from paddock.errors import DataError, UsageError

ASSET = """
- type: {kind}
  name: {name}
  organization: {maker}
  created_date: {date}
  size: {size}
  dependencies: {depends}
  license: {licence}
  access: open
  modality: text; text
  url: https://example.org/{kind}
"""


def asset(name: str, depends: str = "[]", kind: str = "model", maker: str = "Maker", **more: str) -> str:
    values = {"date": "2023-05-01", "size": "7B parameters (dense)", "licence": "Apache 2.0"} | more
    return ASSET.format(name=name, depends=depends, kind=kind, maker=maker, **values)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return small(tmp_path_factory.mktemp("small"))


def imported(
    folder: Path, known: Catalogue, break_circles: bool = False, **texts: str
) -> tuple[dict[str, Any], Report]:
    """What becomes of files `NAME.yaml` (or `NAME.md` for names that begin with chart)."""
    paths = [folder / (name + (".md" if name.startswith("chart") else ".yaml")) for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text, encoding="utf-8")
    document, report = merge(files.read(paths), known, "2026-11-22", break_circles)
    written = folder / "written.toml"
    written.write_text(dumps(document), encoding="utf-8")
    (folder / "small").mkdir(exist_ok=True)
    small(folder / "small")
    assemble([folder / "small" / "small.toml", written])  # the catalogue takes it
    return document, report


def ids(document: dict[str, Any], kind: str = "model") -> list[str]:
    return [entry["id"] for entry in document.get(kind, [])]


def test_a_model_with_all_that_a_list_says(tmp_path: Path, known: Catalogue) -> None:
    text = asset("Newer 2", "[Old-7B, Tales dataset, Nothing]", size="{value: 65B parameters (dense), explanation: x}")
    document, report = imported(tmp_path, known, makers=text)
    assert document["model"] == [
        {
            "id": "newer-2",
            "name": "Newer 2",
            "organisation": "Maker",
            "family": "Old",
            "tasks": [],
            "method": [],
            "about": "A model that Ecosystem Graphs lists.",
            "released": "2023-05-01",
            "url": "https://example.org/model",
            "access": "open",
            "licence": {"name": "Apache 2.0", "commercial": True},
            "branch": "decoder",
            "base": ["old"],
            "data": ["tales"],
            "sources": {"default": "user-makers"},
            "sizes": [{"name": "65b", "stated": "65B", "parameters": 65_000_000_000}],
        }
    ]
    assert document["source"]["user-makers"]["read"] == "2026-11-22"
    assert report.unknown == {"Nothing": ["Newer 2"]}
    assert report.edges == 2


def test_edges_by_what_stands_at_their_ends(tmp_path: Path, known: Catalogue) -> None:
    text = asset("Set", "[Old, Crawl]", "dataset") + asset("App", "[Set, M]", "application") + asset("M", "[App, Set]")
    with pytest.raises(DataError, match=r"circle|made of"):
        imported(tmp_path, known, a=asset("A", "[B]") + asset("B", "[A]"))
    document, report = imported(tmp_path, known, b=text)
    assert (document["dataset"][0]["made_with"], document["dataset"][0]["made_from"]) == (["old"], ["crawl"])
    assert document["application"][0]["uses"] == ["set", "m"]
    assert document["model"][0]["data"] == ["set"]
    assert report.programs == ["M is made of the application App"]


def test_a_dataset_is_no_model_of_the_same_name(tmp_path: Path, known: Catalogue) -> None:
    row = CHART.replace("52K Tales", "52K Old")  # a cell of data means datasets
    document, report = imported(tmp_path, known, a=asset("New", "[New dataset, Tales data]"), chart=row)
    assert document["model"][0]["data"] == ["tales"] and "base" not in document["model"][0]
    assert document["model"][1]["base"] == ["old"] and "data" not in document["model"][1]
    assert report.unknown.keys() >= {"New dataset", "Old"}


def test_circles_are_told_whole_and_left_out_only_when_asked(tmp_path: Path, known: Catalogue) -> None:
    text = asset("A", "[B]") + asset("B", "[C]") + asset("C", "[A]") + asset("D", "[D, A]")
    with pytest.raises(DataError, match="A <- C <- B <- A, and 1 more") as refused:
        imported(tmp_path, known, a=text)
    assert "--break-circles" in str(refused.value)
    document, report = imported(tmp_path, known, break_circles=True, a=text)
    assert report.circles == [["A", "B", "C", "A"], ["D", "D"]]
    assert [entry.get("base") for entry in document["model"]] == [["b"], ["c"], None, ["a"]]


def test_what_the_catalogue_has_is_left_out_and_compared(tmp_path: Path, known: Catalogue) -> None:
    text = asset("OLD", "[Tales]", date="2022", size="175B parameters", licence="GPL-3.0") + asset(
        "Youngster", "[old 13b]"
    )
    document, report = imported(tmp_path, known, a=text)
    assert document == {} and report.new == 0
    assert report.known == {"OLD": "old", "Youngster": "young"}
    assert report.differences == [
        "old: released 2023-02-24 in the catalogue, 2022 in the list",
        "old: licence Apache-2.0 in the catalogue, GPL-3.0 in the list",
        "old: no size of 175B in the catalogue",
        "old: made of tales in the list alone",
        "young: access research in the catalogue, open in the list",
        "young: licence CC BY-NC 4.0 in the catalogue, Apache 2.0 in the list",
    ]


def test_a_long_line_of_descent_takes_no_longer_per_entry(tmp_path: Path, known: Catalogue) -> None:
    line = "- {{type: model, name: n{0}, access: open, dependencies: [n{1}]}}\n"
    text = "".join(line.format(n, n + 1) for n in range(800)) + "- {type: model, name: n800, access: open}\n"
    document, report = imported(tmp_path, known, a=text)
    assert report.edges == 800 and {entry["family"] for entry in document["model"]} == {"n800"}


def test_names_that_are_listed_twice(tmp_path: Path, known: Catalogue) -> None:
    one = asset("Same", maker="One") + asset("Same", kind="dataset", maker="One") + asset("Uses", "[Same]", maker="Two")
    two = asset("S a-m_e", maker="One") + asset("Same", maker="Two")
    document, report = imported(tmp_path, known, one=one, two=two)
    assert ids(document) == ["same", "uses", "same-two"]
    assert [entry["name"] for entry in document["model"]] == ["Same", "Uses", "Same (Two)"]
    assert ids(document, "dataset") == ["same-dataset"]
    assert len(report.twice) == 1 and "two.yaml: asset 1" in report.twice[0]
    assert document["model"][1]["base"] == ["same-two"]  # that of the same organisation
    assert any("Uses is made of Same" in line for line in report.several)


def test_a_name_that_everything_has_is_refused(tmp_path: Path, known: Catalogue) -> None:
    text = "".join(asset("Same", maker=f"Maker {n}") for n in range(102))
    with pytest.raises(DataError, match="more than 100 assets are called 'Same'"):
        imported(tmp_path, known, a=text)


def test_equal_names_of_files_have_sources_of_their_own(tmp_path: Path, known: Catalogue) -> None:
    paths = [tmp_path / name / "list.yaml" for name in "ab"]
    for path, name in zip(paths, "AB", strict=True):
        path.parent.mkdir()
        path.write_text(asset(name), encoding="utf-8")
    document, _ = merge(files.read(paths), known, "2026", False)
    assert [entry["sources"]["default"] for entry in document["model"]] == ["user-list", "user-list-2"]
    assert set(document["source"]) == {"user-list", "user-list-2"}


def test_names_with_markup_are_text(tmp_path: Path, known: Catalogue) -> None:
    quoted = "'" + HOSTILE.replace("'", "''") + " 2'"
    document, _ = imported(tmp_path, known, a=asset(quoted, maker="'<img src=x onerror=1>'"))
    entry = document["model"][0]
    assert "<script>" in entry["name"] and "\u202e" not in entry["name"]
    assert entry["id"].startswith("script-alert-1")


def test_missing_and_odd_values_are_told(tmp_path: Path, known: Catalogue) -> None:
    text = asset("A", date="unknown", size="''") + asset("B", date="last spring", size="quite large", licence="unknown")
    text += asset("'   '") + asset("C", kind="robot") + asset("D" * 300) + asset("悟道", date="2021", size="{}")
    document, report = imported(tmp_path, known, a=text.replace("access: open", "access: maybe", 1))
    assert [entry.get("released") for entry in document["model"]] == [None, None, "2021"]
    assert all("sizes" not in entry for entry in document["model"])
    assert document["model"][1]["notes"] == ["Size, as listed: quite large"]
    assert names.identifier("悟道") == document["model"][2]["id"]
    told = "\n".join(report.remarks)
    for part in (
        "access is 'maybe'",
        "'last spring' is no date",
        "'quite large' is no number",
        "no name",
        "'robot'",
        "endless",
    ):
        assert part in told


BOMB = "a: &a [x]\nb: &b [*a, *a]\n"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (BOMB.encode(), "anchor or alias"),
        (b"- type: model\n  name: a\n  name: b\n", "duplicate|line 3"),
        (b"- !!python/object:os.system x\n", "tag"),
        (b"- [" * 30, "nested|line"),
        (b"- type: [unclosed\n", "line"),
        (b"just text", "holds str"),
        (b"", "holds NoneType"),
        (b"- just text\n", "asset 1 is str"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"# " + b"x" * (1 << 18), "larger than"),
        (b"- type: model\n  name: a\n  dependencies: 3\n", "dependencies is int"),
        (b"- type: model\n  name: a\n  dependencies: [" + b"x, " * 600 + b"]\n", "600 dependencies"),
    ],
    ids=["alias", "twice", "tag", "deep", "broken", "text", "empty", "scalar", "bytes", "huge", "number", "many"],
)
def test_lists_that_are_none(data: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "list.yaml"
    path.write_bytes(data)
    started = time.monotonic()
    with pytest.raises(DataError, match=said) as refused:
        files.read([path])
    assert "list.yaml" in str(refused.value)
    assert time.monotonic() - started < 5


def test_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is missing"):
        files.gather([tmp_path / "none.yaml"])
    with pytest.raises(UsageError, match=r"no \.yaml"):
        files.gather([tmp_path])
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UsageError, match="neither YAML nor Markdown"):
        files.gather([tmp_path / "a.txt"])
    (tmp_path / "b.yaml").write_text("[]")
    assert files.gather([tmp_path, tmp_path / "b.yaml"]) == [tmp_path / "b.yaml"]


CHART = """
text
| project | base model | data | finetune | hardware/Cost |
|---|---|---|---|---|
|[Lab/**Tuned**](https://x.org/t(1))|Old-7B/13B|52K Tales; more words than a name has|SFT with LoRA|on `8` A100s, $100|
|[Lab/Tuned](https://example.org/t)|Else-3B| same | RLHF |
|[Own](https://example.org/own)| 2.7B | | |
|[Old](https://example.org/old)|
|||||
| a | b | c | d | e | f |

| project | other |
|---|---|
| not | a chart |
"""


def test_a_chart(tmp_path: Path, known: Catalogue) -> None:
    document, report = imported(tmp_path, known, chart=CHART)
    tuned, own = document["model"]
    assert (tuned["organisation"], tuned["name"], tuned["base"], tuned["data"]) == ("Lab", "Tuned", ["old"], ["tales"])
    assert tuned["method"] == ["supervised", "LoRA", "RLHF"]
    assert tuned["hardware"] == "on 8 A100s, $100"
    assert tuned["notes"] == ["Data, as listed: 52K Tales; more words than a name has"]
    assert own["sizes"] == [{"name": "2.7b", "stated": "2.7B", "parameters": 2_700_000_000}]
    assert report.known == {"Old": "old"}
    assert list(report.unknown) == ["Else-3B"]
    assert [remark.rpartition("chart.md:")[2] for remark in report.remarks] == ["10 has 6 cells in 5 columns; left out"]


@pytest.mark.parametrize(
    "text", ["", "# only text\n", "| a | b |\n|---|---|\n| 1 | 2 |\n"], ids=["empty", "text", "other"]
)
def test_markdown_that_is_no_chart(text: str, tmp_path: Path) -> None:
    (tmp_path / "chart.md").write_text(text)
    with pytest.raises(DataError, match="no table of project"):
        files.read([tmp_path / "chart.md"])


@pytest.mark.parametrize(
    ("text", "whole", "active"),
    [
        ("65B parameters (dense)", 65 * 10**9, None),
        ("2.7B parameters", 2_700_000_000, None),
        ("61B parameters (sparse); 6.6B active parameters", 61 * 10**9, 6_600_000_000),
        ("14B parameters with 2.7B parameters for activation (MoE)", 14 * 10**9, 2_700_000_000),
        ("1,200 million parameters", 1_200_000_000, None),
        ("10 billion-parameter model", 10**10, None),
        ("306M", 306 * 10**6, None),
        ("3B, 10B, 28B parameters", 28 * 10**9, None),
        ("3B parameters and 10B parameters", None, None),
        ("825 GB", None, None),
        ("13", None, None),
        ("0B parameters", None, None),
        ("999999T parameters", None, None),
        ("9" * 5000 + "B parameters", None, None),
        ("unknown", None, None),
    ],
    ids=lambda value: str(value)[:24],
)
def test_sizes_in_words(text: str, whole: int | None, active: int | None) -> None:
    assert wording.parameters(text) == (whole, active)


def test_tokens_records_dates_licences() -> None:
    assert [wording.tokens(t) for t in ("300B tokens", "6.3 trillion tokens", "43B English tokens", "825 GB")] == [
        300 * 10**9, 6_300_000_000_000, 43 * 10**9, None,
    ]  # fmt: skip
    assert [wording.records(t) for t in ("52K instruction-following demonstrations", "1.5M dialogues", "62 tasks")] == [
        52_000, 1_500_000, None,
    ]  # fmt: skip
    given = [
        datetime.date(2023, 2, 24),
        datetime.datetime(2023, 2, 24, 5),
        2023,
        "2023-2",
        {"value": "2023"},
        "2023-13",
        "x",
        None,
    ]
    assert [wording.when(value) for value in given] == [
        "2023-02-24", "2023-02-24", "2023", "2023-02", "2023", None, None, None,
    ]  # fmt: skip
    assert wording.licences("none (model weights), BSD-3-Clause (code)") == {
        "licence_code": {"name": "BSD-3-Clause", "commercial": True}
    }
    assert wording.licences("CC BY NC 4.0")["licence"]["commercial"] is False
    assert "commercial" not in wording.licences("custom")["licence"]
    assert wording.licences("unknown") == {}


def test_reading_words_takes_no_longer_for_hostile_ones() -> None:
    started = time.monotonic()
    for text in ("1" * 100_000, "[" * 100_000, "[](" * 30_000, "1 a " * 25_000, "(" * 100_000, "1,000" * 20_000):
        cut = wording.plain(text)
        (
            wording.parameters(text),
            wording.tokens(text),
            wording.records(text),
            wording.licences(text),
            wording.when(text),
        )
        assert len(cut) <= 600
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("LLaMA 2", "llama-2", True),
        ("Command R", "Command R+", False),
        ("T5", "t 5", True),
        ("GPT-3", "GPT-3.5", False),
    ],
)
def test_names_are_compared_by_letters_and_digits(one: str, other: str, same: bool) -> None:
    assert (names.folded(one) == names.folded(other)) is same


def test_ecosystem_graphs_as_they_are(shared_data: Path, known: Catalogue) -> None:
    paths = files.gather([shared_data / "catalog" / "ecosystem-graphs"])[:40]
    document, report = merge(files.read(paths), known, "2026-11-22", True)
    assert report.files == 40 and sum(report.counts.values()) > 80
    assert report.new == sum(map(len, (document[kind] for kind in ("model", "dataset", "application"))))
    File.model_validate(document)


def test_the_chart_as_it_is(shared_data: Path, known: Catalogue) -> None:
    document, report = merge(files.read([shared_data / "catalog" / "llama-cult-chart.md"]), known, "2026-11-22", False)
    assert (report.counts, report.new, report.remarks) == ({"model": 23}, 23, [])
    File.model_validate(document)
