"""A recipe's tokenizer: opened, or trained on the texts to be learned (never on those kept back)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paddock.data.tokens import Tokens
from paddock.errors import UsageError
from paddock.pretrain.characters import write_characters
from paddock.pretrain.corpus import Corpus
from paddock.pretrain.recipe import Vocabulary
from paddock.tokenizer.load import load
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.tokenizer.training.plan import Plan
from paddock.tokenizer.training.training import train


def make(recipe: Vocabulary, sources: Sequence[Corpus], folder: Path, beside: Path) -> Tokenizer:
    """The tokenizer; one that is trained is written into `folder`, where a later call finds it again.

    `beside`: the folder that a relative path of the recipe begins from, if it is not there from here.
    """
    if recipe.path is not None:
        path = Path(recipe.path).expanduser()
        return load(path if path.exists() else beside / path)
    if not (folder / "tokenizer.json").exists():
        _train(recipe, _texts(sources), folder)
    return load(folder)


def _texts(sources: Sequence[Corpus]) -> list[str]:
    texts: list[str] = []
    for source in sources:
        if isinstance(source.train, Tokens):
            raise UsageError("a tokenizer cannot be trained on token shards", fix="set tokenizer.path to theirs")
        texts += [text for document in source.train for text in document]
    if not texts:
        raise UsageError("there are no texts to train a tokenizer on", fix="make data.validation smaller")
    return texts


def _train(recipe: Vocabulary, texts: Sequence[str], folder: Path) -> None:
    if recipe.train == "characters":
        write_characters(texts, folder)
    else:
        assert recipe.train is not None and recipe.size is not None, "the recipe was checked"
        train(texts, Plan(recipe.train, recipe.size, recipe.special)).save(folder)
