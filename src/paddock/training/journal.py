"""`metrics.jsonl`: a line for each step of a run, and for whatever else happened to it, in order."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from paddock.errors import DataError

LONGEST = 2**20  # bytes of a line


class Journal:
    """A file of records that only grows, each with the `step` after which it holds.

    A record that a full disk does not take waits in memory for the next one, and no half of it stays in the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._waiting = b""

    def add(self, record: Mapping[str, Any]) -> None:
        """Appends a record; what waits for room stays whole in memory. Raises OSError where there is none."""
        self._waiting += (json.dumps(plain(record), ensure_ascii=False, allow_nan=False) + "\n").encode()
        self._put()

    def settle(self) -> None:
        """Returns when everything is on the disk. Raises OSError."""
        self._put()
        os.fsync(self._handle)

    def cut(self, step: int) -> None:
        """Takes out every record after `step`, and half a line at the end, which a run that was killed may leave.

        Raises DataError for a line before that which is no record.
        """
        self._waiting = b""
        kept = _length(self.path, step)
        if kept < os.fstat(self._handle).st_size:
            os.ftruncate(self._handle, kept)

    def close(self) -> None:
        os.close(self._handle)

    def _put(self) -> None:
        if not self._waiting:
            return
        good = os.fstat(self._handle).st_size
        try:
            rest = memoryview(self._waiting)
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except OSError:
            os.ftruncate(self._handle, good)
            raise
        self._waiting = b""


def plain(value: Any) -> Any:
    """`value` in JSON's own types. A number that JSON does not have is its name: "nan", "inf", "-inf"."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole record of a file. Raises DataError for a line that is none; half a line at the end is passed over."""
    for _, record in _records(path):
        yield record


def _length(path: Path, step: int) -> int:
    """Bytes of the records up to `step`."""
    kept = 0
    for end, record in _records(path):
        if record["step"] > step:
            break
        kept = end
    return kept


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Records, and where each ends in the file."""
    end = 0
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST + 1), b""), 1):
            end += len(line)
            if not line.endswith(b"\n"):
                if len(line) > LONGEST:
                    raise DataError(f"{path}, line {number} is longer than {LONGEST} bytes")
                return
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if not isinstance(record, dict) or type(record.get("step")) is not int:
                raise DataError(
                    f"{path}, line {number} is no record of a step",
                    expected='a JSON object with a "step"',
                    fix="remove that line, or the whole file: it is a log, and nothing is trained from it",
                )
            yield end, record
