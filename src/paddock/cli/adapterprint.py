"""`paddock show` of an adapter's folder: what kind it is, what it was made for, what it holds."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

from paddock.checkpoint import adapter_kinds
from paddock.checkpoint.adapters import CONFIG, SAYS_NOTHING, stored_in
from paddock.checkpoint.jsonfile import read as read_json
from paddock.cli import output
from paddock.engine.adapted import NAMED, Adapted
from paddock.errors import CheckpointError

OPENED = ("peft_type", NAMED)


def record(folder: Path) -> dict[str, Any]:
    """Raises CheckpointError and UnsupportedError for a folder that is no adapter that can be opened."""
    config = read_json(folder / CONFIG)
    stored = stored_in(folder)
    try:
        base, missing = str(Adapted.at(folder).base), None
    except CheckpointError as error:
        base, missing = None, error.what
    return {
        "path": str(folder),
        "kind": adapter_kinds.kind(folder),
        "for": config.get(NAMED),
        "base": base,
        "base_missing": missing,
        "parameters": sum(math.prod(each.shape) for each in stored.values()),
        "bytes": sum(file.stat().st_size for file in folder.iterdir() if file.is_file()),
        "tensors": len(stored),
        "types": dict(Counter(str(each.dtype).removeprefix("torch.") for each in stored.values())),
        "settings": {key: value for key, value in config.items() if key not in OPENED and value not in SAYS_NOTHING},
    }


def text(told: dict[str, Any]) -> str:
    """The record, for people."""
    types = ", ".join(f"{count} {name}" for name, count in told["types"].items())
    rows = [
        ["adapter", told["path"]],
        ["kind", told["kind"]],
        ["for", str(told["for"])],
        ["base", told["base"] or f"not here: {told['base_missing']}"],
        ["parameters", f"{told['parameters']:,}"],
        ["stored as", f"{output.size(told['bytes'])}, tensors: {types}"],
    ]
    rows += [[key, _short(value)] for key, value in told["settings"].items()]
    return output.table(rows) + "\n"


def _short(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else output.printable(str(value))[:200]
