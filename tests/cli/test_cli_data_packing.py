"""`paddock data pack`, `show` and `mix`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paddock.cli import main


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("dogs", "cats"):
        lines = [f"{name} number {number} ran after a ball and then it slept." for number in range(300)]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
    return tmp_path


@pytest.fixture
def vocabulary(shared_data: Path) -> str:
    return str(shared_data / "weights/llama2c/tok512.bin")


def paddock(*arguments: str) -> int:
    return main(["data", *arguments])


def pack(vocabulary: str, name: str, *more: str) -> int:
    return paddock("pack", f"{name}.txt", "--split", "lines", "-t", vocabulary, "-o", name, *more)


def test_pack_show_and_mix(texts: Path, vocabulary: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert pack(vocabulary, "dogs", "--validation", "10%", "--context", "64") == 0
    assert pack(vocabulary, "cats") == 0
    said = capfd.readouterr()
    assert "each document begins with <s> (1) and ends with </s> (2)" in said.err
    assert "train: " in said.out and "validation: " in said.out and "fit" in said.out and "uint16" in said.out
    assert paddock("show", "dogs", "--context", "40", "--row", "3", "--verify") == 0
    said = capfd.readouterr()
    assert "row 3 of" in said.out and "ran after a ball" in said.out
    assert paddock("mix", "dogs/train=3", "cats=1", "-o", "mix.json", "--context", "64", "--json") == 0
    uses = json.loads(capfd.readouterr().out)["sources"]
    assert [use["share"] for use in uses] == [0.75, 0.25] and uses[0]["epochs"] > 1
    assert paddock("show", "mix.json") == 0
    assert "75.00%" in capfd.readouterr().out


def test_listings_as_json(texts: Path, vocabulary: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert pack(vocabulary, "cats", "--json", "--no-end", "--no-begin", "--context", "32") == 0
    record = json.loads(capfd.readouterr().out)["shards"]["all"]
    assert record["documents"] == 300 and record["vocabulary"]["end"] is None
    assert set(record["packings"]) == {"fit", "stream", "single"}
    assert paddock("show", "cats", "--json", "--context", "32", "--packing", "stream") == 0
    shown = json.loads(capfd.readouterr().out)["all"]
    assert sum(len(each["ids"]) for each in shown["row"]["documents"]) == 33
    assert shown["row"]["documents"][0]["text"].startswith("cats number 0")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["pack", "dogs.txt", "-t", "VOCABULARY", "-o", "x", "--validation", "150%"], 2, "--validation 150%"),
        (["pack", "dogs.txt", "-t", "VOCABULARY", "-o", "x", "--validation", "some"], 2, "--validation some"),
        (["pack", "none.txt", "-t", "VOCABULARY", "-o", "x"], 3, "none.txt"),
        (["pack", "dogs.txt", "-t", "none.json", "-o", "x"], 2, "none.json"),
        (["pack", "dogs.txt", "-t", "VOCABULARY", "-o", "."], 2, "something else"),
        (["show", "none"], 3, "none is missing"),
        (["show", "shards", "--row", "100000"], 2, "--row 100000"),
        (["show", "shards", "--packing", "tight"], 2, "tight"),
        (["mix", "shards", "-o", "m.json"], 2, "SHARDS=WEIGHT"),
        (["mix", "shards=0", "-o", "m.json"], 2, "SHARDS=WEIGHT"),
        (["mix", "shards=1", "-o", "m.yaml"], 2, "m.yaml"),
        (["mix", "none=1", "-o", "m.json"], 3, "none is missing"),
    ],
)
def test_refusals(
    texts: Path, vocabulary: str, capfd: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    assert paddock("pack", "dogs.txt", "-t", vocabulary, "-o", "shards", "--split", "lines") == 0
    capfd.readouterr()
    before = sorted(texts.rglob("*"))
    assert paddock(*(vocabulary if word == "VOCABULARY" else word for word in arguments)) == code
    said = capfd.readouterr()
    assert says in said.err and said.out == ""
    assert sorted(texts.rglob("*")) == before


def test_force_replaces(texts: Path, vocabulary: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert pack(vocabulary, "dogs") == 0
    assert pack(vocabulary, "dogs") == 2
    assert "--force replaces it" in capfd.readouterr().err
    assert pack(vocabulary, "dogs", "--force") == 0
