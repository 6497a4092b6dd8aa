"""Files that are broken, huge or meant to hurt: refused by name, or dropped and counted; never in much memory."""

from __future__ import annotations

import gzip
import json
import os
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from paddock.data.reading import Report, documents
from paddock.errors import DataError, PaddockError, UsageError

GOOD = b'{"text": "good"}\n'


def texts(path: object, **options: object) -> list[str]:
    return [each.text for each in documents(path, **options)]  # type: ignore[arg-type]


BROKEN = {
    b'{"text": "cut': ("not JSON", "not JSON"),
    b'{"title": "no text"}': ("no field 'text'", "no field 'text'"),
    b'{"text": null}': ("'text' is null", "field 'text' is null"),
    b'{"text": 7}': ("'text' is a number", "field 'text' is a number"),
    b'{"text": ["a"]}': ("'text' is a list", "field 'text' is a list"),
    b"[1, 2]": ("no record", "a list"),
    b"null": ("no record", "null"),
    b'{"text": "x", "n": NaN}': ("not JSON", "NaN is no JSON"),
    b'{"text": "\\ud800"}': ("half a character", "U+D800"),
    b'{"text": "caf\xe9"}': ("not UTF-8", "byte 30 (0xE9) is not UTF-8"),
    b'{"text": ' + b"[" * 100_000: ("not JSON", "not JSON|nested too deeply"),
    b'{"text": "x", "n": ' + b"9" * 5000 + b"}": ("not JSON", "not JSON"),
    b'{"text": "' + b"y" * 2000 + b'"}': ("too long", "2012 bytes, where 1000 are allowed"),
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda line: line[:24].decode("latin-1"))
def test_a_broken_record_is_named_or_counted(tmp_path: Path, broken: bytes) -> None:
    reason, said = BROKEN[broken]
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD + broken + b"\n" + GOOD)
    limit = 1000 if reason == "too long" else 2**20
    with pytest.raises(DataError) as refused:
        texts(path, limit=limit)
    assert f"{path}:2: " in str(refused.value) and any(each in str(refused.value) for each in said.split("|"))
    report = Report()
    assert texts(path, limit=limit, on_error="skip", report=report) == ["good", "good"]
    assert report.dropped == {reason: 1} and report.kept == 2


def test_a_refusal_names_the_fields_there_are(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"content": "x", "n": 1}')
    with pytest.raises(DataError, match="--text-field: 'content'"):
        texts(path)
    path.write_text('{"quality_signals": {}}')
    with pytest.raises(DataError, match="quality signals"):
        texts(path)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'[{"text": "x"}', "the array has no end"),
        (b'[{"text": "x"} {"text": "y"}]', "behind a value"),
        (b'[{"text": "x"},]', "a comma without a value"),
        (b'[{"text": "x"}] more', "behind the array"),
        (b'[{"text": "x"},\n{"text": "cut', "line 2: not JSON"),
        (b'[{"text": "\xff"}]', "byte 11 is not UTF-8"),
        (b"[" * 200_000, "nested too deeply"),
        (b'[{"text": "' + b"x" * 5000 + b'"}]', "a value of over 1000 characters"),
    ],
)
def test_broken_arrays(tmp_path: Path, body: bytes, said: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(body)
    for on_error in ("stop", "skip"):  # what comes behind cannot be found, so that there is nothing to pass over
        with pytest.raises(DataError) as refused:
            texts(path, limit=1000, on_error=on_error)
        assert str(path) in str(refused.value) and said in str(refused.value)


def test_records_of_an_array_can_be_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"text": "a"}, {"txt": "b"}, 3, {"text": "c"}]')
    report = Report()
    assert texts(path, on_error="skip", report=report) == ["a", "c"]
    assert report.dropped == {"no field 'text'": 1, "no record": 1}


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("a.zip", b"PK\x03\x04....", "a zip archive"),
        ("a.xz", b"\xfd7zXZ\0\0\0", "compressed by xz"),
        ("a.bz2", b"BZh91AY&", "compressed by bzip2"),
        ("a.pdf", b"%PDF-1.4 ....", "a PDF"),
        ("a.idx", b"MMIDIDX\0\0", "Megatron"),
        ("a.txt", b"caf\xe9 au lait", "byte 3 (0xE9) is not UTF-8"),
        ("a.txt", "hallo".encode("utf-16"), "UTF-16"),
        ("a.txt", "hallo".encode("utf-16-le"), "NUL bytes"),
        ("a.json", b"hello", "is no JSON"),
        ("a.gz", b"", "empty (0 bytes)"),
        ("a.parquet", b"PAR1 and nothing more", "Parquet"),
        ("a.gz", gzip.compress(GOOD, mtime=0)[:-4], "ends in the middle"),
        ("a.gz", gzip.compress(GOOD, mtime=0)[:-8] + b"\0" * 8, "cannot be decompressed"),
        ("a.gz", gzip.compress(GOOD, mtime=0) + b"trailing", "cannot be decompressed"),
        ("a.zst", zstandard.compress(GOOD)[:-3], "ends in the middle"),
        ("a.zst", zstandard.compress(GOOD) + b"trailing", "cannot be decompressed"),
        ("a.zst", b"\x28\xb5\x2f\xfd\xff\xff\xff\xff", "cannot be decompressed|ends in the middle"),
    ],
)
def test_files_that_are_no_documents(tmp_path: Path, name: str, body: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(body)
    with pytest.raises(DataError) as refused:
        texts(path)
    assert str(path) in str(refused.value) and any(each in str(refused.value) for each in said.split("|"))


@pytest.mark.parametrize("body", [b"", b"\n\n  \n", b"\xef\xbb\xbf"])
def test_empty_files_hold_no_documents(tmp_path: Path, body: bytes) -> None:
    for name in ("a.txt", "a.jsonl", "a.json"):
        (tmp_path / name).write_bytes(body)
        report = Report()
        assert texts(tmp_path / name, report=report) == [] and report.files[0].format == "empty"
    (tmp_path / "a.gz").write_bytes(gzip.compress(body))
    assert texts(tmp_path / "a.gz") == []


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="not a regular file"):
        texts(tmp_path / "pipe")
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0)
    if os.geteuid():
        with pytest.raises(DataError, match="Permission denied"):
            texts(tmp_path / "secret")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(DataError):
        texts(tmp_path / "loop")


