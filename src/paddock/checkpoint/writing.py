"""How every file is written: whole under its final name, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from paddock.errors import PaddockError, ResourceError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yields the path of a new, empty file beside `path`; the body fills it, by any means that takes a path.

    When the body ends well the file is flushed to the disk and renamed to `path`, and the folder is flushed. When it
    fails, whatever the reason, the temporary file is removed and what stood at `path` before is untouched. As the old
    file is never written to, a memory map of it stays valid: a checkpoint can be saved onto the file it came from.
    A link at `path` is replaced, not followed. Missing parent folders are made.

    Raises ResourceError when the disk is full, PaddockError for any other refusal of the file system.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            yield partial
            flush(partial)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        flush(path.parent)
    except OSError as error:
        if error.errno in FULL:
            raise ResourceError(f"no space left to write {path}", fix="free some space, or write elsewhere") from None
        raise PaddockError(f"{path} cannot be written: {error.strerror or error}") from None


def write_text(path: str | Path, text: str) -> None:
    """`text` as UTF-8 at `path`, atomically, line ends as they are."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, data: bytes) -> None:
    """`data` at `path`, atomically."""
    with atomic_write(path) as partial:
        partial.write_bytes(data)


def flush(path: Path) -> None:
    """Waits until a file's bytes, or a folder's entries, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
