"""Files and folders of lists, read by what they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paddock.catalog.importing import chart, ecosystem
from paddock.catalog.importing.drafts import Listed
from paddock.catalog.importing.names import identifier
from paddock.errors import DataError, UsageError

MAX_BYTES = 256 << 10  # of a file: the largest of Ecosystem Graphs has a third of that
MAX_FILES = 2000
READERS = {".yaml": ecosystem.read, ".yml": ecosystem.read, ".md": chart.read, ".markdown": chart.read}


def gather(paths: Sequence[Path]) -> list[Path]:
    """The files that `paths` name, of a folder the YAML files in it. Raises UsageError."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(inner for inner in path.iterdir() if inner.suffix in (".yaml", ".yml") and inner.is_file())
            if not inside:
                raise UsageError(f"{path} has no .yaml file in it", expected="a folder of Ecosystem Graphs")
            found += inside
        elif not path.exists():
            raise UsageError(f"{path} is missing")
        elif path.suffix.lower() not in READERS:
            raise UsageError(f"{path} is neither YAML nor Markdown", expected=f"a file in {', '.join(READERS)}")
        else:
            found.append(path)
    found = list(dict.fromkeys(found))
    if len(found) > MAX_FILES:
        raise UsageError(f"there are {len(found):,} files", expected=f"at most {MAX_FILES:,}")
    return found


def read(paths: Sequence[Path]) -> list[Listed]:
    """Every list, each with a source key of its own. Raises DataError with the file and the place in it."""
    keys: set[str] = set()
    lists = []
    for path in paths:
        stem = key = f"user-{identifier(path.stem)}"
        number = 1
        while key in keys:
            number += 1
            key = f"{stem}-{number}"
        keys.add(key)
        lists.append(READERS[path.suffix.lower()](_text(path), path, key))
    return lists


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise DataError(f"{path} is larger than {MAX_BYTES >> 10} KiB", expected="a list of models")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start})", fix="save it as UTF-8") from None
