"""`paddock catalog tree`, `import` and `export` as they are typed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_streams import Run

from paddock.catalog import catalogue
from paddock.cli import catalog_importing

OLD = """
[source.paper]
title = "A paper"
url = "https://example.org/paper"
read = "2026-11-22"

[[model]]
id = "old"
name = "Old"
organisation = "Home"
about = "The first."
family = "Old"
branch = "decoder"
tasks = ["base"]
method = ["pre-training"]
sources = { default = "paper" }
"""
LIST = """
- {type: model, name: Grandchild, organization: Home, created_date: 2024-01-02, size: 7B parameters,
   dependencies: [Old, Nowhere], license: MIT, access: open, modality: text; text}
"""


def test_what_a_model_descends_from(paddock: Callable[..., Run]) -> None:
    run = paddock("catalog", "tree", "llama-1", "--down", "--depth", "1", "--no-data")
    lines = run.out.splitlines()
    assert run.code == 0 and lines[0].startswith("LLaMA: 2023-02-24") and lines[1] == "└─ made into"
    assert len(lines) > 10 and sum(line.startswith(("   ├─ ", "   └─ ")) for line in lines) > 10
    assert all("see its own line" in line for line in lines[2:] if not line.startswith(("   ├─ ", "   └─ ")))
    assert "dataset" not in run.out
    up = json.loads(paddock("catalog", "tree", "alpaca", "--up", "--json").out)
    assert {"llama-1"} < {entry["facts"]["id"] for entry in up["entries"]}
    assert any(edge["from"] == "llama-1" and edge["kinds"] == ["base"] for edge in up["edges"])


def test_the_evolution_as_a_table(paddock: Callable[..., Run]) -> None:
    run = paddock("catalog", "tree")
    assert run.code == 0 and "\n2023, " in run.out and "weights: ● open" in run.out
    assert run.out.index("\n2019, ") < run.out.index("\n2023, ")


@pytest.mark.parametrize("ending", ["svg", "html", "dot", "json", "md", "csv", "toml"])
def test_every_format_of_a_tree(ending: str, paddock: Callable[..., Run], tmp_path: Path) -> None:
    goal = tmp_path / f"tree.{ending}"
    run = paddock("catalog", "tree", "alpaca", "--up", "-o", goal)
    assert (run.code, run.out) == (0, f"{goal}\n")
    assert "Alpaca" in goal.read_text(encoding="utf-8")
    again = paddock("catalog", "tree", "alpaca", "-o", goal)
    assert again.code == 2 and "--force" in again.err
    assert paddock("catalog", "tree", "alpaca", "-o", goal, "--force").code == 0


def test_a_picture(paddock: Callable[..., Run], tmp_path: Path) -> None:
    assert paddock("catalog", "tree", "alpaca", "--up", "-o", tmp_path / "a.png").code == 0
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_export_of_what_is_asked(paddock: Callable[..., Run], tmp_path: Path) -> None:
    every = json.loads(paddock("catalog", "export").out)
    assert {entry["kind"] for entry in every["entries"]} >= {"model", "dataset"}
    part = json.loads(paddock("catalog", "export", "--kind", "model", "--family", "LLaMA", "--commercial").out)
    assert 0 < len(part["entries"]) < len(every["entries"])
    assert all(entry["facts"]["licence"]["commercial"] for entry in part["entries"])
    assert paddock("catalog", "export", "--format", "csv").out.startswith("kind,id,name,")
    goal = tmp_path / "all.txt"
    assert paddock("catalog", "export", "--format", "dot", "-o", goal).code == 0
    assert goal.read_text().startswith("digraph")


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue of one model: reading all that ships takes a second each time."""
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "old.toml").write_text(OLD)
    monkeypatch.setattr(catalogue, "SHIPPED", tmp_path / "few")
    monkeypatch.setattr(catalog_importing, "SHIPPED", tmp_path / "few")


@pytest.mark.usefixtures("few")
def test_a_list_is_imported_and_belongs_to_the_catalogue(paddock: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(LIST)
    run = paddock("catalog", "import", tmp_path / "mine.yaml")
    goal = tmp_path / "home" / "catalogue" / "imported.toml"
    assert run.code == 0 and run.out.endswith(f"{goal}\n") and "1 are new, with 1 edges" in run.out
    assert "Grandchild (based on it): 2024-01-02, 7b, Home" in paddock("catalog", "tree", "old").out
    assert paddock("catalog", "import", tmp_path / "mine.yaml").code == 2  # it is there already
    again = paddock("catalog", "import", tmp_path / "mine.yaml", "--force", "--report", "--json")
    assert json.loads(again.out)["report"]["unknown"] == {"Nowhere": ["Grandchild"]}
    # Beside the first file the same list has nothing new.
    other = paddock("catalog", "import", tmp_path / "mine.yaml", "-o", tmp_path / "other.toml")
    assert other.code == 0 and "nothing new" in other.out and not (tmp_path / "other.toml").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["tree", "lama-1"], 2, "llama-1"),
        (["tree", "--up"], 2, "NAME"),
        (["tree", "llama-1", "-o", "a.bmp"], 2, "is no format"),
        (["tree", "llama-1", "-o", "a.jsn"], 2, "did you mean 'json'?"),
        (["tree", "llama-1", "--depth", "0"], 2, "depth"),
        (["tree", "the-pile", "--no-data"], 2, "is a dataset"),
        (["export", "--format", "svg"], 2, "needs a file"),
        (["export", "--family", "LaMA"], 2, "nearest"),
        (["import", "nothing.yaml"], 2, "is missing"),
        (["import", "x.yaml", "-o", "x.json"], 2, "no .toml"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_what_is_refused(arguments: list[str], code: int, said: str, paddock: Callable[..., Run]) -> None:
    run = paddock("catalog", *arguments)
    assert (run.code, run.out) == (code, "")
    assert said in run.err


@pytest.mark.usefixtures("few")
def test_a_circle_is_refused_and_nothing_is_written(paddock: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "round.yaml").write_text(LIST.replace("[Old, Nowhere]", "[Grandchild]"))
    run = paddock("catalog", "import", tmp_path / "round.yaml")
    assert run.code == 3 and "Grandchild <- Grandchild" in run.err
    assert not (tmp_path / "home").exists()
    assert paddock("catalog", "import", tmp_path / "round.yaml", "--break-circles").code == 0


def test_none_of_it_needs_pytorch() -> None:
    code = "import sys; import paddock.cli.descending, paddock.cli.catalog_importing; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
