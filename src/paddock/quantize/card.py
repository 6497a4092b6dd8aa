"""The quality card: what quantising a model cost, kept in the file itself.

In a GGUF file every field is a key `paddock.quality.*`, numbers as float64 or uint64; in a folder the card is
`paddock_quality.json`. A card says what was measured where it was made, so its speeds hold for that machine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from paddock.checkpoint.gguf_write import Value
from paddock.checkpoint.jsonfile import read as read_json
from paddock.errors import CheckpointError

PREFIX = "paddock.quality."
FILE = "paddock_quality.json"
LONGEST = 200  # characters of a text in a card


@dataclass(frozen=True)
class Card:
    """kind: what was asked for. source: the model it was made from. text: what both were measured on, and its SHA-256.

    calibrated: a calibration text shaped the rounding. machine: what ran it. tokens: how many were scored, in windows
    of `window`. Perplexities with their standard errors, before and after. kl_*: KL divergence (nats) of the quantised
    model's predictions from the original's, token by token. top1: how often both find the same token likeliest.
    bytes: of the weights. Speeds in tokens per second, one prompt at a time.
    """

    kind: str
    source: str
    text: str
    text_sha256: str
    calibrated: bool
    machine: str
    tokens: int
    window: int
    perplexity_before: float
    perplexity_before_stderr: float
    perplexity_after: float
    perplexity_after_stderr: float
    kl_mean: float
    kl_p99: float
    top1: float
    bytes: int
    bits_per_weight: float
    prompt_tokens_per_second: float
    decode_tokens_per_second: float

    def metadata(self) -> dict[str, Value]:
        """The keys of a GGUF file; every number in a fixed width, so that it can be put in afterwards."""
        return {PREFIX + name: _wide(value) for name, value in asdict(self).items()}

    def write(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def _wide(value: Any) -> Value:
    if isinstance(value, bool | str):
        return value
    return np.uint64(value) if isinstance(value, int) else np.float64(value)


def read(path: Path, metadata: Mapping[str, Any] | None) -> Card | None:
    """The card of a GGUF file (`metadata`) or of a folder, None where there is none. Raises CheckpointError."""
    if metadata is not None:
        own = {key[len(PREFIX) :]: value for key, value in metadata.items() if key.startswith(PREFIX)}
        return _checked(own, path.name) if own else None
    file = path / FILE
    return _checked(read_json(file), FILE) if path.is_dir() and file.is_file() else None


def _checked(values: Mapping[str, Any], where: str) -> Card:
    known = {field.name: str(field.type) for field in fields(Card)}
    if values.keys() != known.keys():
        wrong = sorted(values.keys() ^ known.keys())[0]
        raise CheckpointError(f"{where}: the quality card and this version of Paddock disagree about {wrong[:60]!r}")
    found = {name: _of_kind(values[name], kind, f"{where}: {name}") for name, kind in known.items()}
    return Card(**found)


def _of_kind(value: Any, kind: str, what: str) -> Any:
    right = {
        "str": isinstance(value, str),
        "bool": isinstance(value, bool),
        "int": isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63,
        "float": isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value),
    }[kind]
    if not right:
        raise CheckpointError(f"{what} of the quality card is {str(value)[:60]!r}", expected=kind)
    return value[:LONGEST] if isinstance(value, str) else value
