"""`paddock ls`: the models at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paddock.catalog.weighing import files_of, stored_as
from paddock.checkpoint.checkpoint import open_checkpoint
from paddock.checkpoint.weights import sketch
from paddock.cli import output
from paddock.engine.locate import names, own_names
from paddock.errors import PaddockError, UsageError


def ls(folder: str | None, json: bool) -> None:
    rows = [_row(name, path) for name, path in {**_at_hand(), **(_in(folder) if folder else {})}.items()]
    if json:
        output.as_json(rows)
        return
    lines = [
        [
            row["name"],
            row["family"] or "?",
            _parameters(row),
            row["stored_as"] or "?",
            output.size(row["bytes"]),
            _where(row),
        ]
        for row in rows
    ]
    output.result(output.table(lines, ("name", "family", "parameters", "stored as", "size", "path"), right=(2, 4)))
    for row in rows:
        if row["error"]:
            output.note(f"{row['name']}: {row['error']}")


def _at_hand() -> dict[str, Path]:
    """Every model with a name; what `paddock pull` gave a short name is not listed by its long one again."""
    short = own_names()
    behind = {path.resolve() for path in short.values()}
    return {name: path for name, path in names().items() if name in short or path.resolve() not in behind}


def _in(folder: str) -> dict[str, Path]:
    """Models in a folder of the user's, by name: folders with a config.json, and .gguf and .bin files."""
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise UsageError(
            f"{folder} is no folder", fix="name a folder that holds models, or a model with `paddock show`"
        )
    if (place / "config.json").is_file():
        return {place.name: place}
    found = {}
    for path in sorted(place.iterdir()):
        if (path / "config.json").is_file() or (path.is_file() and _is_model(path)):
            found[path.name] = path
    return found


def _is_model(path: Path) -> bool:
    """Whether a file is a GGUF model, or a .bin that reads as a llama2.c model (most .bin files are something else)."""
    if path.suffix == ".gguf":
        return True
    if path.suffix != ".bin":
        return False
    try:
        return open_checkpoint(path).kind == "llama2.c"
    except PaddockError:
        return False


def _row(name: str, path: Path) -> dict[str, Any]:
    """What `ls` says of one model; of one that cannot be opened, why not."""
    row: dict[str, Any] = {"name": name, "path": str(path), "family": None, "parameters": None, "stored_as": None}
    row |= {"kind": None, "bytes": 0, "error": None}
    try:
        checkpoint = open_checkpoint(path)
        model = sketch(checkpoint.architecture, len(checkpoint.tensors))
        row["family"], row["kind"] = checkpoint.architecture.family, checkpoint.kind
        row["parameters"] = sum(parameter.numel() for parameter in model.parameters())
        row["stored_as"] = next(iter(stored_as(checkpoint)), None)
        row["bytes"] = sum(files_of(checkpoint).values())
    except (PaddockError, OSError) as error:
        row["error"] = error.what if isinstance(error, PaddockError) else str(error)
    return row


def _parameters(row: dict[str, Any]) -> str:
    return output.number(row["parameters"]) if row["parameters"] is not None else "?"


def _where(row: dict[str, Any]) -> str:
    return output.shown_path(Path(row["path"]))
