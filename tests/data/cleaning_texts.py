"""Texts for the tests of cleaning: made up of random words, the same every time."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from paddock.data.cleaning.recipe import parse_recipe
from paddock.data.cleaning.run import clean
from paddock.data.cleaning.stage import Item, Outcome, Stage
from paddock.data.document import Document

SYLLABLES = [consonant + vowel for consonant in "bdklmnrst" for vowel in "aeiou"]


def words(count: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    return ["".join(chance.choices(SYLLABLES, k=chance.randint(1, 4))) for _ in range(count)]


def text(count: int, seed: int) -> str:
    return " ".join(words(count, seed))


def edited(original: str, places: list[int]) -> str:
    """The text with the words at some places replaced."""
    parts = original.split()
    for place in places:
        parts[place] = f"edit{place}"
    return " ".join(parts)


def documents(texts: list[Any], **meta: Any) -> list[Document]:
    return [Document(each, f"made:{number}", meta) for number, each in enumerate(texts, 1)]


def apply(stage: Stage, given: str | Document, number: int = 0) -> Outcome:
    return stage.apply(Item(number, given if isinstance(given, Document) else Document(given, "made:1")))


def recipe(*stages: str | dict[str, Any], **more: Any) -> Any:
    asked = [{"stage": stage} if isinstance(stage, str) else stage for stage in stages]
    return parse_recipe({"stages": asked, "format": "jsonl", **more})


def cleaned(
    texts: list[Any], output: Path, *stages: str | dict[str, Any], **more: Any
) -> tuple[list[str], dict[str, Any]]:
    """The texts that stay, and the manifest."""
    import json

    manifest = clean(documents(texts), recipe(*stages, **more), output)
    kept = [
        json.loads(line)["text"] for path in sorted(output.glob("shard-*")) for line in path.read_text().splitlines()
    ]
    return kept, manifest


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
