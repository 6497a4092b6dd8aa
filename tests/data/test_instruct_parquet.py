"""Examples as Parquet: columns that other programs read, values that come back as they were, equal bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from paddock.data.instruct.reading import examples
from paddock.data.instruct.records import Conversation, Labelled, Message, Origin, Pair
from paddock.data.instruct.writing import write_examples
from paddock.data.reading.tables import rows
from paddock.errors import DataError

CALL = [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
TALKS = [
    Conversation((Message("user", "hello"), Message("assistant", "你好"))),
    Conversation(
        (
            Message("user", "1 + 1"),
            Message("assistant", "", None, {"tool_calls": CALL}),
            Message("tool", "2", None, {"name": "add"}),
            Message("assistant", "It is 2."),
        ),
        (TOOL,),
        Origin(id="a", licence="MIT", meta={"score": 2, "tags": ["x", 1]}),
    ),
    Conversation((Message("user", "a", False), Message("assistant", "b", True))),
]


def test_other_programs_read_columns_of_their_own(tmp_path: Path) -> None:
    write_examples(TALKS[:1] * 3, tmp_path / "a.parquet", "messages")
    table = parquet.read_table(tmp_path / "a.parquet")
    assert table.column("messages").type == pyarrow.large_list(
        pyarrow.struct([("role", pyarrow.large_string()), ("content", pyarrow.large_string())])
    )
    assert table.column("messages")[2].as_py()[1] == {"role": "assistant", "content": "你好"}
    write_examples(TALKS[:1], tmp_path / "b.parquet", "alpaca")
    assert parquet.read_table(tmp_path / "b.parquet").to_pylist()[0]["instruction"] == "hello"


def test_what_is_of_no_one_type_comes_back_as_it_was(tmp_path: Path) -> None:
    write_examples(TALKS, tmp_path / "a.parquet", "messages")
    write_examples(TALKS, tmp_path / "a.jsonl", "messages")
    assert list(examples(tmp_path / "a.parquet")) == TALKS
    plainly = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [record for _, record in rows(tmp_path / "a.parquet", "text")] == plainly
    labels = [
        Labelled(("a",), ("x", "y")), Labelled(("b",), ()), Labelled(("c",), "x"), Labelled(("d",), 0.5),
        Labelled(("e",), str(2**70)),
    ]  # fmt: skip
    write_examples(labels, tmp_path / "b.parquet")
    assert list(examples(tmp_path / "b.parquet")) == labels


def test_equal_examples_make_equal_bytes_in_many_groups(tmp_path: Path) -> None:
    many = [Pair(f"number {n}", "é" * (n % 7 + 1)) for n in range(2500)]
    for name in ("a", "b"):
        write_examples(many, tmp_path / f"{name}.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert parquet.ParquetFile(tmp_path / "a.parquet").metadata.num_row_groups == 3
    assert list(examples(tmp_path / "a.parquet")) == many


def test_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"before")
    with pytest.raises(DataError, match="has no place"):
        write_examples([Pair("a", "b"), Labelled(("a",), "b")], tmp_path / "a.parquet", "pairs")
    assert [each.name for each in tmp_path.iterdir()] == ["a.parquet"]
    assert (tmp_path / "a.parquet").read_bytes() == b"before"


@pytest.mark.parametrize("text", ["{", "[" * 100_000, ""], ids=["broken", "deep", "empty"])
def test_strings_that_only_say_they_are_json(text: str, tmp_path: Path) -> None:
    mark: dict[Any, Any] = {"paddock": "json"}
    field = pyarrow.field("text", pyarrow.string(), metadata=mark)
    schema = pyarrow.schema([field], metadata={"paddock": "examples"})
    parquet.write_table(pyarrow.table({"text": [text]}, schema), tmp_path / "a.parquet")
    assert [record for _, record in rows(tmp_path / "a.parquet", "text")] == [{"text": text}]


def test_nulls_of_other_programs_stay(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"text": ["a"], "meta": pyarrow.array([None])}), tmp_path / "a.parquet")
    assert [record for _, record in rows(tmp_path / "a.parquet", "text")] == [{"text": "a", "meta": None}]
