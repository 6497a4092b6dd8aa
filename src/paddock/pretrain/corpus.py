"""The data side of the stage: a recipe's documents as token tables, once for all sizes and resumes of a run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from paddock.errors import UsageError
from paddock.pretrain.recipe import Data

ROOT = "PADDOCK_DATA"  # environment: a folder in which recipes look for their texts


@dataclass(frozen=True)
class Places:
    """Where a recipe's files are looked for, in order."""

    folders: tuple[Path, ...]

    @classmethod
    def of(cls, data: Data, beside: Path) -> Places:
        named = [data.root, os.environ.get(ROOT)]
        return cls((*(Path(folder).expanduser() for folder in named if folder), beside, Path()))

    def find(self, pattern: str) -> list[Path]:
        """The files of a name or pattern, from the first folder that has any. Raises UsageError."""
        for folder in self.folders:
            path = folder / pattern
            found = [path] if path.is_file() else sorted(p for p in folder.glob(pattern) if p.is_file())
            if found:
                return found
        raise UsageError(
            f"the recipe's text {pattern!r} is in none of {', '.join(str(folder) for folder in self.folders)}",
            fix=f"say data.root=FOLDER (or set {ROOT}) to the folder that has it",
        )
