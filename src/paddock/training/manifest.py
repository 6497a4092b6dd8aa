"""What a finished folder holds, written last: a folder that was cut short has no manifest, a damaged one disagrees.

The order in which things reach the disk is what makes it so: every file, then every folder, then the manifest, then the
folder again; who seals renames the folder only after that.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paddock.checkpoint.jsonfile import read as read_json
from paddock.checkpoint.writing import flush
from paddock.errors import CheckpointError, PaddockError

NAME = "manifest.json"
FORMAT = 1
_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}){0,3}")


def seal(folder: Path, name: str) -> None:
    """Brings everything in `folder` to the disk, and then a manifest of it, for the folder's name-to-be.

    Raises OSError as the file system gives it, PaddockError for a name that a manifest cannot hold.
    """
    for path in folder.rglob("*"):
        inside = path.relative_to(folder).as_posix()
        if not path.is_dir() and (path.is_symlink() or not _FILE.fullmatch(inside)):
            raise PaddockError(f"{path} cannot be part of a saved folder", expected="plain names, no links")
    files = [{"name": file, "bytes": size, "sha256": digest} for file, size, digest in _settled(folder)]
    path = folder / NAME
    path.write_bytes(_text({"format": FORMAT, "folder": name, "files": files}))
    flush(path)
    flush(folder)


def _settled(folder: Path) -> Iterator[tuple[str, int, str]]:
    folders = [folder]
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            folders.append(path)
            continue
        flush(path)
        yield path.relative_to(folder).as_posix(), path.stat().st_size, sha256(path)
    for each in reversed(folders):
        flush(each)


def verify(folder: Path, name: str) -> dict[str, str]:
    """The files of a sealed folder and their SHA-256, after every byte was compared.

    Raises CheckpointError, which says what is wrong first: no manifest, one that is not ours or another folder's, a
    file that lacks or is not listed, a size, a digest. Hidden files, which file managers leave about, are passed over.
    """
    listed = _read(folder, name)
    found = set()
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        if (path.is_dir() and not path.is_symlink()) or any(part.startswith(".") for part in inside.parts):
            continue
        if path.is_symlink() or not path.is_file():
            raise CheckpointError(f"{path} is not a regular file")
        found.add(inside.as_posix())
    if missing := sorted(listed.keys() - found):
        raise CheckpointError(f"{folder} lacks {missing[0]}", expected=f"the {len(listed)} files of its {NAME}")
    if strange := sorted(found - listed.keys() - {NAME}):
        raise CheckpointError(f"{folder} holds {strange[0][:200]}, which its {NAME} does not list")
    for file, (size, _) in listed.items():  # the quick comparison of all files first
        if (is_now := (folder / file).stat().st_size) != size:
            raise CheckpointError(f"{folder / file} is {is_now} bytes", expected=f"{size}; it was cut short or changed")
    for file, (_, digest) in listed.items():
        if sha256(folder / file) != digest:
            raise CheckpointError(f"{folder / file} is not what was written: its SHA-256 differs from {NAME}'s")
    return {file: digest for file, (_, digest) in listed.items()}


def _read(folder: Path, name: str) -> dict[str, tuple[int, str]]:
    path = folder / NAME
    table = read_json(path)
    files = table.get("files")
    if table.keys() != {"format", "folder", "files"} or table["format"] != FORMAT or not isinstance(files, list):
        raise CheckpointError(f"{path} is not a manifest", expected=f"format {FORMAT}: format, folder and files")
    if table["folder"] != name:
        raise CheckpointError(f"{path} is that of {str(table['folder'])[:80]!r}", expected=name)
    if path.read_bytes() != _text(table):
        raise CheckpointError(f"{path} was changed after it was written")
    result: dict[str, tuple[int, str]] = {}
    for entry in files:
        if not _entry(entry) or entry["name"] in result:
            raise CheckpointError(f"{path} lists {str(entry)[:120]}", expected="each file once: name, bytes, sha256")
        result[entry["name"]] = entry["bytes"], entry["sha256"]
    return result


def _entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or entry.keys() != {"name", "bytes", "sha256"}:
        return False
    name, size, digest = entry["name"], entry["bytes"], entry["sha256"]
    return (
        isinstance(name, str)
        and _FILE.fullmatch(name) is not None
        and type(size) is int
        and isinstance(digest, str)
        and re.fullmatch(r"[0-9a-f]{64}", digest) is not None
    )


def _text(table: dict[str, Any]) -> bytes:
    return (json.dumps(table, indent=1, ensure_ascii=True) + "\n").encode()


def sha256(path: Path) -> str:
    """Of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
