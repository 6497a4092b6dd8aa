"""What is printed, and where: results to standard output, everything else to standard error."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import re
import sys
import threading
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from paddock.tokenizer.template_check import Finding

MARKS = {"ok": "32", "warn": "33", "fail": "31"}
COLOURS = re.compile(r"(\x1b\[[0-9;]*m)")
ESCAPES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
SPINNER_AFTER = 0.5  # seconds before a wait is worth a line


def printable(text: str) -> str:
    """`text` safe for a terminal: control characters (escape sequences a file or a model may hold) shown as `\\x1b`."""
    return ESCAPES.sub(lambda match: f"\\x{ord(match.group()):02x}", text)


def painted(text: str, code: str, colour: bool = True) -> str:
    """`text` in a colour or weight by its SGR code ("1" bold, "31" red), where `colour` says so."""
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text


def result(text: str, end: str = "\n") -> None:
    """A result, to standard output: as it is where a program reads it, printable where a person does."""
    sys.stdout.write((printable(text) if sys.stdout.isatty() else text) + end)


def painted_result(text: str) -> None:
    """A result that has colours of our own in it: they pass, everything else is made printable."""
    parts = COLOURS.split(text)
    sys.stdout.write("".join(part if i % 2 else printable(part) for i, part in enumerate(parts)) + "\n")


def piece(text: str) -> None:
    """A part of a streamed result, shown at once."""
    result(text, end="")
    sys.stdout.flush()


def note(text: str) -> None:
    """A remark about the run, to standard error, after what was printed so far."""
    sys.stdout.flush()
    sys.stderr.write(printable(text) + "\n")
    sys.stderr.flush()


def coloured(stream: TextIO) -> bool:
    """Whether `stream` takes colours: a terminal that is not dumb, unless NO_COLOR says no or FORCE_COLOR yes."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def as_json(value: Any) -> None:
    """One JSON value on one line, to standard output."""
    sys.stdout.write(json.dumps(plain(value), ensure_ascii=False, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """`value` in JSON's own types; a number JSON does not know becomes null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, Sequence | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, bool | int) else str(value)


def table(rows: Sequence[Sequence[str]], header: Sequence[str] = (), right: Sequence[int] = (), indent: int = 0) -> str:
    """Aligned columns, two blanks between them; those in `right` flush right."""
    lines = [header, *rows] if header else list(rows)
    if not lines:
        return ""
    widths = [max(cells(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(" " * indent + _line(line, widths, right) for line in lines)


def _line(line: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> str:
    padded = []
    for column, (text, width) in enumerate(zip(line, widths, strict=True)):
        space = " " * (width - cells(text))
        padded.append(space + text if column in right else text + space)
    return "  ".join(padded).rstrip()


def cells(text: str) -> int:
    """Columns a terminal gives `text`."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def findings_text(findings: Sequence[Finding]) -> str:
    """A line per finding, its level in colour, the fix below where something is to be done. For `painted_result`."""
    colour = coloured(sys.stdout)
    lines = []
    for finding in findings:
        mark = f"{finding.level:<4}"
        lines.append(f"{painted(mark, MARKS[finding.level], colour)}  {finding.about}: {printable(finding.text)}")
        if finding.fix and finding.level != "ok":
            lines.append(f"      fix: {printable(finding.fix)}")
    return "\n".join(lines)


def size(count: float) -> str:
    """Bytes for people, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def number(count: int) -> str:
    """A count for people: 260,032 or 7.24 B."""
    for unit, value in (("T", 10**12), ("B", 10**9), ("M", 10**6)):
        if count >= value:
            return f"{count / value:.2f} {unit}"
    return f"{count:,}"


def shown_path(path: Path) -> str:
    """A path with the home folder as `~`."""
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except (ValueError, RuntimeError):
        return str(path)


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """One live line on a terminal while the body runs, if that takes a while: what is done, and for how long."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield
        return
    done = threading.Event()

    def tick() -> None:
        started = time.monotonic()
        if done.wait(SPINNER_AFTER):
            return
        while not done.wait(0.1):
            sys.stderr.write(f"\r{printable(what)} {time.monotonic() - started:.1f} s ")
            sys.stderr.flush()
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
