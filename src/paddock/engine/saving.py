"""What is written beside the weights, and what an earlier model left there."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from paddock.checkpoint.writing import write_bytes
from paddock.engine.pooling import LIMITS, MODULES, PROMPTS
from paddock.errors import PaddockError
from paddock.tokenizer.load import IN_ORDER
from paddock.tokenizer.sidefiles import NAMES

TEMPLATE = "chat_template.jinja"
# Whatever a reader of the folder looks at besides weights and config.json.
READ = (*IN_ORDER, "merges.txt", *NAMES, TEMPLATE, "chat_template.json", MODULES, PROMPTS, LIMITS)


def write_side_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes `files`, by their path in `folder`, and removes tokenizers, templates and pooling of another model.

    Raises ResourceError when the disk is full, PaddockError for any other refusal of the file system.
    """
    for name, data in files.items():
        write_bytes(folder / name, data)
    try:
        for path in folder.iterdir():
            if path.name not in files and any(fnmatchcase(path.name, name) for name in READ) and not path.is_dir():
                path.unlink()
    except OSError as error:
        raise PaddockError(f"{folder} cannot be cleared of its old files: {error.strerror}") from None
