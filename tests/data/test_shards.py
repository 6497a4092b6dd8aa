"""Token shards: what is written is read, equal documents give equal bytes, and nothing broken is taken for sound."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.data import shard_writing, shards, tokens
from paddock.data.packing import Fit, Stream
from paddock.data.shard_writing import ShardWriter, whole_folder, write_shards
from paddock.data.shards import check_tokenizer, fingerprint, open_tokens, read_index
from paddock.data.tokens import FileIds, TokenFile, Tokens, Vocabulary
from paddock.errors import DataError, PaddockError, ResourceError, UsageError
from paddock.tokenizer import load

WORDS = Vocabulary(1000, "f" * 64, end=0)
DOCUMENTS = [[(7 * start + i) % 1000 for i in range(start % 13)] for start in range(100)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine files of about 64 ids."""
    write_shards(DOCUMENTS, tmp_path / "shards", WORDS, shard_tokens=64)
    return tmp_path / "shards"


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    record = json.loads((folder / "index.json").read_bytes())
    change(record)
    (folder / "index.json").write_text(json.dumps(record))


def test_many_files_look_like_one(folder: Path) -> None:
    held, flat = Tokens.open(folder, verify=True), [id for document in DOCUMENTS for id in document]
    assert len(list(folder.glob("tokens-*.bin"))) > 5
    assert [held.document(number).tolist() for number in range(len(held))] == DOCUMENTS
    assert len(held.ids) == len(flat)
    for start in range(0, len(flat), 17):
        for stop in range(start, len(flat) + 40, 29):
            assert held.ids[start:stop].tolist() == flat[start:stop]
    assert held.vocabulary == WORDS
    assert [text.tolist() for text in Stream(held, 50).texts(3)] == [
        t.tolist() for t in Stream(Tokens.of(DOCUMENTS), 50).texts(3)
    ]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.lists(st.integers(0, 999), max_size=12), max_size=30), st.integers(1, 40))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]], size: int
) -> None:
    goal = tmp_path_factory.mktemp("x") / "shards"
    index = write_shards(documents, goal, WORDS, shard_tokens=size)
    held = open_tokens(goal, verify=True)
    assert [held.document(number).tolist() for number in range(len(held))] == documents
    assert (index.documents, index.tokens) == (len(documents), sum(map(len, documents)))
    longest = max(map(len, documents), default=0)
    assert all(file.tokens < size + max(longest, 1) for file in index.files)


def test_equal_documents_give_equal_bytes(tmp_path: Path) -> None:
    for name, kind in (("a", list), ("b", np.array), ("c", lambda ids: np.array(ids, np.uint16))):
        write_shards((kind(document) for document in DOCUMENTS if document), tmp_path / name, WORDS, shard_tokens=64)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b") == bytes_of(tmp_path / "c")


@pytest.mark.parametrize(("size", "dtype"), [(2**16, "uint16"), (2**16 + 1, "uint32"), (2**32, "uint32")])
def test_ids_take_the_room_that_the_vocabulary_needs(tmp_path: Path, size: int, dtype: str) -> None:
    write_shards([[0, size - 1]], tmp_path / "s", Vocabulary(size))
    held = open_tokens(tmp_path / "s")
    assert held.ids.dtype == dtype and held.document(0).tolist() == [0, size - 1]
    stored = np.array([0, size - 1], np.dtype(dtype).newbyteorder("<")).tobytes()
    assert (tmp_path / "s" / "tokens-00000.bin").read_bytes() == stored


def test_counts_are_kept_for_each_source(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, WORDS) as writer:
        for number, document in enumerate(DOCUMENTS):
            writer.add(document, "even" if number % 2 == 0 else "odd")
    sources = read_index(tmp_path).sources
    assert {name: (each.documents, each.tokens) for name, each in sources.items()} == {
        "even": (50, sum(map(len, DOCUMENTS[::2]))), "odd": (50, sum(map(len, DOCUMENTS[1::2]))),
    }  # fmt: skip


@pytest.mark.parametrize("document", [[1000], [-1], [2**70], [1.5], ["a"], [[1]], [True, None]])
def test_what_is_no_id_is_refused(tmp_path: Path, document: list[Any]) -> None:
    with pytest.raises(DataError, match="document 1"):
        write_shards([[1], document], tmp_path / "shards", WORDS)
    assert list(tmp_path.iterdir()) == []


