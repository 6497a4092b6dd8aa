"""An adapter's folder as something to open: which base it is for, and what it brings along."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from paddock.checkpoint.adapters import CONFIG
from paddock.checkpoint.folder import CONFIG as MODEL_CONFIG
from paddock.checkpoint.jsonfile import read as read_json
from paddock.engine.locate import locate
from paddock.engine.saving import TEMPLATE
from paddock.errors import CheckpointError, InputError, UsageError
from paddock.tokenizer.load import IN_ORDER

NAMED = "base_model_name_or_path"


@dataclass(frozen=True)
class Adapted:
    """base: where the base lies. tokenizer, template: the adapter's own, None where it has none."""

    base: Path
    tokenizer: Path | None
    template: Path | None

    @classmethod
    def at(cls, folder: Path) -> Adapted:
        """What the folder says. Raises CheckpointError where the base it names is not here."""
        named = read_json(folder / CONFIG).get(NAMED)
        words = folder if any(any(folder.glob(name)) for name in IN_ORDER) else None
        template = folder / TEMPLATE
        return cls(_base(folder, named), words, template if template.is_file() else None)


def is_adapter(path: Path) -> bool:
    """Whether a folder holds an adapter and no model."""
    return (path / CONFIG).is_file() and not (path / MODEL_CONFIG).exists()


def _base(folder: Path, named: object) -> Path:
    fix = f"name the base and put the adapter on it: -m BASE --adapter {folder}"
    if not isinstance(named, str) or not named.strip() or "\0" in named:
        raise CheckpointError(f"{folder / CONFIG} does not say which model the adapter is for ({NAMED})", fix=fix)
    for candidate in (named, folder / named):
        try:
            found = locate(candidate)
        except (InputError, UsageError):
            continue
        if found.is_file() or (found / MODEL_CONFIG).exists():
            return found
    raise CheckpointError(f"{folder} is an adapter for {named[:200]!r}, which is not here", fix=fix)
