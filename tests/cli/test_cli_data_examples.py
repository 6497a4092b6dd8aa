"""`paddock data inspect` and `paddock data convert` of examples."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from paddock.data.instruct.reading import examples

ROWS = [
    {"instruction": "Name a river.", "input": "", "output": "The Loire."},
    {"instruction": "Shout\x1b[31m", "input": "quiet", "output": "QUIET", "lang": "en"},
    {"instruction": "Say nothing.", "input": None, "output": ""},
]


@pytest.fixture
def alpaca(tmp_path: Path) -> Path:
    path = tmp_path / "alpaca.json"
    path.write_text(json.dumps(ROWS, indent=1))
    return path


def test_inspect(paddock: Callable, alpaca: Path, tmp_path: Path) -> None:
    run = paddock("data", "inspect", alpaca)
    assert run.code == 0, run.err
    assert f"{alpaca}: JSON, Alpaca: instruction, input, output" in run.out
    assert "2 of 3 records (2 conversation)" in run.out and "dropped    1 empty output" in run.out
    assert "turns      mean 2.0, longest 2" in run.out and "languages  en (1)" in run.out
    assert "user: Name a river." in run.out and "input: quiet" in run.out and "\x1b[31m" not in run.out
    (tmp_path / "text.txt").write_text("a document\n")
    run = paddock("data", "inspect", alpaca, tmp_path / "text.txt", "--json", "-n", "1")
    one, two = json.loads(run.out)
    assert (one["format"], one["examples"], one["records_read"], one["dropped"]) == (
        "alpaca",
        2,
        3,
        {"empty output": 1},
    )
    assert one["texts"]["user"] == {"count": 2, "mean": 11.5, "longest": 13} and len(one["records"]) == 1
    assert two["documents"] == 1
    assert (
        "2 files, 1 documents, 2 examples, 1 dropped" in paddock("data", "inspect", alpaca, tmp_path / "text.txt").out
    )


def test_inspect_of_what_no_format_fits(paddock: Callable, tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    path.write_text('{"review": "good", "stars": 5}\n{"review": "bad", "stars": 1}\n')
    run = paddock("data", "inspect", path)
    assert run.code == 3 and "no field 'text'" in run.err
    run = paddock("data", "inspect", path, "--field", "text=review", "--field", "label=stars")
    assert run.code == 0 and "classes   5 (1), 1 (1)" in run.out
    assert paddock("data", "inspect", path, "--field", "review").code == 2
    run = paddock("data", "inspect", path, "--format", "alpaca")
    assert run.code == 3 and f"{path}:1: not alpaca" in run.err and "no field 'instruction'" in run.err
    run = paddock("data", "inspect", path, "--format", "alpacca")
    assert run.code == 2 and "did you mean 'alpaca'?" in run.err


def test_convert(paddock: Callable, alpaca: Path, tmp_path: Path) -> None:
    target = tmp_path / "chat.jsonl"
    run = paddock("data", "convert", alpaca, "-o", target, "--licence", "CC0", "--source", "mine")
    assert run.code == 0 and "2 examples as 2 records of messages" in run.out, run.err
    assert "dropped: 1 empty output" in run.err and "lost: 1 input joined to its instruction" in run.out
    first, second = (json.loads(line) for line in target.read_text().splitlines())
    assert first["messages"][0] == {"role": "user", "content": "Name a river."}
    assert (first["license"], first["source"], second["lang"]) == ("CC0", "mine", "en")
    assert second["messages"][0]["content"].endswith("\nquiet") and "input" not in second["messages"][0]
    assert [each.origin.licence for each in examples(target)] == ["CC0", "CC0"]
    run = paddock("data", "convert", alpaca, "-o", target)
    assert run.code == 2 and "is there already" in run.err
    assert paddock("data", "convert", alpaca, "-o", target, "--keep-inputs", "--force").code == 0
    assert [each.messages for each in examples(target)] == [each.messages for each in examples(alpaca)]  # type: ignore
    run = paddock("data", "convert", alpaca, "-o", target, "--to", "sharegpt", "--bare", "--force", "--json")
    assert json.loads(run.out)["lost"] == {"input joined to its instruction": 1}
    assert set(json.loads(target.read_text().splitlines()[0])) == {"conversations"}
    run = paddock("data", "convert", alpaca, "-o", tmp_path / "x.jsonl", "--to", "llava")
    assert run.code == 3 and "no image, for which llava has no place" in run.err and not (tmp_path / "x.jsonl").exists()
    run = paddock("data", "convert", alpaca, "-o", tmp_path / "x.jsonl", "--to", "massages")
    assert run.code == 2 and "did you mean 'messages'?" in run.err


def test_convert_to_text_and_from_lines(paddock: Callable, alpaca: Path, tmp_path: Path) -> None:
    target = tmp_path / "text.jsonl"
    run = paddock("data", "convert", alpaca, "-o", target, "--to", "text", "--template", "alpaca")
    assert run.code == 0, run.err
    assert json.loads(target.read_text().splitlines()[0])["text"].endswith("### Response:The Loire.</s>")
    run = paddock("data", "convert", alpaca, "-o", tmp_path / "y.jsonl", "--to", "text")
    assert run.code == 3 and "a conversation, for which text has no place" in run.err
    (tmp_path / "a.en").write_text("one\ntwo\n")
    (tmp_path / "a.de").write_text("eins\nzwei\n")
    target = tmp_path / "pairs.tsv"
    run = paddock("data", "convert", tmp_path / "a.en", "--second", tmp_path / "a.de", "-o", target)
    assert run.code == 0 and target.read_text().splitlines()[0].startswith("source\ttarget"), run.err
    assert [each.target for each in examples(target)] == ["eins", "zwei"]  # type: ignore[union-attr]


def test_examples_as_parquet(paddock: Callable, tmp_path: Path) -> None:
    from pyarrow import parquet

    path = tmp_path / "alpaca.json"
    path.write_text('[{"instruction": "a", "input": "", "output": "b"}]')
    run = paddock("data", "convert", path, "--to", "parquet", "-o", tmp_path / "chat.parquet")
    assert run.code == 0 and "1 records of messages" in run.out
    assert parquet.read_table(tmp_path / "chat.parquet").column_names[-1] == "messages"
    again = paddock("data", "convert", tmp_path / "chat.parquet", "--to", "alpaca", "-o", tmp_path / "again.parquet")
    assert again.code == 0 and "instruction" in parquet.read_table(tmp_path / "again.parquet").column_names
    refused = paddock("data", "convert", path, "--to", "parquet", "-o", tmp_path / "chat.jsonl")
    assert refused.code == 2 and "call it chat.parquet" in refused.err
