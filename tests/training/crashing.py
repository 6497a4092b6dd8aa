"""A file system that can lose power: what is done to a folder is noted, and played again up to any point, in any way
in which a machine that stops may have left it on its disk."""

from __future__ import annotations

import contextlib
import io
import itertools
import operator
import os
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

HOOKED = ("fsync", "rename", "replace", "unlink", "remove", "mkdir", "rmdir", "ftruncate", "write")


def place_of(root: Path, target: Any, dir_fd: int | None = None) -> str | None:
    """The name under `root` of what a call is about; None where it is elsewhere."""
    if isinstance(target, int):
        path = os.readlink(f"/proc/self/fd/{target}")
    elif dir_fd is not None:
        path = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), os.fspath(target))
    else:
        path = os.path.abspath(os.fspath(target))
    inside = os.path.relpath(path, root)
    return None if inside.startswith("..") else inside


Hears = Callable[[str, str, str | None], None]


def ignore(name: str, place: str, goal: str | None) -> None:
    """Hears nothing."""


@contextlib.contextmanager
def each_call(root: Path, before: Hears = ignore, after: Hears = ignore) -> Iterator[None]:
    """`before` and `after` hear of every call under `root` that changes or settles something, and did not fail: its
    name, its place, and where a renaming leads."""
    with pytest.MonkeyPatch.context() as patch:

        def hooked(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
            def wrapper(target: Any, *rest: Any, **named: Any) -> Any:
                place = place_of(root, target, named.get("dir_fd"))
                goal = place_of(root, rest[0]) if name in ("rename", "replace") else None
                if place is not None:
                    before(name, place, goal)
                result = call(target, *rest, **named)
                if place is not None:
                    after(name, place, goal)
                return result

            return wrapper

        for name in HOOKED:
            patch.setattr(os, name, hooked(name, getattr(os, name)))
        plain, opening = io.open, hooked("open", io.open)

        def opened(target: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
            writes = isinstance(target, str | os.PathLike) and set(mode) & set("wax+")
            return (opening if writes else plain)(target, mode, *rest, **named)

        patch.setattr(io, "open", opened)
        patch.setattr("builtins.open", opened)
        yield


@dataclass
class File:
    """Bytes as programs see them, and as they are on the disk (None: never brought there)."""

    seen: bytes
    kept: bytes | None = None


@dataclass
class Folder:
    """Entries as programs see them, as they are on the disk, and what was done to them since."""

    seen: dict[str, File | Folder] = field(default_factory=dict)
    kept: dict[str, File | Folder] = field(default_factory=dict)
    since: list[dict[str, File | Folder | None]] = field(default_factory=list)

    def change(self, entries: dict[str, File | Folder | None]) -> None:
        self.since.append(entries)
        _apply(self.seen, entries)

    def settle(self) -> None:
        self.kept, self.since = dict(self.seen), []


def _apply(entries: dict[str, File | Folder], change: dict[str, File | Folder | None]) -> None:
    for name, node in change.items():
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


Op = tuple[str, str, Any]


class Recorder:
    """Notes what is done under a folder; a write is seen in what files hold when something else is done."""

    def __init__(self, root: Path) -> None:
        self.root, self.ops = root, list[Op]()
        self.start = _tree(root)
        self._known = dict(_contents(root))

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        with each_call(self.root, before=lambda name, place, goal: self._look(), after=self._note):
            yield
        self._look()

    def _note(self, name: str, place: str, goal: str | None) -> None:
        kind = {"replace": "rename", "remove": "unlink"}.get(name, name)
        if kind in ("fsync", "mkdir", "rmdir", "unlink", "rename"):
            self.ops.append((kind, place, goal))
            if kind in ("unlink", "rename"):
                self._known = dict(_contents(self.root))

    def _look(self) -> None:
        now = dict(_contents(self.root))
        for place, data in now.items():
            if self._known.get(place) != data:
                self.ops.append(("write", place, data))
        self._known = now

    def states(self) -> Iterator[tuple[int, str, Callable[[Path], None]]]:
        """(operations done, how the machine stopped, what lays out the folder as it was then)."""
        for done in range(len(self.ops) + 1):
            disk = deepcopy(self.start)
            last = None
            for op in self.ops[:done]:
                last = _play(disk, op) or last
            for how in WAYS:
                yield done, how, lambda goal, disk=disk, how=how, last=last: _lay(goal, disk, how, last)


def _contents(root: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(root.rglob("*")):
        if path.is_file():
            yield path.relative_to(root).as_posix(), path.read_bytes()


def _tree(path: Path) -> Folder:
    folder = Folder()
    for entry in path.iterdir():
        folder.seen[entry.name] = _tree(entry) if entry.is_dir() else File(*[entry.read_bytes()] * 2)
    folder.settle()
    return folder


def _find(disk: Folder, place: str) -> tuple[Folder, str]:
    *above, name = Path(place).parts or (".",)
    for part in above:
        inner = disk.seen[part]
        assert isinstance(inner, Folder)
        disk = inner
    return disk, name


def _play(disk: Folder, op: Op) -> File | None:
    """Does one operation; gives the file that was written, if one was."""
    kind, place, more = op
    folder, name = _find(disk, place)
    if kind == "write":
        node = folder.seen.get(name)
        if not isinstance(node, File):
            node = File(b"")
            folder.change({name: node})
        node.seen = more
        return node
    if kind == "fsync":
        node = disk if place == "." else folder.seen[name]
        if isinstance(node, Folder):
            node.settle()
        else:
            node.kept = node.seen
    elif kind == "mkdir":
        folder.change({name: Folder()})
    elif kind in ("unlink", "rmdir"):
        folder.change({name: None})
    elif kind == "rename":
        goal, new = _find(disk, more)
        node = folder.seen[name]
        if goal is folder:
            folder.change({name: None, new: node})
        else:
            folder.change({name: None})
            goal.change({new: node})
    return None


# In what order the disk took what nobody waited for: all of it; names but no bytes; nothing; all but the second half of
# the last write; of each folder's changes the last alone; the names of the run's folder alone, and nothing below.
WAYS = ("clean", "bytes lost", "all lost", "torn", "last name alone", "outer names alone")


def _lay(goal: Path, folder: Folder, how: str, last: File | None, outer: bool = True) -> None:
    goal.mkdir()
    if how in ("clean", "bytes lost", "torn") or (how == "outer names alone" and outer):
        entries = folder.seen
    else:
        entries = dict(folder.kept)
        if how == "last name alone" and folder.since:
            _apply(entries, folder.since[-1])
    for name, node in entries.items():
        if isinstance(node, Folder):
            _lay(goal / name, node, how, last, outer=False)
        elif how == "clean" or (how == "torn" and node is not last):
            (goal / name).write_bytes(node.seen)
        elif how == "torn":
            shared = sum(1 for _ in itertools.takewhile(bool, map(operator.eq, node.seen, node.kept or b"")))
            (goal / name).write_bytes(node.seen[: (shared + len(node.seen)) // 2])
        else:
            (goal / name).write_bytes(node.kept or b"")
