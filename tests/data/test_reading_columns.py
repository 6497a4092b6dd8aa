"""Documents and examples out of CSV and TSV."""

from __future__ import annotations

import csv
import gzip
import random
import re
from pathlib import Path

import pytest

from paddock.data.instruct.options import Options
from paddock.data.instruct.reading import read_examples
from paddock.data.reading import Report, documents
from paddock.errors import DataError


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def texts(path: Path, **options: object) -> list[str]:
    return [each.text for each in documents(path, **options)]  # type: ignore[arg-type]


def test_quotes_hold_commas_line_breaks_and_quotes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text,id\r\n"one, ""two""\nthree",7\r\n\r\nfour,8\r\n')
    first, second = documents(path)
    assert first.text == 'one, "two"\nthree' and first.meta == {"id": "7"} and first.place == f"{path}:2"
    assert second.text == "four" and second.place == f"{path}:5"


def test_what_the_csv_module_writes_is_read_back(tmp_path: Path) -> None:
    rng, alphabet = random.Random(0), "ab \",\n'\té红"
    said = ["".join(rng.choices(alphabet, k=rng.randrange(1, 40))) + "." for _ in range(300)]
    with gzip.open(tmp_path / "a.csv.gz", "wt", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["n", "words"], *([str(n), text] for n, text in enumerate(said))])
    assert texts(tmp_path / "a.csv.gz", text_field="words") == said


def test_tabs_separate_and_quotes_are_quotes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 'he said "no\t0\n"yes" , he said\t1\n')
    report = Report()
    assert texts(path, text_field="0", report=report) == ['he said "no', '"yes" , he said']
    assert report.files[0].format == "tsv"
    assert texts(path, text_field="1") == ["0", "1"]


def test_how_a_table_is_told_from_text(tmp_path: Path) -> None:
    plain = "text\tlabel\na\tb\n"
    assert texts(write(tmp_path / "a.txt", plain)) == [plain]
    assert texts(write(tmp_path / "b.txt", plain), format="tsv") == ["a"]
    assert texts(write(tmp_path / "a.tsv", plain), split="lines") == ["text\tlabel", "a\tb"]
    assert texts(write(tmp_path / "b.tsv", plain), separator="\n") == ["text\tlabel", "a\tb"]


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("a,b\n1,2\n", {}, "no field 'text'.*--text-field.*'a', 'b'"),
        ("a,b\n1,2\n", {"text_field": "5"}, "no field '5'"),
        ("text,text\n1,2\n", {}, "two columns are called 'text'"),
        ("text,b\n1,2,3\n", {}, ":2: 3 columns; expected 2: text, b"),
        ('text\n"a"b\n', {}, ":2: not CSV"),
        ('text\n"a\nb\nc', {}, "not CSV"),
        ('text\n"' + "a\n" * 40, {"limit": 50}, ":2: a row of over 50 characters.*close the quotes"),
        ("text\n" + "a" * 60, {"limit": 50}, ":2: 60 bytes, where 50 are allowed"),
        (b"text\ncaf\xe9\n", {}, ":2: byte 8 .0xE9. is not UTF-8"),
        ("," * 20_000 + "\n", {}, "20001 columns"),
        ("text;b\n1;2\n", {}, "the columns stand with ';' between; expected ','"),
        ("text,b\r1,2\r", {}, ":1: not CSV: a carriage return inside a row"),
    ],
    ids=[
        "no text",
        "no number",
        "twice",
        "wider",
        "quote",
        "open",
        "long row",
        "long line",
        "bytes",
        "columns",
        "semicolons",
        "mac",
    ],
)
def test_broken_tables_are_refused(tmp_path: Path, text: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(DataError) as refused:
        texts(write(tmp_path / "a.csv", text), **options)
    assert re.search(said, str(refused.value), re.DOTALL)


def test_broken_rows_are_counted_and_passed_over(tmp_path: Path) -> None:
    path, report = write(tmp_path / "a.csv", 'text,b\n1,2,3\nfine,0\n"a"b,1\n,1\ngood,1\n'), Report()
    assert texts(path, on_error="skip", report=report) == ["fine", "good"]
    assert dict(report.dropped) == {"other columns": 1, "not CSV": 1, "empty": 1}


def test_examples_in_csv(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'instruction,input,output\n"Say ""hi"",\nplease",,Hi\n')
    (example,) = read_examples(path, Options())
    assert [turn.content for turn in example.messages] == ['Say "hi",\nplease', "Hi"]  # type: ignore[union-attr]
    labelled = read_examples(write(tmp_path / "b.csv", "sentence,label\nwell done,good\n"), Options())
    assert [(each.texts, each.label) for each in labelled] == [(("well done",), "good")]  # type: ignore[union-attr]
