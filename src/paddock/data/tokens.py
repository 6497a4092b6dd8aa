"""Documents as token ids: one array of ids, however many files it lies in, and where each document ends."""

from __future__ import annotations

import bisect
import functools
import mmap
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from paddock.errors import DataError

MAPS = 256  # files held open at once: a process may hold about a thousand


@dataclass(frozen=True)
class Vocabulary:
    """Whose ids these are. end, begin: the ids that end and begin every document; None where nothing was put there."""

    size: int
    fingerprint: str = ""
    end: int | None = None
    begin: int | None = None


class Ids(Protocol):
    """Ids one after another, read by slices: an array, or files that look like one."""

    @property
    def dtype(self) -> np.dtype: ...

    def __len__(self) -> int: ...

    def __getitem__(self, span: slice, /) -> np.ndarray: ...


class Tokens:
    """Documents as token ids one after another, and where each ends.

    ids (tokens,) of an integer type; ends (documents,) int64: document i is ids[ends[i - 1] : ends[i]].
    vocabulary: None where nobody said; name: for messages. `watch` is called before `ends` is read, and raises
    DataError if that is no longer safe.
    """

    def __init__(
        self,
        ids: Ids,
        ends: np.ndarray,
        vocabulary: Vocabulary | None = None,
        name: str = "these tokens",
        watch: Callable[[], None] | None = None,
    ) -> None:
        self.ids, self._ends, self._watch = ids, ends, watch
        self.vocabulary, self.name = vocabulary, name

    @classmethod
    def of(cls, documents: Iterable[Iterable[int]]) -> Tokens:
        """In memory, for small data and tests."""
        arrays = [np.asarray(list(document), dtype=np.uint32) for document in documents]
        ids = np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.uint32)
        return cls(ids, np.cumsum([len(array) for array in arrays], dtype=np.int64))

    @classmethod
    def open(cls, path: str | Path, verify: bool = False) -> Tokens:
        """Token shards (a folder) or a Megatron file pair at `path`; see `shards.open_tokens`."""
        from paddock.data.shards import open_tokens  # the formats are built on this value

        return open_tokens(path, verify)

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def ends(self) -> np.ndarray:
        if self._watch is not None:
            self._watch()
        return self._ends

    def document(self, number: int) -> np.ndarray:
        ends = self.ends
        return self.ids[int(ends[number - 1]) if number else 0 : int(ends[number])]


class TokenFile:
    """One file of raw little-endian numbers, mapped when it is first read.

    Its size is checked when it is opened here and again before each read: a file that was cut short while it is mapped
    would otherwise end the process. A mapped file that is deleted stays readable to the end.
    Raises DataError for a file that is missing, no regular file, or not `count` numbers long.
    """

    def __init__(self, path: Path, dtype: np.dtype, count: int) -> None:
        self.path, self.dtype, self.count = path, dtype.newbyteorder("<"), count
        self.size = count * dtype.itemsize
        if not path.is_file():
            kind = "no regular file" if path.exists() else "missing"
            raise DataError(f"{path} is {kind}", expected=f"a file of {self.size} bytes", fix="write the shards again")
        self._check(path.stat().st_size)

    def open(self) -> tuple[np.ndarray, Callable[[], None]]:
        """The numbers, and a function that raises DataError if the file has become shorter since."""
        if self.size == 0:
            return np.zeros(0, self.dtype), lambda: None
        try:
            with self.path.open("rb") as file:
                self._check(os.fstat(file.fileno()).st_size)
                view = mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise DataError(f"{self.path} was deleted while it was needed", fix="put it back and resume") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path} cannot be read: {error}") from None
        return np.frombuffer(view, self.dtype), lambda: self._check(view.size())

    def _check(self, size: int) -> None:
        if size != self.size:
            raise DataError(
                f"{self.path} is {size} bytes long: cut short, swapped or corrupt",
                expected=f"{self.size} bytes ({self.count} numbers of {self.dtype.itemsize})",
                fix="write the shards again, or copy the file again",
            )


class FileIds:
    """Files of ids end to end as one array. What is read is checked against the vocabulary (`size` ids; None: any)."""

    def __init__(self, files: Sequence[TokenFile], size: int | None) -> None:
        assert files, "ids in no file"
        self._files, self._size = files, size
        self._starts = np.cumsum([0, *(file.count for file in files)]).tolist()
        self._open = functools.lru_cache(maxsize=MAPS)(lambda number: files[number].open())

    @property
    def dtype(self) -> np.dtype:
        return self._files[0].dtype

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, span: slice) -> np.ndarray:
        start, stop, step = span.indices(len(self))
        assert step == 1, "ids are read in their order"
        parts = []
        number = bisect.bisect_right(self._starts, start) - 1
        while start < stop:
            first, last = self._starts[number], min(stop, self._starts[number + 1])
            if start < last:
                parts.append(self._part(number, start - first, last - first))
            start, number = last, number + 1
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.zeros(0, self.dtype)

    def _part(self, number: int, start: int, stop: int) -> np.ndarray:
        ids, check = self._open(number)
        check()
        part = ids[start:stop]
        high, low = int(part.max()), int(part.min()) if self.dtype.kind == "i" else 0
        if low < 0 or (self._size is not None and high >= self._size):
            raise DataError(
                f"{self._files[number].path} holds the id {low if low < 0 else high} between tokens {start} and {stop}",
                expected="ids from 0" if self._size is None else f"ids from 0 to {self._size - 1}, the vocabulary's",
                fix="write the shards again: this file is corrupt",
            )
        return part
