"""The data side of the stage: a recipe's documents as token tables, the same for every size and every resume."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddock.data.encoding import TRAIN, VALIDATION, kept_back
from paddock.data.mixture_file import read_mixture
from paddock.data.reading import documents
from paddock.data.shards import INDEX, open_tokens
from paddock.data.shards import fingerprint as spelling_of
from paddock.data.tokens import Tokens
from paddock.errors import DataError
from paddock.pretrain.recipe import Data, Source
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.training.places import Places

FEW = 20  # documents below which the end of each is kept back, as there are not enough to keep some back whole

Text = tuple[str, ...]  # a document; of pairs, both sides
Texts = list[Text] | Tokens


@dataclass(frozen=True)
class Corpus:
    """One source's texts (or token shards), those to train on and those kept back."""

    train: Texts
    validation: Texts
    weight: float | None

    def training_texts(self, tokenizer: Tokenizer) -> Iterator[str]:
        """Every text to train on."""
        if isinstance(self.train, Tokens):
            return (tokenizer.decode(self.train.document(n).tolist()) for n in range(len(self.train)))
        return (text for document in self.train for text in document)


def read(data: Data, places: Places) -> list[Corpus]:
    """Every source's documents, in the order of the recipe. Raises UsageError and DataError."""
    if data.mix is not None:
        return [_shards(tokens, weight) for tokens, weight in read_mixture(places.find([data.mix])[0])]
    return [_read(source, data.validation, places) for source in data.sources]


def _shards(tokens: Tokens, weight: float) -> Corpus:
    """Shards of a mixture; where they are the train part of what `data pack` wrote, the other part is measured on."""
    folder = Path(tokens.name)
    held = folder.with_name(VALIDATION)
    kept: Texts = open_tokens(held) if folder.name == TRAIN and (held / INDEX).is_file() else []
    return Corpus(tokens, kept, weight)


def _read(source: Source, share: float, places: Places) -> Corpus:
    if source.shards is None:
        return _split(list(_texts(source, places)), share, source.weight)
    folder = places.folder(source.shards)
    if (folder / TRAIN / INDEX).is_file():
        return Corpus(open_tokens(folder / TRAIN), open_tokens(folder / VALIDATION), source.weight)
    return Corpus(open_tokens(folder), [], source.weight)


def fingerprint(sources: Iterable[Corpus], tokenizer: Tokenizer) -> str:
    """SHA-256 (hex) over all texts and how they are spelt: what a resume compares. Of shards, over their index."""
    seen = hashlib.sha256(spelling_of(tokenizer).encode())
    for source in sources:
        for texts in (source.train, source.validation):
            if isinstance(texts, Tokens):
                seen.update(np.ascontiguousarray(texts.ends, "<i8").tobytes())
                seen.update(_stated(Path(texts.name)))
            else:
                for document in texts:
                    for text in document:
                        seen.update(len(text).to_bytes(8, "little") + text.encode("utf-8", "surrogatepass"))
    return seen.hexdigest()


def _stated(path: Path) -> bytes:
    """The index of shards, which holds the hashes of their files; nothing for a Megatron pair, whose ends must do."""
    index = path / INDEX
    return index.read_bytes() if index.is_file() else b""


def _texts(source: Source, places: Places) -> Iterator[Text]:
    reading = {"text_field": source.text_field, "separator": source.separator or None}
    first = documents(places.find(source.files), **reading)  # type: ignore[arg-type]
    if not source.second:
        yield from ((document.text,) for document in first)
        return
    second = documents(places.find(source.second), **reading)  # type: ignore[arg-type]
    left, right = [d.text for d in first], [d.text for d in second]
    if len(left) != len(right):
        raise DataError(
            f"{', '.join(source.files)} holds {len(left)} documents and {', '.join(source.second)} {len(right)}",
            expected="as many, each answering the other",
        )
    yield from zip(left, right, strict=True)


def _split(texts: list[Text], share: float, weight: float | None) -> Corpus:
    """What is kept back is chosen by a document's content, so that a document given twice is on one side only."""
    if not share:
        return Corpus(texts, [], weight)
    if len(texts) < FEW:
        parts = [[_cut(text, share) for text in document] for document in texts]
        return Corpus(
            [tuple(head for head, _ in part) for part in parts],
            [tuple(tail for _, tail in part) for part in parts],
            weight,
        )
    kept = [kept_back("\n".join(text), share) for text in texts]
    train = [text for text, back in zip(texts, kept, strict=True) if not back]
    return Corpus(train, [text for text, back in zip(texts, kept, strict=True) if back], weight)


def _cut(text: str, share: float) -> tuple[str, str]:
    """The beginning and the last `share` of a text."""
    at = len(text) - int(len(text) * share)
    return text[:at], text[at:]
