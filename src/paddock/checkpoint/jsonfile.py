"""JSON that other people wrote: bounded, no key twice, every number finite, no bottomless nesting."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from paddock.errors import CheckpointError

LIMIT = 16 * 2**20
VALUES = 150_000  # a Python value takes up to 260 bytes, however few its text has
DEPTH = 64
_SIGN = re.compile(r"[ \t\r\n]*([{},:])[ \t\r\n]*")


def read(path: Path, limit: int = LIMIT) -> dict[str, Any]:
    """A JSON object from a regular file of at most `limit` bytes."""
    try:
        if not path.is_file():
            kind = "not a regular file" if path.exists() else "a link to nothing" if path.is_symlink() else "missing"
            raise CheckpointError(f"{path} is {kind}")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as problem:
        raise CheckpointError(f"{path} cannot be read: {problem.strerror or problem}") from None
    if len(data) > limit:
        raise CheckpointError(f"{path.name} is larger than {limit} bytes", expected="a description, not data")
    return parse(data, path.name)


def parse(data: bytes, name: str) -> dict[str, Any]:
    """A JSON object from UTF-8 text, which `name` names in a refusal. Raises CheckpointError for anything else."""
    if sum(map(data.count, (b",", b"[", b"{"))) > VALUES:
        raise CheckpointError(f"{name} holds too many values", expected=f"at most {VALUES}")
    with _refusing(name):
        value = _decoder(name).decode(data.decode("utf-8-sig"))
        if b"\\u" in data:  # half a surrogate pair can be escaped, but never written to a file again
            json.dumps(value, ensure_ascii=False).encode()
    if not isinstance(value, dict):
        raise CheckpointError(f"{name} holds a {type(value).__name__}", expected="a JSON object")
    _check_depth(value, name)
    return value


def members(data: bytes, name: str, longest: Callable[[str], int]) -> Iterator[tuple[str, Any]]:
    """The members of a JSON object one after another, for objects too large to stand in memory whole.

    `longest` says how many characters the value under a key may have. Raises CheckpointError as `parse` does, perhaps
    after some members were given out.
    """
    decoder, seen = _decoder(name), set[str]()
    with _refusing(name):
        text = data.decode("utf-8")
        last, at = _sign(text, 0, "{", name)
        if text[at : at + 1] == "}":
            last, at = "}", at + 1
        while last != "}":
            key, length = decoder.raw_decode(text[at : at + 1024])
            if not isinstance(key, str):
                raise CheckpointError(f"{name} is not JSON: no key at character {at}")
            if key in seen:
                raise CheckpointError(f"{name} has the key {key[:80]!r} twice")
            seen.add(key)
            key.encode()
            at = _sign(text, at + length, ":", name)[1]
            value, length = decoder.raw_decode(text[at : at + longest(key)])
            yield key, value
            last, at = _sign(text, at + length, ",}", name)
        if text[at:].strip(" \t\r\n"):
            raise CheckpointError(f"{name} is not JSON: text after its end, at character {at}")


def _sign(text: str, at: int, wanted: str, name: str) -> tuple[str, int]:
    match = _SIGN.match(text, at)
    if match is None or match[1] not in wanted:
        raise CheckpointError(f"{name} is not JSON: no {' or '.join(wanted)} at character {at}")
    return match[1], match.end()


def _decoder(name: str) -> json.JSONDecoder:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise CheckpointError(f"{name} has the key {twice[:80]!r} twice")
        return result

    def finite(word: str) -> float:
        number = float(word)
        if not math.isfinite(number):  # NaN and Infinity are not JSON; 1e400 is, but no number a computer has
            raise CheckpointError(f"{name} holds the number {word[:40]}")
        return number

    return json.JSONDecoder(object_pairs_hook=unique, parse_float=finite, parse_constant=finite)


@contextlib.contextmanager
def _refusing(name: str) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as problem:
        raise CheckpointError(f"{name} is not UTF-8 text (byte {problem.start})") from None
    except json.JSONDecodeError as problem:
        raise CheckpointError(f"{name} is not JSON: {problem.msg} at line {problem.lineno}") from None
    except (RecursionError, ValueError) as problem:  # nested too deep; an integer of thousands of digits
        raise CheckpointError(f"{name} is not sane JSON: {str(problem)[:80]}") from None


def _check_depth(value: Any, name: str) -> None:
    """Nesting that a parser survives can still break whoever prints the value."""
    level = [value]
    for _ in range(DEPTH):
        level = [child for parent in level for child in (parent.values() if isinstance(parent, dict) else parent)]
        level = [child for child in level if isinstance(child, dict | list)]
    if level:
        raise CheckpointError(f"{name} is nested more than {DEPTH} deep")
