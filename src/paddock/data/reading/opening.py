"""Files found, opened and decompressed as a stream, in bounded memory whatever their bytes are."""

from __future__ import annotations

import glob
import os
import stat
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import zstandard

from paddock.errors import DataError, UsageError, did_you_mean

CHUNK = 2**18
ZSTD_PIECE = 2**8  # of compressed bytes at once: a block of four bytes may stand for 128 KiB, so that this is 8 MiB
ZSTD_WINDOW = 2**27  # what `zstd --ultra --long=27` needs; a header may ask for more than any machine has
RATIO, FREE = 1000, 64 * 2**20  # a file that grows more than this, after so many bytes, is no text

GZIP, ZSTD, PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
FOREIGN = {
    b"PK\x03\x04": ("a zip archive", "unpack it, and name what was in it"),
    b"BZh": ("compressed by bzip2", "decompress it, or pack it with gzip or zstd"),
    b"\xfd7zXZ\0": ("compressed by xz", "decompress it, or pack it with gzip or zstd"),
    b"%PDF-": ("a PDF", "save its text as a text file"),
    b"MMIDIDX\0": ("the index of a Megatron token file", "token files are read where tokens are, not documents"),
    b"GGUF": ("a GGUF model", None),
    b"\x89PNG": ("an image", None),
    b"\xff\xd8\xff": ("an image", None),
    b"\x7fELF": ("a program", None),
}


def find_files(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Every file that is named: files, folders (all files below that are not hidden), patterns; sorted within each."""
    if isinstance(paths, str | Path):
        paths = [paths]
    found: list[Path] = []
    for name in paths:
        text, path = str(name), Path(name)
        if "://" in text:
            raise UsageError(f"{text} is an address", fix="download it first: documents are read from files only")
        if path.is_dir():
            some = [Path(p) for p in glob.glob(f"{glob.escape(text)}/**/*", recursive=True)]
        elif path.exists() or not glob.has_magic(text):
            some = [path]
        else:
            some = [Path(p) for p in glob.glob(text, recursive=True)]
        some = sorted(each for each in some if not each.is_dir())
        if not some:
            raise DataError(f"{text} names no file", fix="check the pattern or the folder")
        found += some
    if not found:
        raise UsageError("no files are named", fix="name files, folders or patterns")
    return found


class Source:
    """One file as a stream of bytes, decompressed by what its first bytes say; to be closed.

    compression: "", "gzip" or "zstd". size: bytes on the disk. parquet: the file is one, and is read otherwise.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0
        try:
            self._file: BinaryIO = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise _unreadable(path, error) from None
        try:
            about = os.fstat(self._file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise DataError(f"{path} is not a regular file", expected="a file of documents")
            self.size = about.st_size
            start = self._file.read(8)
            self._file.seek(0)
        except OSError as error:
            self._file.close()
            raise _unreadable(path, error) from None
        except DataError:
            self._file.close()
            raise
        self.parquet = start.startswith(PARQUET)
        self.compression = "gzip" if start.startswith(GZIP) else "zstd" if _is_zstd(start) else ""
        if foreign := next((about for magic, about in FOREIGN.items() if start.startswith(magic)), None):
            self.close()
            raise DataError(f"{path} is {foreign[0]}", expected="text, JSON, JSON lines or Parquet", fix=foreign[1])
        if not self.size and path.suffix.lower() in (".gz", ".zst", ".parquet"):
            self.close()
            raise DataError(f"{path} is empty (0 bytes)", fix="copy or download it again")

    def close(self) -> None:
        self._file.close()

    def chunks(self) -> Iterator[bytes]:
        """The bytes, decompressed. Raises DataError for what is truncated, corrupt or a bomb."""
        match self.compression:
            case "gzip":
                yield from self._bounded(self._gunzip())
            case "zstd":
                yield from self._bounded(self._unzstd())
            case _:
                yield from self._raw()

    def _raw(self) -> Iterator[bytes]:
        while True:
            try:
                data = self._file.read(CHUNK)
            except OSError as error:
                raise _unreadable(self.path, error) from None
            self._read += len(data)
            if not data:
                break
            yield data
        if self._read != self.size:
            raise DataError(
                f"{self.path} changed while it was read: {self.size} bytes at first, {self._read} at the end",
                fix="wait until it is written, and start again",
            )

    def _bounded(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        written = 0
        for chunk in chunks:
            written += len(chunk)
            if written > FREE and written > RATIO * self._read:
                raise DataError(
                    f"{self.path} grows to more than {RATIO} times its size",
                    fix="decompress it yourself if you trust it",
                )
            yield chunk

    def _gunzip(self) -> Iterator[bytes]:
        member = None
        for data in self._raw():
            pending = False  # all of `data` is taken in, and not all that it stands for has come out
            while data or pending:
                if member is None:
                    data = data.lstrip(b"\0")  # padding between members
                    if not data:
                        break
                    member = zlib.decompressobj(wbits=31)
                try:
                    chunk = member.decompress(data, CHUNK)
                except zlib.error as error:
                    raise self._corrupt(str(error)) from None
                if chunk:
                    yield chunk
                data, pending = member.unconsumed_tail, len(chunk) == CHUNK
                if member.eof:
                    data, pending, member = member.unused_data, False, None
        if member is not None:
            raise self._corrupt("it ends in the middle")

    def _unzstd(self) -> Iterator[bytes]:
        decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
        frame = None
        for data in self._raw():
            for start in range(0, len(data), ZSTD_PIECE):
                piece = data[start : start + ZSTD_PIECE]
                while piece:
                    frame = frame or decompressor.decompressobj()
                    try:
                        chunk = frame.decompress(piece)
                    except zstandard.ZstdError as error:
                        raise self._corrupt(str(error)) from None
                    if chunk:
                        yield chunk
                    piece = b""
                    if frame.eof:
                        piece, frame = frame.unused_data, None
        if frame is not None:
            raise self._corrupt("it ends in the middle")

    def _corrupt(self, why: str) -> DataError:
        if "too much memory" in why:
            why = f"its frame wants a window of more than {ZSTD_WINDOW // 2**20} MiB"
        return DataError(f"{self.path} cannot be decompressed: {why}", fix="copy or download it again")


def _is_zstd(start: bytes) -> bool:
    """A frame, or one to be skipped (which parallel compressors put first)."""
    return start.startswith(ZSTD) or (len(start) >= 4 and start[1:4] == b"\x2a\x4d\x18" and start[0] & 0xF0 == 0x50)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe without a writer would be waited for, for ever


def _unreadable(path: Path, error: OSError) -> DataError:
    if isinstance(error, FileNotFoundError):
        try:
            beside = sorted(each.name for each in path.parent.iterdir())[:1000]
        except OSError:
            beside = []
        return DataError(f"{path} is not there", fix=did_you_mean(path.name, beside))
    return DataError(f"{path} cannot be read: {error.strerror or error}")
