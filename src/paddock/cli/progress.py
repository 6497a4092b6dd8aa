"""Long work told as it goes: one live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time

from paddock.cli.output import printable

LIVE, PLAIN = 0.1, 10.0  # seconds between lines


class Progress:
    """For `with`: `at` says how far the work is. The live line is wiped at the end; quick work prints nothing."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._started = self._told = time.monotonic()
        self._shown = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *unused: object) -> None:
        if self._live and self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def at(self, done: int, total: int | None, detail: str = "") -> None:
        """`done` of `total` equal parts are behind us; None: nobody knows of how many."""
        now = time.monotonic()
        if now - self._told < (LIVE if self._live else PLAIN):
            return
        self._told, self._shown = now, True
        if total is None:
            parts = (f"{self.what} {done:,}", detail, f"{now - self._started:.0f} s")
        else:
            left = (now - self._started) / done * (total - done) if done else 0.0
            parts = (f"{self.what} {done}/{total}", detail, f"{left:.0f} s left")
        line = ", ".join(filter(None, parts))
        sys.stderr.write(f"\r\x1b[K{printable(line)}" if self._live else f"{printable(line)}\n")
        sys.stderr.flush()


class Counting:
    """Kinds of work one after another, for `with`: each is told as `Progress` tells it, from its own beginning."""

    def __init__(self) -> None:
        self._now: Progress | None = None

    def __enter__(self) -> Counting:
        return self

    def __exit__(self, *unused: object) -> None:
        if self._now is not None:
            self._now.__exit__()

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """`done` of `total` of something are behind us; None: nobody knows of how many."""
        if self._now is None or self._now.what != what:
            self.__exit__()
            self._now = Progress(what)
        self._now.at(done, total)
