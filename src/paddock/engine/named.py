"""Short names for models that lie elsewhere: links in PADDOCK_HOME/models."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from paddock.engine.locate import BUNDLED, home
from paddock.errors import PaddockError, UsageError


def give_name(name: str, model: Path) -> Path:
    """Makes `name` mean `model`, a folder or a .gguf file. A name that a link has is given anew.

    Raises UsageError where something else than a link has it, PaddockError where the system knows no links.
    """
    if not name or name != Path(name).name or name.startswith(".") or name == BUNDLED:
        raise UsageError(f"{name[:80]!r} is no name for a model", expected="one word")
    ending = ".gguf" if model.suffix == ".gguf" and not model.is_dir() else ""
    link = home() / "models" / (name if name.endswith(ending) else name + ending)
    if os.path.lexists(link) and not link.is_symlink():
        raise UsageError(f"{link} is there, and is no link", fix="move it away, or use the model by its path")
    new = link.with_name(f".{secrets.token_hex(6)}.link")
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        new.symlink_to(Path(os.path.abspath(model)))
        new.replace(link)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise PaddockError(f"{link} cannot be made: {error.strerror or error}") from None
    return link


def link_of(name: str) -> Path | None:
    """What has this name in PADDOCK_HOME/models: a link (which may lead to nothing by now), a folder or a file."""
    if not name or name != Path(name).name or name.startswith("."):
        return None
    folder = home() / "models"
    return next((path for path in (folder / name, folder / f"{name}.gguf") if os.path.lexists(path)), None)


def links_to(folder: Path) -> list[Path]:
    """Every link in PADDOCK_HOME/models that leads to `folder` or into it."""
    models = home() / "models"
    if not models.is_dir():
        return []
    target = folder.resolve()
    return sorted(path for path in models.iterdir() if path.is_symlink() and target_of(path).is_relative_to(target))


def target_of(link: Path) -> Path:
    """Where a link leads by its own words, one step; files in the hub's cache are links again."""
    target = link.parent / os.readlink(link)
    return target.parent.resolve() / target.name
