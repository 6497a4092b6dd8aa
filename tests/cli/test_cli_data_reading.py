"""`paddock data inspect` and `paddock data convert`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from paddock.data.reading import documents

RECORDS = [{"text": f"text {n}", "meta": {"source": "here", "timestamp": str(n), "n": n}} for n in range(5)]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.json"
    path.write_text("".join(json.dumps(each) + "\n" for each in RECORDS))
    return path


def test_inspect_says_what_it_found(paddock: Callable, corpus: Path, tmp_path: Path) -> None:
    run = paddock("data", "inspect", corpus)
    assert run.code == 0 and "JSON lines, RedPajama v1" in run.out
    assert "documents  5" in run.out and f"{corpus}:3" in run.out and f"{corpus}:4" not in run.out
    (tmp_path / "b.txt").write_text("a\x1b[31mb\n" * 200)
    run = paddock("data", "inspect", corpus, tmp_path / "b.txt", "--json", "-n", "1")
    one, two = json.loads(run.out)
    assert (one["documents"], one["format"], one["records"][0]["meta"]["n"]) == (5, "jsonl", 0)
    assert (two["shape"], two["text_bytes"], two["compression"]) == ("one document", 1600, None)
    run = paddock("data", "inspect", tmp_path / "b.txt", terminal=True)
    assert "\x1b[31m" not in run.out and "2 files" in paddock("data", "inspect", f"{tmp_path}/*.*").out


def test_inspect_counts_what_it_drops(paddock: Callable, corpus: Path) -> None:
    with corpus.open("a") as file:
        file.write('{"text": ""}\n{"no": 1}\nnonsense\n')
    run = paddock("data", "inspect", corpus)
    assert run.code == 3 and f"{corpus}:7: no field 'text'" in run.err
    run = paddock("data", "inspect", corpus, "--on-error", "skip")
    assert run.code == 0 and "(dropped: 1 empty, 1 no field 'text', 1 not JSON)" in run.out


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.txt"])
def test_convert_keeps_every_document(paddock: Callable, corpus: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    run = paddock("data", "convert", corpus, "--output", target)
    assert run.code == 0 and "5 documents" in run.out
    found = list(documents(target))
    assert [each.text for each in found] == [each["text"] for each in RECORDS]
    if name == "a.txt":
        assert "meta: that of 5 documents was left behind" in run.err
    else:
        assert [each.meta for each in found] == [each["meta"] for each in RECORDS]
    back = tmp_path / "back.jsonl"
    assert paddock("data", "convert", target, "-o", back, "--json").code == 0
    assert [each.text for each in documents(back)] == [each.text for each in found]


def test_convert_refuses(paddock: Callable, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "there.jsonl").write_text("mine")
    for arguments, code, said in (
        (["-o", tmp_path / "there.jsonl"], 2, "--force"),
        (["-o", tmp_path / "there.xyz"], 2, ".jsonl.zst"),
        (["-o", tmp_path / "x", "--to", "jsnl"], 2, "did you mean 'jsonl'"),
        (["-o", corpus, "--force", "--to", "jsonl"], 2, "one of the files"),
        (["-o", tmp_path / "x.txt", "--separator", "text"], 3, "separates documents"),
        ([], 2, "--output"),
    ):
        run = paddock("data", "convert", corpus, *arguments)
        assert run.code == code and said in run.err, run.err
    assert (tmp_path / "there.jsonl").read_text() == "mine" and not (tmp_path / "x.txt").exists()
    assert paddock("data", "inspect", tmp_path / "none.jsonl").code == 3
    assert paddock("data", "inspect").code == 2
    assert paddock("data", "inspect", corpus, "--split", "word").code == 2


def test_the_group_shows_its_help(paddock: Callable) -> None:
    run = paddock("data")
    assert run.code == 0 and "inspect" in run.out and "convert" in run.out
    run = paddock("data", "convert", "--help")
    assert run.code == 0 and run.out.startswith("usage: paddock data convert") and "parquet" in run.out
