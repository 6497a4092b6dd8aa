"""Streams that a command line reads and writes in these tests, and what came of it."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Run:
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Terminal(io.TextIOWrapper):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def stream(text: bytes = b"", terminal: bool = False) -> io.TextIOWrapper:
    return (Terminal if terminal else io.TextIOWrapper)(io.BytesIO(text), encoding="utf-8", newline="\n")