def test_a_file_removed_or_changed_while_it_is_read(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_bytes(GOOD * 50_000)
    stream = documents([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    next(stream)
    (tmp_path / "b.jsonl").unlink()
    with pytest.raises(DataError, match=r"b\.jsonl is not there"):
        list(stream)
    for change in (lambda file: file.truncate(len(GOOD) * 30_000), lambda file: file.write(GOOD)):
        path = tmp_path / "a.jsonl"
        path.write_bytes(GOOD * 50_000)
        stream = documents(path)
        next(stream)
        with path.open("ab") as file:
            change(file)
        with pytest.raises(DataError, match="changed while it was read"):
            list(stream)


def peak(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_one_enormous_line_is_refused_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "')
        for _ in range(64):
            file.write(b"x" * 2**20)
        file.write(b'"}\n' + GOOD)
    report = Report()
    found: list[str] = []
    assert peak(lambda: found.extend(texts(path, limit=2**20, on_error="skip", report=report))) < 8 * 2**20
    assert found == ["good"] and report.dropped == {"too long": 1}
    with pytest.raises(DataError, match=r"a\.jsonl:1: 67108876 bytes, where 33554432 are allowed"):
        texts(path)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_bombs(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bomb{suffix}"
    block = b"\0" * 2**20
    if suffix == ".gz":
        one = gzip.compress(block * 64, 9)
        path.write_bytes(one * 2)
    else:
        path.write_bytes(zstandard.ZstdCompressor(level=19).compress(block * 128))
    for options in ({"format": "text"}, {"format": "jsonl", "on_error": "skip"}):
        refused = None

        def read(options: dict = options) -> None:
            nonlocal refused
            try:
                texts(path, limit=2**20, **options)
            except DataError as error:
                refused = error

        assert peak(read) < 40 * 2**20
        assert "grows to more than 1000 times its size" in str(refused)


def test_a_window_that_no_machine_has(tmp_path: Path) -> None:
    header = b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([31 - 10 << 3]) + b"\x01\x00\x00"
    (tmp_path / "a.zst").write_bytes(header)
    with pytest.raises(DataError, match="window of more than 128 MiB"):
        texts(tmp_path / "a.zst")


def test_a_text_repeated_in_parquet_is_not_multiplied(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    text = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 1000, pyarrow.int32()), ["x" * 2**22])
    parquet.write_table(pyarrow.table({"text": text}), path, store_schema=False)
    assert path.stat().st_size < 10**6
    stream = documents(path)
    before = pyarrow.total_allocated_bytes()
    assert peak(lambda: next(stream)) < 2**25
    assert pyarrow.total_allocated_bytes() - before < 2**25
    with pytest.raises(DataError, match=r"row 1: 4194304 characters"):
        texts(path, limit=1000)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_files_are_refused_or_read_and_never_worse(tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)
    records = [{"text": f"text {n} äöü 你好", "meta": {"n": n}} for n in range(50)]
    plain = "".join(json.dumps(each) + "\n" for each in records).encode()
    parquet.write_table(pyarrow.table({"text": [each["text"] for each in records]}), tmp_path / "p")
    wholes = [plain, json.dumps(records).encode(), gzip.compress(plain), zstandard.compress(plain)]
    for whole in (*wholes, (tmp_path / "p").read_bytes()):
        for _ in range(60):
            damaged = bytearray(whole[: choose.randrange(len(whole))] if choose.random() < 0.3 else whole)
            for _ in range(choose.randrange(4)):
                if damaged:
                    damaged[choose.randrange(len(damaged))] = choose.randrange(256)
            (tmp_path / "damaged").write_bytes(damaged)
            try:
                for document in documents(tmp_path / "damaged", on_error=choose.choice(("stop", "skip"))):
                    assert isinstance(document.text, str)
            except PaddockError as error:
                assert "damaged" in str(error)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": "jsnl"}, "did you mean 'jsonl'"),
        ({"split": "line"}, "did you mean 'lines'"),
        ({"on_error": "ignore"}, "stop, skip"),
        ({"errors": "surrogateescape"}, "strict, replace, ignore"),
        ({"encoding": "zlib"}, "a text encoding"),
        ({"encoding": "utf8\0"}, "a text encoding"),
        ({"separator": ""}, "separator is empty"),
        ({"separator": "x", "split": "lines"}, "exclude each other"),
        ({"limit": 0}, "limit=0"),
        ({"limit": True}, "limit=True"),
        ({"text_field": ""}, "text_field is empty"),
    ],
)
def test_options_that_cannot_be_meant(tmp_path: Path, options: dict, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        documents(tmp_path, **options)
    assert said in str(refused.value)
    with pytest.raises(UsageError, match="no files"):
        documents([])


def test_an_encoding_that_does_not_fit_names_the_byte(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("红楼梦".encode("gb18030") + b"\xff\xff")
    with pytest.raises(DataError, match="byte 6 is not gb18030"):
        texts(tmp_path / "a.txt", encoding="gb18030")