# A writer that fails.


class Faults:
    """The n-th operation of the file system fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, error: int) -> None:
        self.left, self.failed = number, False
        for owner, name in (
            (os, "fsync"),
            (Path, "open"),
            (Path, "mkdir"),
            (Path, "rename"),
            (shard_writing._Output, "write"),
        ):
            monkeypatch.setattr(owner, name, self.counted(getattr(owner, name), error))

    def counted(self, real: Callable[..., Any], error: int) -> Callable[..., Any]:
        def operation(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                self.failed = True
                raise OSError(error, os.strerror(error))
            return real(*arguments, **named)

        return operation


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_at_any_operation_leaves_what_was_there(tmp_path: Path, error: int) -> None:
    goal = tmp_path / "shards"
    write_shards([[1, 2, 3]], goal, WORDS)
    write_shards(DOCUMENTS[:8], tmp_path / "new", WORDS, shard_tokens=16, files={"v.txt": b"v"})
    before, after, number = bytes_of(goal), bytes_of(tmp_path / "new"), 0
    shutil.rmtree(tmp_path / "new")
    while True:
        number += 1
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, number, error)
            try:
                write_shards(DOCUMENTS[:8], goal, WORDS, shard_tokens=16, files={"v.txt": b"v"}, replace=True)
            except PaddockError as refusal:
                assert isinstance(refusal, ResourceError) == (error == errno.ENOSPC)
                assert "shards" in str(refusal)
            else:
                assert not faults.failed
                break
        left = [path.name for path in tmp_path.iterdir() if not path.name.endswith(".replaced")]
        assert left == ["shards"]
        assert open_tokens(goal, verify=True)
        if bytes_of(goal) != before:  # the flush of the parent folder failed, after the new one was in place
            assert bytes_of(goal) == after
            shutil.rmtree(goal)
            write_shards([[1, 2, 3]], goal, WORDS)
        for old in tmp_path.glob(".*.replaced"):
            shutil.rmtree(old)
    assert number > 20


@pytest.mark.parametrize("room", [1, 100, 300, 700])
def test_files_that_may_not_grow(tmp_path: Path, room: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        with pytest.raises(ResourceError, match="no space left"):
            write_shards(DOCUMENTS, tmp_path / "shards", WORDS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), ValueError("broken input")])
def test_documents_that_stop_leave_nothing(tmp_path: Path, failure: BaseException) -> None:
    def stopping() -> Any:
        yield from DOCUMENTS
        raise failure

    with pytest.raises(type(failure)):
        write_shards(stopping(), tmp_path / "shards", WORDS, shard_tokens=64)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_removed_and_a_living_one_is_let_be(tmp_path: Path) -> None:
    dead = tmp_path / ".shards.00000000.partial"
    (dead / "train").mkdir(parents=True)
    with whole_folder(tmp_path / "shards") as living:
        write_shards([[5]], tmp_path / "shards", WORDS)
        assert living.exists() and not dead.exists()
        shutil.rmtree(tmp_path / "shards")
        (living / "index.json").write_text("mine")
    assert [path.name for path in tmp_path.rglob("*")] == ["shards", "index.json"]


def test_only_shards_are_replaced_and_only_if_asked(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there already"):
        write_shards([[5]], folder, WORDS)
    write_shards([[5]], folder, WORDS, replace=True)
    assert open_tokens(folder).document(0).tolist() == [5]
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter.txt").write_text("years of work")
    with pytest.raises(UsageError, match="something else"):
        write_shards([[5]], foreign, WORDS, replace=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="no folder"), whole_folder(tmp_path / "file", replace=True):
        pass
    assert (foreign / "chapter.txt").read_text() == "years of work"


# Files that are not what the index says.


def damaged(folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    path = folder / name
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize("name", ["tokens-00003.bin", "ends.bin"])
@pytest.mark.parametrize(
    "change",
    [lambda b: b[:-1], lambda b: b[:-8], lambda b: b"", lambda b: b + b"\0\0", lambda b: bytes([b[0] ^ 1]) + b[1:]],
)
def test_a_file_that_changed_is_refused_by_name(folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    damaged(folder, name, change)
    with pytest.raises(DataError, match=name):
        open_tokens(folder)


def test_swapped_files_are_refused(tmp_path: Path) -> None:
    write_shards([[n] * 10 for n in range(6)], tmp_path / "s", WORDS, shard_tokens=10)
    one, other = tmp_path / "s" / "tokens-00001.bin", tmp_path / "s" / "tokens-00002.bin"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    with pytest.raises(DataError, match=r"tokens-00001\.bin is not the file.*swapped"):
        open_tokens(tmp_path / "s")


def test_the_middle_of_a_file_is_checked_when_asked(tmp_path: Path) -> None:
    write_shards([list(range(1000)) * 20], tmp_path / "s", WORDS)
    damaged(tmp_path / "s", "tokens-00000.bin", lambda b: b[:20_000] + bytes([b[20_000] ^ 1]) + b[20_001:])
    open_tokens(tmp_path / "s")
    with pytest.raises(DataError, match=r"tokens-00000\.bin is not the file"):
        open_tokens(tmp_path / "s", verify=True)


def test_ids_outside_the_vocabulary_are_told_when_they_are_read(tmp_path: Path) -> None:
    write_shards([list(range(1000)) * 20], tmp_path / "s", WORDS)
    damaged(tmp_path / "s", "tokens-00000.bin", lambda b: b[:20_000] + b"\xff\xff" + b[20_002:])
    held = open_tokens(tmp_path / "s")
    assert len(held.ids[9_000:10_000]) == 1000
    with pytest.raises(DataError, match=r"tokens-00000\.bin holds the id 65535 between tokens 9900 and 10100"):
        held.ids[9_900:10_100]


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "tokens-00002.bin").unlink()
    with pytest.raises(DataError, match=r"tokens-00002\.bin is missing"):
        open_tokens(folder)


def test_a_file_deleted_while_it_is_read(folder: Path) -> None:
    """What is mapped stays readable; what is not yet is missed by name."""
    held = open_tokens(folder)
    first = held.document(3).tolist()
    for path in folder.glob("tokens-*.bin"):
        path.unlink()
    assert held.document(3).tolist() == first
    with pytest.raises(DataError, match=r"tokens-00004\.bin was deleted while it was needed"):
        held.ids[64 * 5 : 64 * 5 + 2]


@pytest.mark.parametrize("name", ["tokens-00000.bin", "ends.bin"])
def test_a_file_cut_short_while_it_is_read(folder: Path, name: str) -> None:
    """Reading on through the map would end the process (SIGBUS)."""
    held = open_tokens(folder)
    assert held.document(3).tolist() == DOCUMENTS[3]
    os.truncate(folder / name, 16)
    with pytest.raises(DataError, match=f"{name} is 16 bytes long"):
        held.document(4)


def test_more_files_than_may_be_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = TokenFile.open
    monkeypatch.setattr(tokens, "MAPS", 2)

    def counted(self: TokenFile) -> Any:
        opened.append(self.path.name)
        return real(self)

    monkeypatch.setattr(TokenFile, "open", counted)
    held = open_tokens(folder)
    assert [held.document(n).tolist() for n in range(len(held))] == DOCUMENTS
    assert isinstance(held.ids, FileIds) and held.ids._open.cache_info().currsize == 2
    assert len([name for name in opened if name != "ends.bin"]) >= 9


# An index that is not what it should be.


def put(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(record: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for key in parents:
            record = record[int(key)] if key.isdigit() else record[key]  # type: ignore[index]
        record[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("format", "x"), ("version", 2), ("dtype", "float32"), ("dtype", "uint32"), ("tokens", -1), ("tokens", 10**30),
        ("tokens", 5), ("documents", 99), ("documents", "100"), ("documents", 1e2), ("unknown", 1), ("files", []),
        ("files", {}), ("files.0.tokens", None),
        ("files.0.name", "../secret.bin"), ("files.0.name", "tokens-00001.bin"),
        ("files.0.name", "ends.bin"),
        ("files.0.tokens", 2**61), ("files.0.documents", 1), ("files.0.sha256", "00"), ("files.0.probe", "0" * 64),
        ("ends.documents", 2**61), ("ends.name", "tokens-00000.bin"), ("vocabulary.size", 2**40),
        ("vocabulary.size", 0), ("vocabulary.end", 1000), ("vocabulary.begin", -1),
        ("sources.documents.tokens", 1), ("sources", None),
    ],
)  # fmt: skip
def test_a_hostile_index_is_refused(folder: Path, path: str, value: Any) -> None:
    edited(folder, put(path, value))
    with pytest.raises(DataError, match=r"index\.json|tokens-0000"):
        open_tokens(folder)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": "paddock-tokens"}', b"[" * 100_000]
)
def test_an_index_that_is_no_index(folder: Path, data: bytes) -> None:
    (folder / "index.json").write_bytes(data)
    with pytest.raises(DataError, match=r"index\.json"):
        open_tokens(folder)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_byte_of_the_index_that_changed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Refused, or nothing that is read depends on it (a name, a hash that was not asked for)."""
    folder = tmp_path_factory.mktemp("i")
    with ShardWriter(folder, WORDS, 9) as writer:
        for document in DOCUMENTS[:6]:
            writer.add(document)
    whole = (folder / "index.json").read_bytes()
    at, value = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
    (folder / "index.json").write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
    try:
        held = open_tokens(folder)
        assert [held.document(number).tolist() for number in range(len(held))] == DOCUMENTS[:6]
    except DataError as refusal:
        assert str(folder) in str(refusal)


