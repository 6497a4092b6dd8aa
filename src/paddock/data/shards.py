"""Token shards at rest: a folder of memory-mapped files of ids, and an index that says what they hold.

index.json            what follows, in numbers, with hashes; see `Index`
tokens-00000.bin ...  ids, uint16 or uint32 by the vocabulary, little-endian, nothing else; no document is cut
ends.bin              int64, little-endian: where each document ends, counted through all files
tokenizer/            the files of the tokenizer, if the writer was given them
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paddock.data.megatron import is_megatron, read_megatron
from paddock.data.tokens import FileIds, TokenFile, Tokens, Vocabulary
from paddock.errors import DataError, TokenizerError
from paddock.tokenizer.tokenizer import Tokenizer

__all__ = ["Index", "Tokens", "Vocabulary", "check_tokenizer", "fingerprint", "open_tokens", "read_index"]

INDEX, ENDS, TOKENIZER = "index.json", "ends.bin", "tokenizer"
LARGEST_INDEX = 64 * 2**20
PROBE = 4096  # bytes at both ends of a file that are looked at whenever it is opened
CHUNK = 2**20  # ends looked at at once

Count = Annotated[int, Field(ge=0, lt=2**62)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class File(_Part):
    """One file. probe: SHA-256 of its first and last 4,096 bytes, which tells files apart without reading all."""

    name: Annotated[str, Field(pattern=r"^(tokens-\d{5,9}|ends)\.bin$")]
    tokens: Count
    documents: Count
    sha256: Digest
    probe: Digest


class Source(_Part):
    """What came from one input."""

    documents: Count
    tokens: Count


class Words(_Part):
    """Whose ids these are; the fields of `Vocabulary`."""

    size: Annotated[int, Field(gt=0, le=2**32)]
    fingerprint: str
    end: Count | None
    begin: Count | None


class Index(_Part):
    """`index.json`."""

    format: Literal["paddock-tokens"] = "paddock-tokens"
    version: Literal[1] = 1
    dtype: Literal["uint16", "uint32"]
    tokens: Count
    documents: Count
    vocabulary: Words
    files: list[File]
    ends: File
    sources: dict[str, Source]


def open_tokens(path: str | Path, verify: bool = False) -> Tokens:
    """Token shards (a folder), or a Megatron-LM pair (its .bin, its .idx or the name without either), as one `Tokens`.

    Every count is checked against the files' sizes, and both ends of every file against its probe; `verify` also reads
    everything through and compares hashes. Ids are read when asked for.
    Raises DataError naming the file that is missing, cut short, swapped or corrupt.
    """
    path = Path(path)
    if is_megatron(path):
        return read_megatron(path)
    index = read_index(path)
    _check_sums(index, path)
    for file in (*index.files, index.ends):
        width = 8 if file is index.ends else np.dtype(index.dtype).itemsize
        _check_file(path / file.name, file, width, verify)
    files = [TokenFile(path / file.name, np.dtype(index.dtype), file.tokens) for file in index.files]
    ends, watch = TokenFile(path / ENDS, np.dtype(np.int64), index.documents).open()
    _check_ends(ends, index, path / ENDS)
    words = index.vocabulary
    ids = FileIds(files, words.size) if files else np.zeros(0, np.dtype(index.dtype))
    return Tokens(ids, ends, Vocabulary(words.size, words.fingerprint, words.end, words.begin), str(path), watch)


def read_index(folder: Path) -> Index:
    """The index of a folder of shards. Raises DataError for one that is missing, too large, or not an index."""
    path = folder / INDEX
    if not path.is_file():
        parts = [name for name in ("train", "validation") if (folder / name / INDEX).is_file()]
        fix = f"name {folder / parts[0]}" if parts else "`paddock data pack` writes one"
        what = "is missing" if not folder.exists() else "is no folder of token shards"
        raise DataError(f"{folder} {what}", expected=f"a folder with {INDEX}", fix=fix)
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_INDEX + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(data) > LARGEST_INDEX:
        raise DataError(f"{path} is too large", expected=f"at most {LARGEST_INDEX} bytes")
    try:
        return Index.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise DataError(f"{path}: {where}: {first['msg']}", fix="write the shards again") from None


def check_tokenizer(tokens: Tokens, tokenizer: Tokenizer) -> None:
    """Refuses ids that another tokenizer made: DataError. Tokens that do not say whose they are pass."""
    stated = tokens.vocabulary
    if stated is None or not stated.fingerprint:
        return
    fix = "train with the tokenizer of the shards, or pack the documents again"
    if stated.size != len(tokenizer):
        what = f"{tokens.name} was written with a vocabulary of {stated.size} tokens"
        raise DataError(what, expected=f"{len(tokenizer)}, this tokenizer's", fix=fix)
    if stated.fingerprint != (own := fingerprint(tokenizer)):
        what = f"{tokens.name} was written with another tokenizer: its fingerprint begins {stated.fingerprint[:12]}"
        raise DataError(what, expected=f"{own[:12]}, this tokenizer's", fix=fix)


def fingerprint(tokenizer: Tokenizer) -> str:
    """Equal for tokenizers that encode alike; of one that cannot spell every text, a hash of its pieces."""
    try:
        return tokenizer.fingerprint()
    except TokenizerError:
        pieces = "\0".join(_piece(tokenizer, id) for id in range(len(tokenizer)))
        return hashlib.sha256(pieces.encode("utf-8", "surrogatepass")).hexdigest()


def _piece(tokenizer: Tokenizer, id: int) -> str:
    try:
        return tokenizer.piece(id)
    except TokenizerError:  # a number that no piece has
        return ""


def probe(path: Path) -> str:
    """See `File`."""
    with path.open("rb") as file:
        head = file.read(PROBE)
        file.seek(max(0, os.fstat(file.fileno()).st_size - PROBE))
        return hashlib.sha256(head + file.read(PROBE)).hexdigest()


def _check_file(path: Path, stated: File, width: int, verify: bool) -> None:
    """Its size, its ends, and with `verify` all of it."""
    TokenFile(path, np.dtype(f"V{width}"), stated.documents if width == 8 else stated.tokens)
    try:
        found = probe(path)
        if found == stated.probe and verify:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    if found not in (stated.probe, stated.sha256):
        what = f"{path} is not the file its index speaks of: swapped or corrupt"
        raise DataError(what, fix="write the shards again, or copy the file again")


def _check_sums(index: Index, folder: Path) -> None:
    """That the numbers of an index agree with each other."""
    path = folder / INDEX
    names = [f"tokens-{number:05}.bin" for number in range(len(index.files))]
    sums: Sequence[tuple[str, Any, Any]] = (
        ("files", [file.name for file in index.files], names),
        ("tokens of all files", sum(file.tokens for file in index.files), index.tokens),
        ("documents of all files", sum(file.documents for file in index.files), index.documents),
        ("tokens of all sources", sum(source.tokens for source in index.sources.values()), index.tokens),
        ("documents of all sources", sum(source.documents for source in index.sources.values()), index.documents),
        ("name of the ends", index.ends.name, ENDS),
        ("documents of the ends", index.ends.documents, index.documents),
        ("dtype", index.dtype, "uint16" if index.vocabulary.size <= 2**16 else "uint32"),
    )
    for what, found, expected in sums:
        if found != expected:
            raise DataError(f"{path}: {what}: {found}", expected=str(expected), fix="write the shards again")
    words = index.vocabulary
    for id in (words.end, words.begin):
        if id is not None and id >= words.size:
            raise DataError(f"{path}: the vocabulary of {words.size} ids has no id {id}", fix="write the shards again")


def _check_ends(ends: np.ndarray, index: Index, path: Path) -> None:
    """That documents end one after another, the last of each file where the file ends."""
    last = 0
    for start in range(0, len(ends), CHUNK):
        piece = ends[start : start + CHUNK]
        if int(piece[0]) < last or (np.diff(piece) < 0).any():
            raise DataError(f"{path}: a document ends before it begins", fix="write the shards again")
        last = int(piece[-1])
    documents = tokens = 0
    for file in index.files:
        documents, tokens = documents + file.documents, tokens + file.tokens
        if documents == 0 or int(ends[documents - 1]) != tokens:
            what = f"{path}: document {documents} ends elsewhere than {file.name}"
            raise DataError(what, expected=f"at token {tokens}", fix="write the shards again")
