"""A file of weights as bounded views of a memory map: nothing is copied, nothing outside the file can be asked for."""

from __future__ import annotations

import math
import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING

from paddock.errors import CheckpointError

if TYPE_CHECKING:
    import torch

PAGE = mmap.ALLOCATIONGRANULARITY


class MappedFile:
    """A regular file mapped copy-on-write: a tensor made from it can be written to without touching the file.

    Every `offset` and `size` is checked against the file's length in Python integers before the map is touched, so a
    length read from a hostile file can neither wrap nor allocate. Tensors keep the map alive.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = self.path.name
        try:
            if not self.path.is_file():  # a folder, a pipe and a socket all open, some for ever
                kind = "a folder" if self.path.is_dir() else "not a regular file" if self.path.exists() else "missing"
                raise CheckpointError(f"{self.path} is {kind}", expected="a file of weights")
            with self.path.open("rb") as file:
                found = os.fstat(file.fileno())
                self.size, self.identity = found.st_size, identity(found)
                if self.size == 0:
                    raise CheckpointError(f"{self.name} is empty (0 bytes)", fix="download or copy the file again")
                self.map = mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_COPY)
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be read: {error.strerror or error}") from None
        except ValueError as error:  # the file shrank between fstat and mmap
            raise CheckpointError(f"{self.path} changed while it was opened: {error}") from None

    def check(self, offset: int, size: int, what: str) -> None:
        """Refuses a range that is not wholly inside the file. `what` names the range for the message."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise CheckpointError(
                f"{self.name} is cut short or corrupt: {what} needs bytes {offset} to {offset + size}",
                expected=f"at most {self.size} bytes, the file's size",
                fix="download or copy the file again",
            )

    def bytes(self, offset: int, size: int, what: str) -> bytes:
        """A copy of `size` bytes at `offset`."""
        self.check(offset, size, what)
        return self.map[offset : offset + size]

    def tensor(self, offset: int, dtype: torch.dtype, shape: tuple[int, ...], what: str) -> torch.Tensor:
        """A tensor of `shape` whose storage is the map itself; pages are read when they are first used."""
        import torch  # not above: headers are read without it (ahead.py)

        if any(extent < 0 for extent in shape):
            raise CheckpointError(f"{self.name}: {what} has a negative dimension in {list(shape)}")
        if math.prod(max(extent, 1) for extent in shape) >= 2**60:  # beyond PyTorch's strides, even where one is 0
            raise CheckpointError(f"{self.name}: {what} has the impossible shape {list(shape)}")
        count = math.prod(shape)
        self.check(offset, count * dtype.itemsize, what)
        if count == 0:
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(self.map, dtype=dtype, count=count, offset=offset).view(shape)

    def forget(self, offset: int, size: int) -> None:
        """Tells the system that this range will not be read again soon, so it need not stay in memory.

        For ranges that were copied into another layout: without it a loader holds its source and its result.
        Whole pages strictly inside the range only, as neighbours share the pages at its edges.
        """
        start = -(-offset // PAGE) * PAGE
        stop = (offset + size) // PAGE * PAGE
        if stop > start and hasattr(mmap, "MADV_DONTNEED"):
            self.map.madvise(mmap.MADV_DONTNEED, start, stop - start)


def identity(found: os.stat_result) -> tuple[int, ...]:
    """What changes where a path comes to mean another file, or the file is written to."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