def test_an_index_that_is_too_large(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "LARGEST_INDEX", 100)
    with pytest.raises(DataError, match="too large"):
        open_tokens(folder)


def test_ends_that_go_backwards_are_refused(folder: Path) -> None:
    ends = [int(end) for end in accumulate(map(len, DOCUMENTS))]
    ends[50], ends[51] = ends[51], ends[50]
    (folder / "ends.bin").write_bytes(np.array(ends, "<i8").tobytes())
    edited(folder, put("ends.probe", shards.probe(folder / "ends.bin")))
    with pytest.raises(DataError, match="ends before it begins"):
        open_tokens(folder)


def test_ends_beside_those_of_a_file_are_refused(folder: Path) -> None:
    ends = np.cumsum([len(document) for document in DOCUMENTS])
    ends[read_index(folder).files[0].documents - 1] += 1
    (folder / "ends.bin").write_bytes(ends.astype("<i8").tobytes())
    edited(folder, put("ends.probe", shards.probe(folder / "ends.bin")))
    with pytest.raises(DataError, match=r"ends elsewhere than tokens-00000\.bin"):
        open_tokens(folder)


def test_places_that_hold_no_shards(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is missing"):
        open_tokens(tmp_path / "nothing")
    with pytest.raises(DataError, match="no folder of token shards"):
        open_tokens(tmp_path)
    folder.rename(tmp_path / "train")
    with pytest.raises(DataError, match=r"name .*train"):
        open_tokens(tmp_path)


# The tokenizer.


def test_another_tokenizer_is_refused(shared_data: Path) -> None:
    small, bert = (load(shared_data / name) for name in ("weights/llama2c/tok512.bin", "tokenizers/bert/vocab.txt"))
    held = Tokens.of([[1, 2]])
    check_tokenizer(held, small)  # tokens that say nothing of theirs
    held.vocabulary = Vocabulary(len(bert), fingerprint(bert))
    check_tokenizer(held, bert)
    with pytest.raises(DataError, match="a vocabulary of 30522 tokens; expected 512"):
        check_tokenizer(held, small)
    held.vocabulary = Vocabulary(len(small), fingerprint(bert))
    with pytest.raises(DataError, match="another tokenizer"):
        check_tokenizer(held, small)


def test_a_tokenizer_that_cannot_spell_everything_has_a_fingerprint(shared_data: Path) -> None:
    names = ("babyllama_tok361.vocab", "tok512.bin")
    assert len({fingerprint(load(shared_data / "weights/llama2c" / name)) for name in names}) == 2


def test_a_large_set_is_packed_in_little_memory(tmp_path: Path) -> None:
    """Documents are taken one at a time, and never held together."""
    alive = most = 0

    class Counted(list[int]):
        def __init__(self, *arguments: Any) -> None:
            nonlocal alive, most
            super().__init__(*arguments)
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    write_shards((Counted(document) for document in DOCUMENTS * 5), tmp_path / "s", WORDS, shard_tokens=500)
    assert most <= 3
    assert Fit(open_tokens(tmp_path / "s"), 16).efficiency > 0.9
