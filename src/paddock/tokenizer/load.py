"""Choosing what to read a tokenizer from.

In a folder, the first of these that is there:

1. `tokenizer.json`
2. `tokenizer.model`, `spiece.model` (SentencePiece, or tiktoken ranks under the same name, told apart by content)
3. `tokenizer.bin` (llama2.c)

A single file is told by its content and name. The side files of the same folder (`tokenizer_config.json`,
`special_tokens_map.json`, `added_tokens.json`) are read in either case.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from paddock.errors import TokenizerError
from paddock.tokenizer.files import read_bytes
from paddock.tokenizer.library import from_json
from paddock.tokenizer.llama2c import load_llama2c
from paddock.tokenizer.sentencepieces import from_model
from paddock.tokenizer.sidefiles import SideFiles
from paddock.tokenizer.tokenizer import Tokenizer

IN_ORDER = ("tokenizer.json", "tokenizer.model", "spiece.model", "tokenizer.bin")


def load(path: str | Path) -> Tokenizer:
    """The tokenizer of a model folder or of a single vocabulary file; `.source` says what was used.

    Raises TokenizerError for a file that is missing, corrupt, hostile or of no known kind.
    """
    path = Path(path)
    if path.is_dir():
        found = next((path / name for name in IN_ORDER if (path / name).exists()), None)
        if found is None:
            raise TokenizerError(f"{path} holds no tokenizer", expected="one of " + ", ".join(IN_ORDER))
        path = found
    return _reader(path)(path)


def _reader(path: Path) -> Callable[[Path], Tokenizer]:
    name = path.name.lower()
    if name.endswith(".json"):
        return lambda path: from_json(read_bytes(path), SideFiles.beside(path.parent), path.name)
    if name.endswith(".bin"):
        return load_llama2c
    return lambda path: from_model(read_bytes(path), SideFiles.beside(path.parent), path.name)
