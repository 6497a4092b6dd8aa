"""`paddock fill` and `paddock embed`: what a model that reads can tell; the texts that verbs like them are given."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from paddock.cli import output
from paddock.cli.loading import load, piped_text
from paddock.cli.options import Loading
from paddock.data.instruct.reading import examples
from paddock.data.instruct.records import Example, Text
from paddock.engine.language_model import LanguageModel
from paddock.errors import DataError, UsageError

FILES = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".parquet", ".gz", ".zst", ".xz", ".bz2")  # of texts and examples
LONGEST_NAME = 255  # bytes of a file's name on common systems
LABEL = 40  # characters of a text in the table of similarities


def fill(given: str | None, asked: Loading, top: int, json: bool) -> None:
    if given is None and sys.stdin.isatty():
        raise UsageError("there is no text", fix="write one with [MASK] in it, in quotes, or pipe it in")
    text = piped_text() if given in (None, "-") else given
    assert text is not None
    model, _ = load(asked)
    masks = model.fill(text, top)
    if json:
        output.as_json({"model": str(model.checkpoint.path), "text": text, "masks": masks})
        return
    for number, candidates in enumerate(masks, 1):
        if len(masks) > 1:
            output.result(f"mask {number}")
        rows = [[f"{c.probability:.2%}", c.piece, str(c.token), c.text] for c in candidates]
        output.result(output.table(rows, ("probability", "piece", "id", "text"), right=(0, 2)))


def embed(given: list[str], asked: Loading, truncate: bool, json: bool) -> None:
    for text in given:
        if _names_a_file(text):
            raise UsageError(
                f"{text} is the name of a file, and files are not read here",
                expected="texts",
                fix="a line each: paddock embed - < FILE",
            )
    texts = texts_of(given)
    model, _ = load(asked)
    vectors = model.embed(texts, truncate=truncate)
    if json:
        for text, vector in zip(texts, vectors.tolist(), strict=True):
            output.as_json({"text": text, "pooling": model.pooling.mode, "embedding": vector})
        return
    output.note(_pooling(model))
    if len(texts) == 1:
        numbers = vectors[0].tolist()
        shown = " ".join(f"{number:.4f}" for number in numbers[:8])
        output.result(f"{len(numbers)} numbers: {shown}{' ...' if len(numbers) > 8 else ''}")
        output.note("(--json prints all of them; several texts are compared)")
        return
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    alike = (unit @ unit.T).tolist()
    rows = [
        [f"{i}", _short(text), *(f"{x:.4f}" for x in row)]
        for i, (text, row) in enumerate(zip(texts, alike, strict=True), 1)
    ]
    header = ("", "cosine", *(str(i) for i in range(1, len(texts) + 1)))
    output.result(output.table(rows, header, right=tuple(range(2, len(texts) + 2))))


def texts_of(given: Sequence[str]) -> list[str]:
    """The texts that were given, or those piped in, one a line."""
    if given and list(given) != ["-"]:
        return list(given)
    if not given and sys.stdin.isatty():
        raise UsageError("there are no texts", fix="write them in quotes, or pipe them in, one per line")
    texts = piped_text().splitlines()
    if not texts:
        raise UsageError("there are no texts: standard input is empty")
    return texts


def examples_of(given: Sequence[str], format: str) -> Iterable[Example]:
    """What a file holds that was given alone, as `format` says; else the texts that were given, or piped in.

    Raises UsageError for what names a file or a folder and cannot be read as one, DataError for a file of nothing.
    """
    if not is_file(given):
        for text in given:
            _refuse_names(text)
        return [Text(text) for text in texts_of(given)]
    first = next(found := iter(examples(given[0], format)), None)
    if first is None:
        raise DataError(f"there is nothing in {given[0]}", expected="a text, or examples")
    return chain([first], found)


def is_file(given: Sequence[str]) -> bool:
    return len(given) == 1 and given[0] != "-" and Path(given[0]).is_file()


def _refuse_names(text: str) -> None:
    """Nobody means the letters of a file's name to be judged."""
    if not _is_word(text):
        return
    found = "a folder" if Path(text).is_dir() else "a file among others" if Path(text).is_file() else "not there"
    if found != "not there" or _names_a_file(text):
        fix = f"name one file; to have the very word read: echo {text} | paddock ... -"
        raise UsageError(f"{text} is {found}", expected="texts, or one file of them", fix=fix)


def _names_a_file(text: str) -> bool:
    return _is_word(text) and Path(text).suffix.lower() in FILES


def _is_word(text: str) -> bool:
    return len(text) <= LONGEST_NAME and not any(letter.isspace() for letter in text)


def _pooling(model: LanguageModel) -> str:
    """How token vectors became one: a decoder's mean is a makeshift, and is called so."""
    pooling = model.pooling
    kind = "normalised" if pooling.normalise else "not normalised"
    source = f"from {pooling.origin}" if pooling.origin != "default" else "the model's files do not say how"
    note = f"pooling: {pooling.mode} of the token vectors, {kind} ({source})"
    if model.architecture.generates:
        note += f"\n{model.checkpoint.path.name} was trained to write, not to embed: expect rough likenesses"
    return note


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LABEL else text[: LABEL - 1] + "…"
