"""Where the files that a recipe names lie."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from paddock.errors import UsageError

ROOT = "PADDOCK_DATA"  # environment: a folder in which recipes look for their texts


@dataclass(frozen=True)
class Places:
    """Where a recipe's files are looked for, in order."""

    folders: tuple[Path, ...]

    @classmethod
    def of(cls, root: str | None, beside: Path) -> Places:
        """root: the recipe's data.root. beside: its file's folder. Raises UsageError for a root that is no folder."""
        folders = []
        for label, named in (("data.root", root), (ROOT, os.environ.get(ROOT))):
            if named:
                folders.append(Path(named).expanduser())
                if not folders[-1].is_dir():
                    raise UsageError(
                        f"{label} is {named}, which is no folder", expected="the folder that has the texts"
                    )
        return cls(tuple({folder.resolve(): folder for folder in (*folders, beside, Path())}.values()))

    @property
    def told(self) -> str:
        """The folders, for messages."""
        names = ["this folder" if folder == Path() else str(folder) for folder in self.folders]
        return " or ".join(names)

    def find(self, patterns: Iterable[str]) -> list[Path]:
        """The files of names and patterns, each from the first folder that has any. Raises UsageError."""
        return [path for pattern in patterns for path in self._find(pattern)]

    def folder(self, name: str) -> Path:
        """The folder or Megatron pair of a name. Raises UsageError."""
        for folder in self.folders:
            path = folder / Path(name).expanduser()
            if path.exists() or path.with_name(path.name + ".idx").exists():
                return path
        raise UsageError(
            f"the recipe's shards {name!r} are not in {self.told}",
            fix=f"write them with `paddock data pack`, or say data.root=FOLDER (or set {ROOT})",
        )

    def _find(self, pattern: str) -> list[Path]:
        for folder in self.folders:
            path = folder / pattern
            try:
                found = [path] if path.is_file() else sorted(p for p in folder.glob(pattern) if p.is_file())
            except (ValueError, NotImplementedError):  # a pattern that pathlib does not take: absolute, empty
                found = []
            if found:
                return found
        if pattern and any((folder / pattern).is_dir() for folder in self.folders):
            raise UsageError(f"the recipe's text {pattern!r} is a folder", fix=f"name its files: {pattern}/*.txt, say")
        raise UsageError(
            f"the recipe's text {pattern!r} is not in {self.told}",
            fix=f"say data.root=FOLDER (or set {ROOT}) to the folder that has it",
        )
