"""Messages in a JSON file or on standard input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from paddock.errors import DataError

MAX_FILE = 16 * 2**20


def read_messages(path: Path) -> list[Any]:
    """A JSON list of messages, or an object with one under `messages`; `-` is standard input. Raises DataError."""
    name = "standard input" if str(path) == "-" else str(path)
    try:
        value = json.loads(_read(path, name))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is not JSON: {error}") from None
    messages = value.get("messages") if isinstance(value, dict) else value
    if not isinstance(messages, list):
        raise DataError(f"{name} holds no messages", expected='[{"role": "user", "content": "..."}, ...]')
    return messages


def _read(path: Path, name: str) -> bytes:
    try:
        if str(path) == "-":
            data = sys.stdin.buffer.read(MAX_FILE + 1)
        else:
            with path.open("rb") as file:
                data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror or error}") from None
    if len(data) > MAX_FILE:
        raise DataError(f"{name} is too large for messages", expected=f"at most {MAX_FILE} bytes")
    return data
