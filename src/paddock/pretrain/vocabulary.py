"""A recipe's tokenizer: opened, or trained on the texts to be learned (never on those kept back)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from paddock.checkpoint.writing import write_text
from paddock.data.tokens import Tokens
from paddock.engine.locate import names
from paddock.errors import UsageError
from paddock.pretrain.characters import write_characters
from paddock.pretrain.corpus import Corpus
from paddock.pretrain.recipe import Vocabulary
from paddock.tokenizer.load import load
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.tokenizer.training.plan import Plan
from paddock.tokenizer.training.training import train

ASKED = "trained-as.json"  # beside a trained tokenizer: the recipe's section that asked for it
TEXTS = "trained-on.txt"  # and a SHA-256 of the texts


def make(recipe: Vocabulary, sources: Sequence[Corpus], folder: Path, beside: Path) -> Tokenizer:
    """The tokenizer; one that is trained is written into `folder`, where a later call finds it again.

    Where the texts have changed since it is trained again, unless a run has saved steps whose ids it gave.
    `beside`: the folder that a relative path of the recipe begins from, if it is not there from here.
    Raises UsageError where the folder holds a tokenizer that was trained in another way than is asked now.
    """
    if recipe.path is not None:
        return load(_found(recipe.path, beside))
    there = (folder / "tokenizer.json").exists()
    if there:
        _check_same(folder, recipe)
        if _used(folder):
            return load(folder)
    texts = _texts(sources)
    digest = _digest(texts)
    if not there or _noted(folder / TEXTS) not in (None, digest):
        _train(recipe, texts, folder)
        write_text(folder / ASKED, recipe.model_dump_json() + "\n")
        write_text(folder / TEXTS, digest + "\n")
    return load(folder)


def _found(given: str, beside: Path) -> Path:
    """A path as it is, or from the recipe's folder; else the folder of a model of that name."""
    path = Path(given).expanduser()
    for place in (path, beside / path):
        if place.exists():
            return place
    if given in (known := names()):
        return known[given]
    raise UsageError(
        f"the recipe's tokenizer.path {given!r} is not there",
        fix="name a tokenizer's folder or file, or train one: tokenizer.train, tokenizer.size",
    )


def _digest(texts: Sequence[str]) -> str:
    seen = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        seen.update(len(data).to_bytes(8, "little") + data)
    return seen.hexdigest()


def _used(folder: Path) -> bool:
    """Whether a run beside the tokenizer, or one of a suite below it, has saved anything."""
    return any(any(folder.parent.glob(pattern)) for pattern in ("step-*", "final", "*/step-*", "*/final"))


def _noted(path: Path) -> str | None:
    """None for a run of before this was noted."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _check_same(folder: Path, recipe: Vocabulary) -> None:
    was = _noted(folder / ASKED)
    if was is None:
        return
    try:
        same = Vocabulary.model_validate_json(was) == recipe  # as values: a key that is newer than the run is no change
    except ValidationError:
        same = False
    if not same:
        raise UsageError(
            f"{folder} was trained as {was[:200]}",
            expected=recipe.model_dump_json(),
            fix="write elsewhere (--output), or remove the folder if no run of it is to go on",
        )


def _texts(sources: Sequence[Corpus]) -> list[str]:
    texts: list[str] = []
    for source in sources:
        if isinstance(source.train, Tokens):
            raise UsageError("a tokenizer cannot be trained on token shards", fix="set tokenizer.path to theirs")
        texts += [text for document in source.train for text in document]
    if not texts:
        raise UsageError(
            "there are no texts to train a tokenizer on", fix="make data.validation smaller, or give more texts"
        )
    return texts


def _train(recipe: Vocabulary, texts: Sequence[str], folder: Path) -> None:
    if recipe.train == "characters":
        write_characters(texts, folder)
    else:
        assert recipe.train is not None and recipe.size is not None, "the recipe was checked"
        train(texts, Plan(recipe.train, recipe.size, recipe.special, behind=recipe.behind)).save(folder)
