"""Writing token shards: whole or not at all, with hashes, in bounded memory; equal documents give equal bytes."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from paddock.checkpoint.writing import FULL, flush
from paddock.data.shards import ENDS, INDEX, TOKENIZER, File, Index, Source, Vocabulary, Words, probe
from paddock.errors import DataError, PaddockError, ResourceError, UsageError

SHARD_TOKENS = 2**28  # 512 MiB of uint16
BUFFER = 2**20


def write_shards(
    documents: Iterable[Sequence[int] | np.ndarray],
    folder: str | Path,
    vocabulary: Vocabulary,
    *,
    source: str = "documents",
    shard_tokens: int = SHARD_TOKENS,
    files: Mapping[str, bytes] | None = None,
    replace: bool = False,
) -> Index:
    """Writes documents as shards: the folder appears whole or not at all, and equal documents give equal bytes.

    A shard is full once it holds `shard_tokens`. `files`: those of the tokenizer. `replace`: an old folder makes way.
    Raises DataError for ids outside the vocabulary, ResourceError when the disk is full.
    """
    with whole_folder(folder, replace) as partial:
        writer = ShardWriter(partial, vocabulary, shard_tokens)
        with writer:
            for document in documents:
                writer.add(document, source)
        write_tokenizer(partial, files or {})
    return writer.index


class ShardWriter:
    """Writes documents, one after another, as shards into a fresh folder. For `with`; `index` is there after it.

    Nothing larger than a buffer is held. The folder is only sound after the end: give it a place inside `whole_folder`.
    """

    index: Index

    def __init__(self, folder: Path, vocabulary: Vocabulary, shard_tokens: int = SHARD_TOKENS) -> None:
        self.folder, self.vocabulary, self.shard_tokens = folder, vocabulary, shard_tokens
        self.dtype = np.dtype("<u2" if vocabulary.size <= 2**16 else "<u4")
        self.tokens = self.documents = 0
        self._sources: dict[str, list[int]] = {}
        self._files: list[File] = []
        self._shard: _Output | None = None

    def __enter__(self) -> ShardWriter:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._ends = _Output(self.folder / ENDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            for output in (self._shard, self._ends):
                if output is not None:
                    output.abandon()

    def _finish(self) -> None:
        self._end_shard()
        words = self.vocabulary
        self.index = Index(
            dtype="uint16" if self.dtype.itemsize == 2 else "uint32",
            tokens=self.tokens,
            documents=self.documents,
            vocabulary=Words(size=words.size, fingerprint=words.fingerprint, end=words.end, begin=words.begin),
            files=self._files,
            ends=self._ends.close(),
            sources={name: Source(documents=d, tokens=t) for name, (d, t) in self._sources.items()},
        )
        _write(self.folder / INDEX, self.index.model_dump_json(indent=2).encode() + b"\n")

    def add(self, ids: Sequence[int] | np.ndarray, source: str = "documents") -> None:
        """One document. Raises DataError for an id that the vocabulary does not have."""
        given = np.asarray(ids) if len(ids) else np.zeros(0, np.int64)
        if given.ndim != 1 or given.dtype.kind not in "iu":
            raise DataError(f"document {self.documents} is no sequence of ids", expected="whole numbers")
        if len(given) and not 0 <= int(given.min()) <= int(given.max()) < self.vocabulary.size:
            worst = int(given.min()) if given.min() < 0 else int(given.max())
            expected = f"0 to {self.vocabulary.size - 1}, the vocabulary's"
            raise DataError(f"document {self.documents} holds the id {worst}", expected=expected)
        if self._shard is None:
            self._shard = _Output(self.folder / f"tokens-{len(self._files):05}.bin")
        self._shard.write(given.astype(self.dtype).tobytes(), len(given))
        self.tokens, self.documents = self.tokens + len(given), self.documents + 1
        self._ends.write(self.tokens.to_bytes(8, "little"), 0)
        counts = self._sources.setdefault(source, [0, 0])
        counts[0], counts[1] = counts[0] + 1, counts[1] + len(given)
        if self._shard.tokens >= self.shard_tokens:
            self._end_shard()

    def _end_shard(self) -> None:
        if self._shard is not None:
            self._files.append(self._shard.close())
            self._shard = None


class _Output:
    """A file being written, its hash and its counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tokens = self.documents = 0
        self._file: BinaryIO = path.open("xb", buffering=BUFFER)
        self._hash = hashlib.sha256()

    def write(self, data: bytes, tokens: int) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.tokens, self.documents = self.tokens + tokens, self.documents + 1

    def close(self) -> File:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        counts = {"tokens": self.tokens, "documents": self.documents}
        return File(name=self.path.name, sha256=self._hash.hexdigest(), probe=probe(self.path), **counts)

    def abandon(self) -> None:
        """Closes it, if it is open, whatever the disk says."""
        with contextlib.suppress(OSError):  # what is still in the buffer may not fit the disk; the file goes anyway
            self._file.close()


