"""From what a user calls a model to where it lies: the bundled one, a path, or a name under PADDOCK_HOME."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from paddock.errors import CheckpointError, UsageError, nearest

BUNDLED = "stories260K"
FILE_ENDINGS = {".gguf", ".bin", ".safetensors"}


def home() -> Path:
    """Where models lie by name: $PADDOCK_HOME, or ~/.paddock. Nothing is created."""
    chosen = os.environ.get("PADDOCK_HOME")
    return Path(chosen).expanduser() if chosen else Path.home() / ".paddock"


def names() -> dict[str, Path]:
    """Every model with a name: the bundled one, and each folder or file in PADDOCK_HOME/models."""
    found = {BUNDLED: bundled()}
    folder = home() / "models"
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.is_dir() and (path / "config.json").exists():
                found[path.name] = path
            elif path.suffix == ".gguf":
                found[path.stem] = path
    return found


def bundled() -> Path:
    """The model that comes inside the package."""
    return Path(str(resources.files("paddock"))) / "models" / BUNDLED


def locate(model: str | Path | None) -> Path:
    """A folder or file: `model` as a path if it exists, else as a name; None is the bundled model.

    Raises UsageError for an unknown name, with the nearest known; CheckpointError for a path that is not there.
    """
    if model is None:
        return bundled()
    if not isinstance(model, str | Path):
        raise UsageError(f"the model is given as {type(model).__name__}", expected="a path or a name")
    text = str(model)
    if not text.strip() or "\0" in text:
        raise UsageError(f"the model's name is {text!r}", expected="a path or a name")
    path = Path(text).expanduser()
    if _exists(path):
        return path
    known = names()
    if text in known:
        return known[text]
    if isinstance(model, Path) or text.startswith((".", "~", os.sep)) or path.suffix in FILE_ENDINGS:
        raise CheckpointError(f"{path} is missing", expected="a model folder, a .gguf file or a llama2.c .bin file")
    near = nearest(text, known)
    raise UsageError(
        f"no model is called {text[:200]!r}" + (f"; the nearest known is {near!r}" if near else ""),
        expected=", ".join(known),
        fix=f"give the path of its folder or file, or put the folder into {home() / 'models'}",
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name longer than the system allows
        return False
