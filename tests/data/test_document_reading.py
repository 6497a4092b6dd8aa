"""Documents out of every format, told by their content."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from paddock.data.document import Document
from paddock.data.reading import Report, documents
from paddock.data.writing import SUFFIXES, write_documents
from paddock.errors import DataError, UsageError

RED_PAJAMA = {"text": "A page about geese.", "meta": {"source": "wiki", "timestamp": "2023-04-01", "language": "en"}}
ON_HUB = {
    "text": "Ein Satz über Gänse.",
    "meta": "{'source': 'wiki', 'timestamp': '2023-04-01', 'counts': (1, 2), 'quote': 'it\\'s'}",
    "red_pajama_subset": "wikipedia",
}
C4 = {"text": "Buy two lamps.", "timestamp": "2019-04-25T12:57:54Z", "url": "http://example.org/lamps"}
WIKIPEDIA = {"id": "12", "url": "https://example.org/wiki/Goose", "title": "Goose", "text": "A goose is a bird."}
CC_NET = {
    "url": "http://example.org/a", "date_download": "2019-01-16T00:32:20Z", "digest": "sha1:ABC", "length": 12,
    "nlines": 1, "source_domain": "example.org", "title": "A", "raw_content": "Ducks\nswim.", "original_nlines": 4,
    "original_length": 40, "language": "en", "language_score": 0.96, "perplexity": 341.2,
}  # fmt: skip


def lines(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def texts(path: object, **options: object) -> list[str]:
    return [each.text for each in documents(path, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("record", "shape", "text", "meta"),
    [
        (RED_PAJAMA, "RedPajama v1", "A page about geese.", {"source": "wiki", "language": "en"}),
        (ON_HUB, "RedPajama v1", "Ein Satz über Gänse.", {"counts": [1, 2], "quote": "it's"}),
        (
            {**ON_HUB, "meta": json.dumps(RED_PAJAMA["meta"])},
            "RedPajama v1",
            "Ein Satz über Gänse.",
            {"source": "wiki"},
        ),
        (C4, "C4", "Buy two lamps.", {"url": "http://example.org/lamps"}),
        (WIKIPEDIA, "Wikipedia", "A goose is a bird.", {"title": "Goose", "id": "12"}),
        (CC_NET, "cc_net (text in 'raw_content')", "Ducks\nswim.", {"language_score": 0.96, "digest": "sha1:ABC"}),
        ({"text": "x"}, "texts", "x", {}),
        ("a text alone", "texts", "a text alone", {}),
    ],
)
def test_the_shapes_of_published_sets(tmp_path: Path, record: object, shape: str, text: str, meta: dict) -> None:
    for name, whole in (("a.jsonl", f"{json.dumps(record)}\n"), ("b.json", json.dumps([record], indent=2))):
        path = tmp_path / name
        path.write_text(whole)
        report = Report()
        (document,) = documents(path, report=report)
        if isinstance(record, str) and name == "a.jsonl":
            continue  # a quoted line in a .jsonl is read as JSON by its name, which the next assertion holds for
        assert (document.text, report.files[0].shape) == (text, shape)
        assert meta.items() <= document.meta.items() and "text" not in document.meta


def test_a_field_that_both_the_record_and_its_meta_have_is_kept_twice(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"text": "x", "url": "outer", "meta": {"url": "inner"}})
    (document,) = documents(path)
    assert document.meta == {"url": "outer", "meta.url": "inner"}


def test_meta_that_is_no_literal_stays_what_it_is(tmp_path: Path) -> None:
    called = "{'a': __import__('os').getpid()}"
    path = lines(tmp_path / "a.jsonl", {"text": "x", "meta": called}, {"text": "y", "meta": "{" * 100_000})
    first, second = documents(path)
    assert first.meta == {"meta": called} and second.meta == {"meta": "{" * 100_000}


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.txt", "a"])
def test_lines_and_arrays_are_told_by_content(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text('{"text": "one"}\n{"text": "two"}\n')
    report = Report()
    assert texts(path, report=report) == ["one", "two"] and report.files[0].format == "jsonl"
    path.write_text('\n [ {"text": "one"},\n{"text":"two"} ]\n')
    report = Report()
    assert texts(path, report=report) == ["one", "two"] and report.files[0].format == "json"
    path.write_text('{\n  "text": "one"\n}\n{\n "text": "two"}')
    if name != "a.jsonl":  # there it is a broken line
        assert texts(path) == ["one", "two"]


@pytest.mark.parametrize("text", ["[Music] plays", "[", "{x} is a set", "{\n", "plain"])
def test_text_that_only_looks_like_json(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    assert texts(path) == [text]


def test_what_a_document_of_plain_text_is(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\ntwo\n\n \nthree\n")
    assert texts(path) == ["one\ntwo\n\n \nthree\n"]
    assert texts(path, split="lines") == ["one", "two", "three"]
    assert texts(path, split="paragraphs") == ["one\ntwo", "three"]
    assert texts(path, separator="\n\n") == ["one\ntwo", " \nthree\n"]
    assert [each.place for each in documents(path, split="paragraphs")] == [f"{path}:1", f"{path}:5"]
    path.write_bytes(b"one\n<|endoftext|>\ntwo\n\n<|endoftext|>\n\n<|endoftext|>")
    report = Report()
    assert texts(path, report=report) == ["one", "two\n"] and report.dropped == {"empty": 1}
    assert "<|endoftext|>" in report.files[0].detected
    assert texts(path, split="file") == [path.read_text()]


@pytest.mark.parametrize("split", ["auto", "file", "lines", "paragraphs"])
def test_byte_order_mark_and_line_ends_make_no_difference(tmp_path: Path, split: str) -> None:
    plain = "eins\nzwei äöü\n\n  drei\n<|endoftext|>\nvier 你好\n"
    (tmp_path / "a.txt").write_bytes(plain.encode())
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbf" + plain.replace("\n", "\r\n").encode())
    assert texts(tmp_path / "a.txt", split=split) == texts(tmp_path / "b.txt", split=split)
    record = '{"text": "a\\r\\nb"}\n\n{"text": "c"}\n'
    (tmp_path / "c").write_bytes(record.encode())
    (tmp_path / "d").write_bytes(b"\xef\xbb\xbf" + record.replace("\n", "\r\n").encode())
    assert texts(tmp_path / "c") == texts(tmp_path / "d") == ["a\r\nb", "c"], "text inside JSON is as it was written"


@pytest.mark.parametrize("size", [1, 2, 7, 64, 2**18])
def test_where_a_stream_is_cut_makes_no_difference(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddock.data.reading.opening.CHUNK", size)
    bodies = {
        "a.txt": "\ufeffone äöü\r\n<|endoftext|>\r\ntwo 你好<|endoftext|<|endoftext|>three".encode(),
        "a.json": '\ufeff[{"text": "é\\n\\"x]"}, {"text": "two", "n": [1, {"a": "}"}]}]'.encode(),
        "a.jsonl": '{"text": "one"}\n\n{"text": "你"}'.encode(),
    }
    for name, body in bodies.items():
        for suffix, pack in (("", bytes), (".gz", gzip.compress), (".zst", zstandard.compress)):
            path = tmp_path / (name + suffix)
            path.write_bytes(pack(body))
            wanted = {"a.txt": ["one äöü", "two 你好<|endoftext|", "three"], "a.json": ['é\n"x]', "two"]}
            assert texts(path) == wanted.get(name, ["one", "你"])


def test_several_members_and_frames_are_one_stream(tmp_path: Path) -> None:
    one, two = b'{"text": "one"}\n', b'{"text": "two"}\n'
    (tmp_path / "a.gz").write_bytes(gzip.compress(one) + gzip.compress(two) + b"\0" * 20)
    skipped = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip"
    (tmp_path / "b.zst").write_bytes(skipped + zstandard.compress(one) + zstandard.compress(two))
    assert texts(tmp_path / "a.gz") == texts(tmp_path / "b.zst") == ["one", "two"]


def test_other_encodings(tmp_path: Path) -> None:
    text = "红楼梦\n第一回"
    for encoding in ("gb18030", "utf-16", "utf-16-le", "utf-32", "big5hkscs"):
        body = "hello" if encoding == "big5hkscs" else text
        (tmp_path / "a.txt").write_bytes(body.encode(encoding))
        assert texts(tmp_path / "a.txt", encoding=encoding) == [body]
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    assert texts(tmp_path / "a.txt", encoding="latin-1") == ["café"]
    assert texts(tmp_path / "a.txt", errors="replace") == ["caf\ufffd"]
    assert texts(tmp_path / "a.txt", errors="ignore") == ["caf"]


def test_parquet_with_columns_of_every_kind(tmp_path: Path) -> None:
    table = pyarrow.table(
        {
            "text": pyarrow.array(["one", "two", "two"] * 50).dictionary_encode(),
            "score": pyarrow.array([0.5, float("nan"), None] * 50),
            "when": pyarrow.array([0, 1, 2] * 50, pyarrow.timestamp("s")),
            "tags": pyarrow.array([["a"], [], None] * 50),
            "raw": pyarrow.array([b"\x01"] * 150),
        }
    )
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=40)
    found = list(documents(tmp_path / "a.parquet"))
    assert [each.text for each in found] == ["one", "two", "two"] * 50
    assert found[1].meta == {"score": None, "when": "1970-01-01 00:00:01", "tags": [], "raw": "01"}
    assert found[-1].place.endswith("row 150")
    with pytest.raises(DataError, match=r"row 1: no field 'txt'"):
        texts(tmp_path / "a.parquet", text_field="txt")


def test_files_folders_and_patterns(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b.txt", "a.txt", "deep/c.txt", "deep/er/d.md", ".hidden"):
        (tmp_path / name).write_text(name)
    assert texts(tmp_path) == ["a.txt", "b.txt", "deep/c.txt", "deep/er/d.md"]
    assert texts(f"{tmp_path}/*.txt") == ["a.txt", "b.txt"]
    assert texts([tmp_path / "b.txt", f"{tmp_path}/**/*.md"]) == ["b.txt", "deep/er/d.md"]
    (tmp_path / "x[1].txt").write_text("brackets")
    assert texts(tmp_path / "x[1].txt") == ["brackets"], "a file that is there is no pattern"
    with pytest.raises(DataError, match="names no file"):
        texts(f"{tmp_path}/*.none")
    with pytest.raises(DataError, match=r"(?s)is not there.*did you mean 'a.txt'"):
        texts(tmp_path / "a.tx")
    with pytest.raises(UsageError, match="address"):
        texts("https://example.org/a.txt")


DOCUMENTS = [
    Document(
        'One.\n\nTwo \\ "three"\t四 🙂\r\nfive', "1", {"url": "http://example.org", "n": 3, "list": [1, None, "ü"]}
    ),
    Document("\nline breaks around\n", "2"),
    Document("x" * 300_000, "3", {"meta": "its own", "text": "a field of that name"}),
    Document("\ufeff mark inside", "4", {"nested": {"a": {"b": True}}, "nan": 0.1}),
]


@pytest.mark.parametrize("kind", SUFFIXES)
def test_what_is_written_is_read_again(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a{SUFFIXES[kind]}"
    assert write_documents(DOCUMENTS, path) == len(DOCUMENTS)
    found = list(documents(path))
    if kind == "txt":
        assert [each.text for each in found] == [each.text.replace("\r\n", "\n") for each in DOCUMENTS]
    else:
        assert [(each.text, each.meta) for each in found] == [(each.text, each.meta) for each in DOCUMENTS]
    first = path.read_bytes()
    write_documents(DOCUMENTS, path, kind)
    assert path.read_bytes() == first, "equal documents make equal bytes"


@pytest.mark.parametrize("kind", SUFFIXES)
def test_nothing_written_is_nothing_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a{SUFFIXES[kind]}"
    assert write_documents([], path) == 0
    assert texts(path) == []


def test_plain_text_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="separates documents"):
        write_documents([Document("a<|endoftext|>b", "here")], tmp_path / "a.txt")
    assert not (tmp_path / "a.txt").exists()
    write_documents([Document("a<|endoftext|>b", "here"), Document("c", "")], tmp_path / "a.txt", separator="=====")
    assert texts(tmp_path / "a.txt", separator="=====") == ["a<|endoftext|>b", "c"]


def test_half_a_character_in_meta_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x", "meta": {"a": "\\ud800"}}')
    write_documents(documents(path), tmp_path / "b.jsonl")
    assert next(documents(tmp_path / "b.jsonl")).meta == {"a": "\ud800"}


def test_real_texts(shared_data: Path) -> None:
    report = Report()
    names = ("tinystories_sample.txt", "c4_demo.jsonl", "botchan.txt")
    found = list(documents([shared_data / "text" / name for name in names], report=report))
    assert [file.kept for file in report.files] == [1621, 300, 1] and report.kept == len(found)
    assert not found[-1].text.startswith("\ufeff") and "\r" not in found[-1].text
