"""One file from a hub to this disk: what came is kept, what is missing is asked for, what came is checked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from paddock.checkpoint.hub.exchange import Hub, Transient, Tries
from paddock.checkpoint.hub.files import Remote
from paddock.checkpoint.writing import FULL
from paddock.errors import CheckpointError, PaddockError, ResourceError

if TYPE_CHECKING:
    from hashlib import _Hash

# Some of the servers behind hubs refuse answers beyond 50 GB, though not files beyond it.
PIECE = 32 * 2**30
BLOCK = 1 << 20
NOT_THROUGH = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)  # links; line ends, on Windows


def begun(partial: Path, size: int) -> int:
    """How many bytes of a file of `size` an earlier try left at `partial`."""
    try:
        there = partial.lstat().st_size
    except OSError:
        return 0
    return there if there <= size and not partial.is_symlink() else 0


def fetch(
    hub: Hub, url: str, remote: Remote, partial: Path, progress: Callable[[int], None], piece: int = PIECE
) -> None:
    """Fills `partial` with the bytes of `remote`, from where an earlier try ended, and checks them.

    `progress` hears of each change in the number of bytes that are there, negative where they were of no use. What
    does not match its hash is fetched once more from the beginning. Raises CheckpointError where it still does not,
    ServiceError where the hub does not give it, ResourceError for a full disk. What came is kept, unless it is wrong.
    """
    for last in (False, True):
        found = _fill(hub, url, remote, partial, progress, piece)
        if found == remote.digest:
            return
        partial.unlink()
        progress(-remote.size)
        if last:
            raise CheckpointError(
                f"{remote.path} came twice with other bytes than the hub has: its hash is {found[:16]}...",
                expected=f"{remote.digest[:16]}...",
                fix="pull again later; a proxy that changes files may be in between",
            )
        hub.told(f"{remote.path} came with other bytes than the hub has; fetching it again")


def _fill(hub: Hub, url: str, remote: Remote, partial: Path, progress: Callable[[int], None], piece: int) -> str:
    """Fetches what is missing and returns the hash of the whole."""
    have = begun(partial, remote.size)
    try:
        if not have:
            partial.unlink(missing_ok=True)
        handle = os.open(partial, os.O_RDWR | os.O_CREAT | NOT_THROUGH, 0o666)
        with open(handle, "r+b", buffering=0) as file:
            hashed = _start(remote)
            while block := file.read(BLOCK):
                hashed.update(block)
            have, tries = file.tell(), Tries(hub)
            while have < remote.size:
                before = have
                try:
                    with hub.body(url, have, min(have + piece, remote.size), remote.size) as (begins, pieces):
                        if begins != have:  # a server that knows no ranges begins anew
                            have, hashed = _again(file, have, remote, progress)
                            before = 0
                        for part in pieces:
                            _write(file.fileno(), part)
                            hashed.update(part)
                            have += len(part)
                            progress(len(part))
                except Transient as problem:
                    if problem.restart and have:
                        have, hashed = _again(file, have, remote, progress)
                    tries.failed(problem, progress=have - before >= hub.patience.enough)
            os.fsync(file.fileno())
        return hashed.hexdigest()
    except OSError as error:
        if error.errno in FULL:
            raise ResourceError(
                f"no space left for {remote.path}; {begun(partial, remote.size):,} bytes of it are kept",
                fix="free some space and pull again",
            ) from None
        raise PaddockError(f"{partial} cannot be written: {error.strerror or error}") from None


def _again(file: object, have: int, remote: Remote, progress: Callable[[int], None]) -> tuple[int, _Hash]:
    """Drops what is there."""
    os.ftruncate(file.fileno(), 0)  # type: ignore[attr-defined]
    os.lseek(file.fileno(), 0, os.SEEK_SET)  # type: ignore[attr-defined]
    progress(-have)
    return 0, _start(remote)


def _write(handle: int, part: bytes) -> None:
    rest = memoryview(part)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _start(remote: Remote) -> _Hash:
    """A hash as the hub counts: SHA-256 of large files; of small ones git's, which begins with their length."""
    if len(remote.digest) == 64:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % remote.size, usedforsecurity=False)


def digest_of(path: Path, remote: Remote) -> str:
    """The hash of a file that is there, as the hub counts."""
    hashed = hashlib.sha256() if len(remote.digest) == 64 else None
    hashed = hashed or hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            hashed.update(block)
    return hashed.hexdigest()
