"""Megatron-LM's files as tokens."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.data.megatron import read_megatron
from paddock.data.packing import Stream
from paddock.data.tokens import Tokens
from paddock.errors import DataError
from paddock.tokenizer import load

DOCUMENTS = [[5, 6, 7], [8], [9, 10, 11, 12]]


def index_of(
    sizes: list[int], first: list[int] | None = None, code: int = 8, width: int = 2, version: int = 1
) -> bytes:
    begins = np.cumsum([0, *sizes])[:-1] * width
    first = list(range(len(sizes) + 1)) if first is None else first
    head = struct.pack("<9sQBQQ", b"MMIDIDX\0\0", version, code, len(sizes), len(first))
    return head + np.array(sizes, "<i4").tobytes() + begins.astype("<i8").tobytes() + np.array(first, "<i8").tobytes()


def written(folder: Path, index: bytes, ids: bytes | None = None) -> Path:
    data = np.array([id for document in DOCUMENTS for id in document], "<u2").tobytes()
    (folder / "a.idx").write_bytes(index)
    (folder / "a.bin").write_bytes(data if ids is None else ids)
    return folder / "a"


@pytest.mark.parametrize("name", ["a", "a.bin", "a.idx"])
def test_either_file_or_their_name(tmp_path: Path, name: str) -> None:
    written(tmp_path, index_of([3, 1, 4]))
    held = Tokens.open(tmp_path / name)
    assert [held.document(number).tolist() for number in range(len(held))] == DOCUMENTS


@pytest.mark.parametrize(("code", "dtype"), [(1, "u1"), (2, "i1"), (3, "<i2"), (4, "<i4"), (5, "<i8"), (8, "<u2")])
def test_every_type_of_ids(tmp_path: Path, code: int, dtype: str) -> None:
    data = np.array([id for document in DOCUMENTS for id in document], dtype)
    path = written(tmp_path, index_of([3, 1, 4], code=code, width=data.itemsize), data.tobytes())
    assert read_megatron(path).ids[0:8].tolist() == data.tolist()


def test_sequences_of_one_document_are_one(tmp_path: Path) -> None:
    held = read_megatron(written(tmp_path, index_of([3, 1, 4], [0, 2, 3])))
    assert [held.document(number).tolist() for number in range(len(held))] == [[5, 6, 7, 8], [9, 10, 11, 12]]


def test_negative_ids_are_told_when_they_are_read(tmp_path: Path) -> None:
    data = np.array([5, 6, -7, 8, 9, 10, 11, 12], "<i4")
    held = read_megatron(written(tmp_path, index_of([3, 1, 4], code=4, width=4), data.tobytes()))
    with pytest.raises(DataError, match="holds the id -7"):
        held.document(0)


GOOD = index_of([3, 1, 4])


@pytest.mark.parametrize(
    ("index", "says"),
    [
        (b"", "0 bytes"), (GOOD[:20], "20 bytes"), (GOOD[:-1], "speaks of 3 sequences"), (GOOD + b"\0", "speaks of 3"),
        (b"X" + GOOD[1:], "no Megatron index"), (index_of([3, 1, 4], version=2), "no Megatron index"),
        (index_of([3, 1, 4], code=6), "type 6"), (index_of([3, 1, 4], code=200), "type 200"),
        (GOOD[:18] + b"\xff" * 8 + GOOD[26:], "speaks of 18446744073709551615"),
        (GOOD[:26] + b"\xff" * 8 + GOOD[34:], "speaks of 3 sequences and 18446744073709551615"),
        (index_of([3, -1, 6]), "a sequence of -1 tokens"), (index_of([3, 1, 4], width=4), "sequence 1 does not begin"),
        (index_of([3, 1, 4], [0, 2, 1, 3]), "do not divide"), (index_of([3, 1, 4], [0, 2]), "do not divide"),
        (index_of([3, 1, 4], [1, 3]), "do not divide"), (index_of([3, 1, 4], []), "do not divide"),
        (index_of([3, 1, 4], [0, -1, 3]), "do not divide"), (index_of([3, 1, 5]), r"a\.bin is 16 bytes"),
        (index_of([2**31 - 1] * 3), r"a\.bin is 16 bytes"),
    ],
)  # fmt: skip
def test_a_hostile_index_is_refused(tmp_path: Path, index: bytes, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_megatron(written(tmp_path, index))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_any_byte_that_changed(tmp_path_factory: pytest.TempPathFactory, at: int, change: int) -> None:
    """Refused, or read without going outside the files."""
    index = GOOD[:at] + bytes([GOOD[at] ^ change]) + GOOD[at + 1 :]
    path = written(tmp_path_factory.mktemp("m"), index)
    try:
        held = read_megatron(path)
    except DataError:
        return
    assert sum(len(held.document(number)) for number in range(len(held))) == len(held.ids) <= 16


@pytest.mark.parametrize("name", ["a.bin", "a.idx"])
def test_half_a_pair_is_refused(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, GOOD)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=f"{name} is missing"):
        read_megatron(path.with_suffix(".idx"))


def test_a_real_pair_is_english(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "text/megatron"
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(folder / f"gpt2-tiny-{name}", tmp_path / name)
    held = Tokens.open(folder / "meg-gpt2-openwebtext_text_document.idx")
    assert (len(held), len(held.ids)) == (1000, 1_361_845)
    tokenizer = load(tmp_path)
    texts = [tokenizer.decode(held.document(number).tolist()) for number in (0, 499, 999)]
    words = [word.strip(".,") for text in texts for word in text.lower().split()]
    assert sum(word in ("the", "of", "and", "to", "a", "in", "is", "that") for word in words) > len(words) / 8
    assert len(Stream(held, 1024)) == 1329
