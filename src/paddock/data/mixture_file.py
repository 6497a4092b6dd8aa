"""A mixture at rest: which token shards are drawn from, and how often, in a small JSON file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from paddock.checkpoint.writing import write_text
from paddock.data.mixing import Mixture
from paddock.data.packing import PACKINGS
from paddock.data.section import Section
from paddock.data.shards import open_tokens
from paddock.data.tokens import Tokens
from paddock.errors import DataError, UsageError, did_you_mean

LARGEST = 2**20


class Part(Section):
    """One source: token shards, and their weight. path: seen from the folder that the mixture's file is in."""

    path: str
    weight: Annotated[float, Field(gt=0)]


class Recipe(Section):
    """The file."""

    format: Literal["paddock-mixture"] = "paddock-mixture"
    version: Literal[1] = 1
    sources: Annotated[list[Part], Field(min_length=1, max_length=10_000)]


def write_mixture(path: str | Path, sources: Sequence[tuple[str, float]]) -> None:
    """Writes which shards are mixed, and their weights, atomically. Shards are named by a path or a Megatron pair."""
    path = Path(path)
    parts = [{"path": os.path.relpath(name, path.parent), "weight": weight} for name, weight in sources]
    record = {"format": "paddock-mixture", "version": 1, "sources": parts}
    write_text(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def read_mixture(path: str | Path) -> list[tuple[Tokens, float]]:
    """The sources of a mixture's file, opened, and their weights. Raises DataError."""
    path = Path(path)
    try:
        if not path.is_file():
            raise DataError(f"{path} is missing or no file", expected="what `paddock data mix` writes")
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(data) > LARGEST:
        raise DataError(f"{path} is too large for a mixture", expected=f"at most {LARGEST} bytes")
    try:
        recipe = Recipe.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise DataError(f"{path}: {where}: {first['msg']}", fix="`paddock data mix` writes such files") from None
    held = [(open_tokens(path.parent / part.path), part.weight) for part in recipe.sources]
    check_alike([tokens for tokens, _ in held])
    return held


def mixture(sources: Sequence[tuple[Tokens, float]], length: int, packing: str = "fit", overlap: int = 1) -> Mixture:
    """Sources as one table of rows of `length` tokens. Raises UsageError for another packing than PACKINGS."""
    if packing not in PACKINGS:
        fix = did_you_mean(packing, PACKINGS)
        raise UsageError(f"there is no packing {packing!r}", expected=", ".join(PACKINGS), fix=fix)
    tables = [PACKINGS[packing](tokens, length, overlap) for tokens, _ in sources]
    return Mixture(tables, [weight for _, weight in sources], [tokens.name for tokens, _ in sources])


def check_alike(sources: Sequence[Tokens]) -> None:
    """Refuses to mix ids of different vocabularies: DataError."""
    stated = [tokens for tokens in sources if tokens.vocabulary is not None]
    for tokens in stated[1:]:
        if tokens.vocabulary != stated[0].vocabulary:
            what = f"{tokens.name} was written with another tokenizer than {stated[0].name}"
            raise DataError(what, fix="pack both with the same tokenizer and the same --begin and --no-end")
