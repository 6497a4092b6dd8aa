"""What reading a file may cost, measured in a child process: 5 seconds and 64 MiB + 4 x the file's size.

Each measurement forks from a server that has imported everything and read nothing, so that what is measured is the
reading alone: the peak of resident memory above what the child began with, and its processor time (wall time on a
busy machine says more about the machine).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from paddock.errors import InputError

SECONDS, HUNG = 5.0, 60.0
MEBIBYTE = 2**20
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["paddock.checkpoint.checkpoint", "paddock.tokenizer.load", "paddock.tokenizer.chat"])


@dataclass(frozen=True)
class Cost:
    """`outcome` is "accepted", "refused" or "escaped"; `message` is the error's."""

    outcome: str
    message: str
    seconds: float
    mebibytes: float

    def __str__(self) -> str:
        return f"{self.outcome} in {self.seconds:.2f} s with {self.mebibytes:.0f} MiB: {self.message}"


def cost(function: Callable[..., Any], *arguments: Any) -> Cost:
    """Runs a function, which must be importable by name, in a child. A child that does not return is killed."""
    ours, theirs = _SERVER.Pipe(duplex=False)
    child = _SERVER.Process(target=_measure, args=(theirs, function, arguments))
    child.start()
    theirs.close()
    try:
        if not ours.poll(HUNG):
            return Cost("escaped", f"no answer in {HUNG:.0f} s", HUNG, 0.0)
        return Cost(*ours.recv())
    except EOFError:
        child.join(5)
        return Cost("escaped", f"the child died with code {child.exitcode}", 0.0, 0.0)
    finally:
        child.kill()
        child.join()


def check(function: Callable[..., Any], path: Path, *, accepted: bool = False) -> Cost:
    """Measures `function(path)` and asserts that it is refused (or accepted) within the contract."""
    size = sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size
    spent = cost(function, path)
    allowed = 64 + 4 * size / MEBIBYTE
    assert spent.outcome == ("accepted" if accepted else "refused"), spent
    assert spent.seconds <= SECONDS, spent
    assert spent.mebibytes <= allowed, f"{spent} (allowed: {allowed:.0f} MiB)"
    return spent


def _measure(answer: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    with contextlib.suppress(ValueError):  # not below what is mapped already
        resource.setrlimit(resource.RLIMIT_AS, (16 * 2**30, 16 * 2**30))
    before, clock = _peak(), time.process_time()
    try:
        function(*arguments)
        outcome, message = "accepted", ""
    except InputError as error:
        outcome, message = "refused", str(error).splitlines()[0][:200]
    except BaseException as error:
        outcome, message = "escaped", f"{type(error).__name__}: {str(error)[:200]}"
    answer.send((outcome, message, time.process_time() - clock, _peak() - before))
    os._exit(0)


def _peak() -> float:
    """The most memory this process has had resident, in MiB."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEBIBYTE  # bytes, on macOS
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
