"""One run in a folder at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paddock.errors import UsageError

FREE = "free\n"


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """The lock at `path` for as long as the body runs. Raises UsageError where a run that lives holds it.

    The kernel's lock goes with its process, however that ends. The file says whose it is as well, for file systems that
    lock for one machine only: a process is told from a later one of the same number by the time of its start.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _refusal(path, _read(handle)) from None
        holder = _read(handle)
        if holder is not None and _lives(holder):
            raise _refusal(path, holder)
        _write(handle, json.dumps(ourselves()) + "\n")
        try:
            yield
        finally:
            _write(handle, FREE)
    finally:
        os.close(handle)


def _write(handle: int, text: str) -> None:
    with contextlib.suppress(OSError):  # a disk that is full must not keep a run from being locked or from ending
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode(), 0)


def _read(handle: int) -> dict[str, Any] | None:
    """Who the file says holds it; None where it says nobody or cannot be understood (a write that was cut off)."""
    try:
        holder = json.loads(os.pread(handle, 4096, 0))
    except (OSError, ValueError, RecursionError):
        return None
    fields = {"pid": int, "started": int, "boot": str, "host": str}
    known = isinstance(holder, dict) and all(type(holder.get(name)) is kind for name, kind in fields.items())
    return holder if known else None


def ourselves() -> dict[str, Any]:
    """What a lock says of the process that holds it."""
    pid = os.getpid()
    return {"pid": pid, "started": _started(pid) or 0, "boot": _boot(), "host": platform.node()}


def _lives(holder: dict[str, Any]) -> bool:
    if holder["boot"] == _boot():
        started = _started(holder["pid"])
        return started is not None and started == holder["started"]
    return holder["host"] != platform.node()  # another machine cannot be asked; this one was started anew since


def _refusal(path: Path, holder: dict[str, Any] | None) -> UsageError:
    who = f"process {holder['pid']} on {holder['host'][:80]}" if holder else "another process"
    return UsageError(
        f"{path.parent} is in use by {who}",
        expected="one run in a folder at a time",
        fix=f"wait for it, write elsewhere, or remove {path} if you know that run to have ended",
    )


def _started(pid: int) -> int | None:
    """When a process started, in clock ticks since the machine did; None for one that is gone."""
    if pid <= 0:
        return None
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # a process's name may hold anything, even ")"
        return None if fields[0] == b"Z" else int(fields[19])  # ended, though nobody took note
    except (FileNotFoundError, ProcessLookupError):
        if os.path.isdir("/proc/self"):
            return None
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass  # somebody else's, but there
    return 0


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
