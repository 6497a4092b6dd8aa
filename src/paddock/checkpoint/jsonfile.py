"""JSON that other people wrote: bounded, no duplicate keys, no NaN, no bottomless nesting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from paddock.errors import CheckpointError

LIMIT = 16 * 2**20


def parse(data: bytes | str, name: str, *, error: type[CheckpointError] = CheckpointError) -> dict[str, Any]:
    """A JSON object from text; anything else is refused under the name of its file."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            twice = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
            raise error(f"{name} has the key {twice[:80]!r} twice")
        return result

    def finite(word: str) -> Any:
        raise error(f"{name} holds {word}, which is not JSON")

    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=unique, parse_constant=finite)
    except UnicodeDecodeError as problem:
        raise error(f"{name} is not UTF-8 text (byte {problem.start})") from None
    except json.JSONDecodeError as problem:
        raise error(f"{name} is not JSON: {problem.msg} at line {problem.lineno}, column {problem.colno}") from None
    except (RecursionError, ValueError) as problem:  # nested too deep; an integer of thousands of digits
        raise error(f"{name} is not sane JSON: {str(problem)[:80]}") from None
    if not isinstance(value, dict):
        raise error(f"{name} holds a {type(value).__name__}", expected="a JSON object")
    return value


def read(path: Path, limit: int = LIMIT) -> dict[str, Any]:
    """A JSON object from a regular file of at most `limit` bytes."""
    try:
        if not path.is_file():
            raise CheckpointError(f"{path} is {'not a regular file' if path.exists() else 'missing'}")
        if (size := path.stat().st_size) > limit:
            raise CheckpointError(f"{path.name} is {size} bytes", expected=f"at most {limit}")
        return parse(path.read_bytes(), path.name)
    except OSError as problem:
        raise CheckpointError(f"{path} cannot be read: {problem.strerror or problem}") from None
