"""How `peers.py` talks to the engine it measures: one process each, a JSON object per line.

    in    {"do": "load", "path": ..., "threads": 2, ...}           out  {"seconds": ..., "version": ..., "memory": ...}
    in    {"do": "complete", "prompts": [[ids], ...], "new": 32}   out  {"first": ..., "rest": ..., "ids": [[...]], ...}

Standard library only: it runs in every engine's own environment. What engines print goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, Protocol


class Engine(Protocol):
    def load(self, path: str, threads: int, **options: Any) -> dict[str, Any]:
        """Opens the model. Gives facts for the record: `version` at least."""
        ...

    def complete(self, prompts: list[list[int]], new: int) -> dict[str, Any]:
        """Answers all prompts (equally long) at once, greedily, with exactly `new` tokens each, whatever they are.

        Gives `first`, seconds until every prompt had its first token (None where an engine cannot tell), `rest`,
        seconds from then on, and `ids`, the tokens written.
        """
        ...


class Clock:
    """Splits a run: until the first tokens, and the rest."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.split: float | None = None

    def first(self) -> None:
        self.split = time.perf_counter()

    def answer(self, ids: list[list[int]]) -> dict[str, Any]:
        end = time.perf_counter()
        known = self.split is not None
        first, rest = (self.split - self.start, end - self.split) if self.split else (None, None)
        return {"first": first, "rest": rest if known else None, "total": end - self.start, "ids": ids}


def memory() -> dict[str, int]:
    """Resident bytes, now and at the most (files that are mapped count as far as they were touched)."""
    found = {"now": 0, "peak": 0}
    with open("/proc/self/status") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if name in ("VmRSS", "VmHWM"):
                found["now" if name == "VmRSS" else "peak"] = int(value.split()[0]) * 1024
    return found


def serve(make: Callable[[], Engine]) -> None:
    """Answers requests until standard input ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not look like an answer
    engine = make()
    for line in sys.stdin:
        asked = json.loads(line)
        started = time.perf_counter()
        try:
            answer = getattr(engine, asked.pop("do"))(**asked)
            answer = {"seconds": time.perf_counter() - started, "memory": memory()} | answer
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"[:400]}
        out.write(json.dumps(answer) + "\n")
        out.flush()
    os._exit(0)  # some engines crash on their way out