def write_tokenizer(folder: Path, files: Mapping[str, bytes]) -> None:
    """A tokenizer's files beside the shards, so that they can be read as text and trained on without another path."""
    for name, data in files.items():
        (folder / TOKENIZER).mkdir(exist_ok=True)
        _write(folder / TOKENIZER / name, data)


@contextlib.contextmanager
def whole_folder(goal: str | Path, replace: bool = False) -> Iterator[Path]:
    """A folder beside `goal` to fill, which becomes `goal` when the body ends well and is removed when it does not.

    Raises UsageError if `goal` is there and is not to be replaced, or holds what is no shards; ResourceError when the
    disk is full, PaddockError for any other refusal of the file system.
    """
    goal = Path(goal)
    check_goal(goal, replace)
    try:
        goal.parent.mkdir(parents=True, exist_ok=True)
        _clear_left_over(goal)
        partial = goal.with_name(f".{goal.name}.{secrets.token_hex(4)}.partial")
        partial.mkdir()
        try:
            with _held(partial):
                yield partial
                _put(partial, goal)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        if error.errno in FULL:
            raise ResourceError(f"no space left to write {goal}", fix="free some space, or write elsewhere") from None
        raise PaddockError(f"{goal} cannot be written: {error.strerror or error}") from None


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Locks a folder for as long as this process lives; yields whether nobody else holds it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except OSError:  # held, or a file system that has no locks
            free = False
        yield free
    finally:
        os.close(handle)


def _clear_left_over(goal: Path) -> None:
    """Removes what writers of the same folder left that were killed; a writer that lives holds a lock on its own."""
    for partial in goal.parent.glob(f".{glob.escape(goal.name)}.*.partial"):
        with contextlib.suppress(OSError), _held(partial) as free:
            if free:
                shutil.rmtree(partial, ignore_errors=True)


def check_goal(goal: Path, replace: bool) -> None:
    """Refuses to write over anything but shards, and over shards unless `replace`."""
    if not os.path.lexists(goal):
        return
    if not goal.is_dir() or goal.is_symlink():
        raise UsageError(f"{goal} is there already, and is no folder", fix="name another place")
    if not any(goal.iterdir()):
        return
    if not any((goal / name).is_file() for name in (INDEX, f"train/{INDEX}")):
        raise UsageError(f"{goal} holds something else than token shards", fix="name another folder, or an empty one")
    if not replace:
        raise UsageError(f"{goal} is there already", fix="--force replaces it")


def _put(partial: Path, goal: Path) -> None:
    old = None
    if goal.exists():
        old = goal.with_name(f".{goal.name}.{secrets.token_hex(4)}.replaced")
        goal.rename(old)
    try:
        partial.rename(goal)
    except OSError:
        if old is not None:
            old.rename(goal)
        raise
    flush(goal.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
