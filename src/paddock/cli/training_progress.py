"""A training run told as it goes: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from paddock.cli.output import printable

LIVE, PLAIN = 0.1, 10.0  # seconds between lines
TOLD = ("loss", "perplexity", "bits_per_byte", "seconds")  # of a validation, in words of their own or not at all
RECENT = 50  # steps whose time says how long the rest will take


class TrainingProgress:
    """A sink of `training.metrics.Metrics`, for `with`. What happened once (an event, a validation, a sample text)
    gets a line that stays; the live line is wiped at the end and told as a plain one."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._told = -math.inf
        self._paces: deque[tuple[int, float]] = deque(maxlen=RECENT)
        self._last = ""
        self._validation: Mapping[str, Any] | None = None

    def __enter__(self) -> TrainingProgress:
        return self

    def __exit__(self, *unused: object) -> None:
        if self._last:
            self.note(self._last)

    def __call__(self, record: Mapping[str, Any]) -> None:
        now = time.monotonic()
        self._paces.append((record["step"], now))
        for event in record.get("events", ()):
            self.note(f"{'kept' if record.get('updated', True) else 'skipped'}: {event['what']}")
        if record.get("validation"):
            self._validation = record["validation"]
            self.note(f"step {record['step']}: {validated(record['validation'])}")
            for shown in record["validation"].get("texts", ()):
                self.note("  | " + " -> ".join(shown[side].replace("\n", " ") for side in ("source", "output")))
        for text in record.get("samples", ()):
            self.note("  | " + text.replace("\n", "\n  | "))
        line = told(record, self.steps, self._validation, self._left(record["step"], now))
        if now - self._told >= (LIVE if self._live else PLAIN):
            self._told, self._last = now, ""
            sys.stderr.write(f"\r\x1b[K{fitted(line)}" if self._live else f"{printable(line)}\n")
            sys.stderr.flush()
        if self._live or now != self._told:
            self._last = line

    def note(self, text: str) -> None:
        """A line of its own, above the live one."""
        sys.stderr.write(("\r\x1b[K" if self._live else "") + printable(text) + "\n")
        sys.stderr.flush()

    def _left(self, step: int, now: float) -> float | None:
        first, since = self._paces[0]
        return (now - since) / (step - first) * (self.steps - step) if step > first else None


def told(record: Mapping[str, Any], steps: int, score: Mapping[str, Any] | None, left: float | None) -> str:
    """step 120/1000 | loss 2.114 | val 2.201 | lr 3.0e-04 | gnorm 0.83 | 12.4k tok/s | mem 5.1 GiB | MFU 31% | ..."""
    parts = [f"step {record['step']}/{steps}", f"loss {record['loss']:.3f}"]
    if score is not None and "loss" in score:
        parts.append(f"val {score['loss']:.3f}")
    parts += [f"lr {record['learning_rate']:.1e}", f"gnorm {record['norm']:.2f}"]
    if "tokens_per_second" in record:
        parts.append(f"{thousands(record['tokens_per_second'])} tok/s")
        parts.append(f"mem {record['memory'] / 2**30:.1f} GiB")
        parts.append(f"MFU {100 * record['mfu']:.0f}%")
    if left is not None:
        parts.append(f"{clock(left)} left")
    return " | ".join(parts)


def validated(score: Mapping[str, Any]) -> str:
    """validation loss 2.2010, perplexity 9.033, 1.2 bits per byte; and the other numbers that a task measures."""
    said = [f"validation loss {score['loss']:.4f}"] if "loss" in score else []
    if "perplexity" in score:
        said.append(f"perplexity {score['perplexity']:.4g}")
    if score.get("bits_per_byte") is not None:
        said.append(f"{score['bits_per_byte']:.4f} bits per byte")
    more = {name: value for name, value in score.items() if isinstance(value, float) and name not in TOLD}
    return ", ".join([*said, *(f"{name.replace('_', ' ')} {value:.4g}" for name, value in more.items())])


def thousands(number: float) -> str:
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{sign}"
    return f"{number:.0f}"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def fitted(line: str) -> str:
    """As much of a line as the terminal's width holds: a longer one would wrap, and its first half would stay."""
    return printable(line)[: columns() - 1]


def columns() -> int:
    """Of the terminal that standard error is; 80 where it does not say."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80
