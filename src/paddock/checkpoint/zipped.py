"""Zip archives whose members are stored as they are: names and byte ranges, from the central directory at the end.

Nothing is ever decompressed, so nothing can expand. Format: PKWARE's APPNOTE.TXT, sections 4.3 and 4.5.3 (zip64).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from paddock.checkpoint.mapped import MappedFile
from paddock.errors import CheckpointError, UnsupportedError

MEMBER_LIMIT = 100_000
DIRECTORY_LIMIT = 16 * 2**20
_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")


def members(file: MappedFile) -> dict[str, tuple[int, int]]:
    """Where each member's bytes lie: name to (offset, size). Raises CheckpointError, or UnsupportedError if no zip."""
    result: dict[str, tuple[int, int]] = {}
    for name, header, size in _entries(file):
        if name in result:
            raise CheckpointError(f"{file.name} has two members named {name[:80]!r}")
        local = _LOCAL.unpack(file.bytes(header, _LOCAL.size, f"the head of member {name[:80]!r}"))
        if local[0] != b"PK\3\4":
            raise CheckpointError(f"{file.name}: member {name[:80]!r} does not begin where the directory says")
        offset = header + _LOCAL.size + local[9] + local[10]
        file.check(offset, size, f"member {name[:80]!r}")
        result[name] = (offset, size)
    end = 0
    for offset, size in sorted(result.values()):
        if offset < end:
            raise CheckpointError(f"{file.name} holds overlapping members")
        end = offset + size
    return result


def _entries(file: MappedFile) -> Iterator[tuple[str, int, int]]:
    """Name, header's offset and size of each member."""
    count, size, start = _directory(file)
    if count > MEMBER_LIMIT or size > DIRECTORY_LIMIT:
        raise CheckpointError(f"{file.name} lists {count} members", expected=f"at most {MEMBER_LIMIT}")
    directory = file.bytes(start, size, "the zip directory")
    at = 0
    for _ in range(count):
        if at + _ENTRY.size > size or directory[at : at + 4] != b"PK\1\2":
            raise CheckpointError(f"{file.name}: the zip directory is corrupt at byte {start + at}")
        fields = _ENTRY.unpack_from(directory, at)
        flags, method, packed, plain, name_size, extra_size, comment_size = (*fields[3:5], *fields[8:13])
        body = at + _ENTRY.size
        name = directory[body : body + name_size].decode("utf-8", "replace")
        extra = directory[body + name_size : body + name_size + extra_size]
        plain, packed, header = _wide(extra, [plain, packed, fields[16]])
        if method or flags & 1 or packed != plain:
            raise CheckpointError(
                f"{file.name}: member {name[:80]!r} is compressed or encrypted", expected="plain bytes"
            )
        yield name, header, plain
        at = body + name_size + extra_size + comment_size


def _directory(file: MappedFile) -> tuple[int, int, int]:
    """Members, size and offset of the central directory."""
    tail_at = max(0, file.size - _END.size - 65535)
    tail = file.bytes(tail_at, file.size - tail_at, "the end of the archive")
    found = tail.rfind(b"PK\5\6")
    if found < 0 or len(tail) - found < _END.size:
        raise UnsupportedError(f"{file.name} is not a zip archive, or is cut short", expected="a file of torch.save")
    _, _, _, _, count, size, start, _ = _END.unpack_from(tail, found)
    locator = found - _LOCATOR.size
    if locator >= 0 and tail[locator : locator + 4] == b"PK\6\7":
        at = _LOCATOR.unpack_from(tail, locator)[2]
        end = _END64.unpack(file.bytes(at, _END64.size, "the zip64 directory's place"))
        if end[0] != b"PK\6\6":
            raise CheckpointError(f"{file.name}: no zip64 record where its locator says")
        count, size, start = end[7:]
    return count, size, start


def _wide(extra: bytes, values: list[int]) -> list[int]:
    """Values of 2^32 - 1 stand for 64-bit ones, kept in this order in the extra field with the id 1."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{min(size, len(extra) - at - 4) // 8}Q", extra, at + 4))
            return [next(wide, value) if value == 0xFFFFFFFF else value for value in values]
        at += 4 + size
    return values
