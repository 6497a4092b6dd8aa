"""Vocabulary files as bytes, text and JSON, within bounds; and a wall around the libraries that parse them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paddock.errors import PaddockError, TokenizerError

MAX_FILE = 64 * 2**20
MAX_PIECES = 2**20
MAX_PIECE = 2**16
MAX_DEPTH = 64
MAX_VALUES = 2**21  # in one JSON file; a value of two bytes becomes an object of fifty
MAX_CONTAINERS = 2**20


def read_bytes(path: Path, limit: int = MAX_FILE) -> bytes:
    """The whole of a regular file of at most `limit` bytes; TokenizerError otherwise."""
    try:
        if not path.is_file():  # a pipe would be waited for, for ever
            kind = "a folder" if path.is_dir() else "not a regular file" if path.exists() else "missing"
            raise TokenizerError(f"{path} is {kind}", expected="a tokenizer file")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(data) > limit:
        raise TokenizerError(f"{path.name} is too large", expected=f"at most {limit} bytes")
    if not data:
        raise TokenizerError(f"{path.name} is empty (0 bytes)", fix="download or copy the file again")
    return data


def as_text(data: bytes, name: str) -> str:
    """UTF-8 `data` as text, without a byte order mark."""
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{name} is not UTF-8 text: byte {error.start} cannot be read") from None


def as_json(data: bytes, name: str) -> dict[str, Any]:
    """UTF-8 JSON `data`, which must be one object."""
    if data.count(b",") > MAX_VALUES or data.count(b"[") + data.count(b"{") > MAX_CONTAINERS:
        raise TokenizerError(f"{name} holds too many values", expected=f"at most {MAX_VALUES}")
    try:
        value = json.loads(as_text(data, name))
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise TokenizerError(f"{name} is not valid JSON: {reason}", fix="download or copy the file again") from None
    if not isinstance(value, dict):
        raise TokenizerError(f"{name} holds a JSON {type(value).__name__}", expected="an object")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object from a file."""
    return as_json(read_bytes(path), path.name)


def read_lines(data: bytes, name: str) -> list[str]:
    r"""Lines of a vocabulary: only "\n" and "\r\n" end one, as pieces may hold any other Unicode line separator."""
    lines = as_text(data, name).split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    if len(lines) > MAX_PIECES:
        raise TokenizerError(f"{name} has {len(lines)} lines", expected=f"at most {MAX_PIECES}")
    return [line.removesuffix("\r") for line in lines]


@contextlib.contextmanager
def guarded(what: str) -> Iterator[None]:
    """Turns whatever a native tokenizer library throws into TokenizerError.

    A panic in Rust arrives as pyo3's PanicException, which is a BaseException and passes every `except Exception`.
    """
    try:
        yield
    except PaddockError:
        raise
    except (Exception, RecursionError) as error:
        raise TokenizerError(f"{what}: {_first_line(error)}") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise TokenizerError(f"{what}: the library failed ({_first_line(error)})") from None


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
