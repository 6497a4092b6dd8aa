"""`paddock data clean`: the table, the files, the examples, the refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paddock.cli import main

RECIPE = """
stages:
  - stage: exact
  - stage: quality
    preset: none
    limits: {words: [3, null]}
  - stage: minhash
  - stage: pii
format: jsonl
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clean.yaml").write_text(RECIPE)
    words = " ".join(f"word{n}" for n in range(200))
    texts = ["a b c d", "a  b c d", "Hi", words, words.replace("word100 ", "else "), "write to me@example.org now"]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return tmp_path


def clean(*more: str) -> int:
    return main(["data", "clean", "in.jsonl", "--recipe", "clean.yaml", "--output", "out", *more])


def test_a_table_of_stages_and_what_went_why(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert clean() == 0
    shown = capsys.readouterr()
    rows = [line.split() for line in shown.out.splitlines()]
    assert ["0", "read", "6", "6", "0", "0", "100.0%"] in rows
    assert ["1", "exact", "6", "5", "1", "0"] in [row[:6] for row in rows]
    assert ["exact", "duplicate", "1"] in rows
    assert ["words", "too", "low", "1"] in rows
    assert ["near", "duplicate", "1"] in rows
    assert ["email", "1", "x"] in rows
    assert "3 of 6 documents in 1 shards of out" in shown.out
    assert "6 documents in " in shown.err
    kept = [json.loads(line)["text"][:15] for line in (place / "out" / "shard-00000.jsonl").read_text().splitlines()]
    assert kept == ["a b c d", "word0 word1 wor", "write to <EMAIL"]
    assert clean("--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == json.loads((place / "out" / "manifest.json").read_text())
    assert "was cleaned before" in shown.err


def test_examples_of_what_was_removed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert clean("--show-removed", "near duplicate") == 0
    shown = capsys.readouterr().out
    assert "in.jsonl:5  stage 3 minhash: near duplicate" in shown
    assert "it is like in.jsonl:4, which stays" in shown
    assert clean("--show-removed", "all", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert sorted(row["reason"] for row in rows) == ["changed", "exact duplicate", "near duplicate", "words too low"]
    assert clean("--show-removed", "near duplicat") == 2
    assert "did you mean 'near duplicate'?" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert clean("--dry-run", "3") == 0
    shown = capsys.readouterr().out
    assert "0 read" in shown
    assert "nothing was written" in shown
    assert sorted(path.name for path in place.iterdir()) == ["clean.yaml", "in.jsonl"]


def test_settings_on_the_command_line_make_another_recipe(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert clean() == 0
    assert clean("--set", "chunk=5") == 2
    assert "out holds a run of another recipe" in capsys.readouterr().err
    assert clean("--set", "chunk=5", "--force") == 0
    assert clean("--set", "chunks=5") == 2
    assert "did you mean 'chunk'?" in capsys.readouterr().err


def test_refusals_have_their_codes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "in.jsonl").write_text('{"text": "fine"}\n{"text": 5}\n')
    assert clean() == 3
    assert "in.jsonl:2" in capsys.readouterr().err
    (place / "clean.yaml").write_text("stages: [{stage: exat}]")
    assert clean() == 2
    assert "did you mean 'exact'?" in capsys.readouterr().err
    (place / "clean.yaml").write_text("stages: [")
    assert clean() == 3
    (place / "clean.yaml").unlink()
    assert clean() == 3
    assert main(["data", "clean", "none.jsonl", "--recipe", "clean.yaml", "--output", "out"]) == 3
