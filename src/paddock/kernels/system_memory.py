"""How much memory this process may have: the machine's, or its control group's (a container's) where that is less."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
PROCESS_CGROUP = Path("/proc/self/cgroup")


def total() -> int:
    """Bytes that this process could ever have: all of the machine's, or the smallest limit of the groups it is in."""
    return min([_machine(), *(limit for limit, _ in _groups())])


def available() -> int:
    """Bytes that one more allocation can have now, what the system keeps of files and would drop included."""
    return min([_unused(), *(left for _, left in _groups())])


def _machine() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _unused() -> int:
    """Memory of the machine that nobody uses; all of it where the system does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return _machine()


def _groups() -> list[tuple[int, int]]:
    """(limit, what is left of it) of each control group on the way up that has a limit. File pages that a group could
    drop count as left. Version 2 of control groups, and version 1's memory controller."""
    found: list[tuple[int, int]] = []
    for folder, limit, used, dropped in _folders():
        with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
            most = int((folder / limit).read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            found.append((most, max(most - int((folder / used).read_text()) + int(stat.get(dropped, 0)), 0)))
    return found


def _folders() -> list[tuple[Path, str, str, str]]:
    """Each group this process is in, from the innermost up, and the names of its files: limit, use, what can go."""
    found: list[tuple[Path, str, str, str]] = []
    with contextlib.suppress(OSError, ValueError):
        for line in PROCESS_CGROUP.read_text().splitlines():
            _, controllers, place = line.split(":", 2)
            if controllers == "":
                root, files = CGROUP, ("memory.max", "memory.current", "inactive_file")
            elif "memory" in controllers.split(","):
                root = CGROUP / "memory"
                files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            else:
                continue
            folder = root / place.lstrip("/")
            while folder != root and root in folder.parents:
                found.append((folder, *files))
                folder = folder.parent
            found.append((root, *files))
    return found
