"""From what a user calls a model to where it lies: the bundled one, a path, a name under PADDOCK_HOME, or ORG/NAME in
the hub's cache, whoever downloaded it. No network is ever asked."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from paddock.checkpoint.hub import cache
from paddock.checkpoint.hub.settings import cache_folder
from paddock.errors import CheckpointError, UsageError, nearest

BUNDLED = "stories260K"
FILE_ENDINGS = {".gguf", ".bin", ".safetensors"}


def home() -> Path:
    """Where models lie by name: $PADDOCK_HOME, or ~/.paddock. Nothing is created."""
    chosen = os.environ.get("PADDOCK_HOME")
    return Path(chosen).expanduser() if chosen else Path.home() / ".paddock"


def names() -> dict[str, Path]:
    """Every model with a name: the bundled one, each folder or file in PADDOCK_HOME/models, and what lies whole in
    the hub's cache."""
    return {BUNDLED: bundled(), **own_names(), **cache.cached(cache_folder())}


def own_names() -> dict[str, Path]:
    """The names in PADDOCK_HOME/models: folders, files, and what `paddock pull` linked there."""
    found = {}
    folder = home() / "models"
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.is_dir() and (path / "config.json").exists():
                found[path.name] = path
            elif path.suffix == ".gguf" and path.exists():
                found[path.stem] = path
    return found


def bundled() -> Path:
    """The model that comes inside the package."""
    return Path(str(resources.files("paddock"))) / "models" / BUNDLED


def locate(model: str | Path | None) -> Path:
    """A folder or file: `model` as a path if it exists, else as a name; None is the bundled model.

    A name is one of `names()`, ORG/NAME@REVISION of the hub's cache, or what comes after ORG/ where one model in the
    cache is called so. Raises UsageError for an unknown name, with the nearest known; CheckpointError for a path that
    is not there.
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
    if isinstance(model, Path) or text.startswith((".", "~", os.sep)):
        raise _missing(path)
    found = _in_cache(text, known)
    if found is not None:
        return found
    if path.suffix in FILE_ENDINGS:
        raise _missing(path)
    near = nearest(text, known)
    raise UsageError(
        f"no model is called {text[:200]!r}" + (f"; the nearest known is {near!r}" if near else ""),
        expected=", ".join(known),
        fix=_fix(text),
    )


def _fix(text: str) -> str:
    """How to come by a model that is not here."""
    if cache.is_repo(text) and "/" in text:
        return f"get it from the hub: paddock pull {text}"
    get = f", or get it, if the catalogue has it: paddock pull {text}" if cache.is_repo(text) else ""
    return f"give the path of its folder or file, put the folder into {home() / 'models'}{get}"


def _in_cache(text: str, known: dict[str, Path]) -> Path | None:
    """ORG/NAME@REVISION, or a NAME of which there is one. Raises UsageError where it could mean several."""
    repo, at, revision = text.partition("@")
    if at and cache.is_repo(repo) and cache.is_revision(revision):
        folder = cache.snapshot(cache_folder(), repo, revision)
        models = cache.models_in(folder) if folder is not None else []
        if len(models) > 1:
            raise UsageError(
                f"{text} has several models", fix="give the path of one: " + ", ".join(map(str, models[:3]))
            )
        return models[0] if models else None
    meant = [name for name in known if "/" in name and (name.endswith(f"/{text}") or name.startswith(f"{text}/"))]
    if len(meant) > 1:
        raise UsageError(f"{text!r} could mean {', '.join(meant[:8])}", fix="give one of these names")
    return known[meant[0]] if meant else None


def _missing(path: Path) -> CheckpointError:
    return CheckpointError(f"{path} is missing", expected="a model folder, a .gguf file or a llama2.c .bin file")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name longer than the system allows
        return False
