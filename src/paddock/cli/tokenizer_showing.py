"""What `paddock tokenizer show` and `compare` do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from paddock.cli import output
from paddock.cli.tokenizing import find_tokenizer
from paddock.data.reading import Options, read_documents
from paddock.errors import UsageError
from paddock.tokenizer import Tokenizer
from paddock.tokenizer.comparing import Comparison, Measured
from paddock.tokenizer.comparing_plot import plot as draw
from paddock.tokenizer.describing import describe

SCRIPTS = 8  # named one by one


def show(path: str | None, json: bool) -> None:
    told = describe(find_tokenizer(path))
    if json:
        output.as_json(told)
        return
    scripts = list(told["scripts"].items())
    named = ", ".join(f"{name} {count:,}" for name, count in scripts[:SCRIPTS])
    if len(scripts) > SCRIPTS:
        named += f", {len(scripts) - SCRIPTS} more {sum(count for _, count in scripts[SCRIPTS:]):,}"
    around = " ".join([*told["before"], "TEXT", *told["after"]])
    rows = [
        ["kind", f"{told['kind']}, from {told['source']}"],
        ["pieces", f"{told['size']:,}"],
        ["control", ", ".join(f"{name} {id}" for name, id in list(told["specials"].items())[:24]) or "none"],
        ["a text is", around],
        ["bytes", "every byte is a piece" if told["byte_pieces"] == 256 else f"{told['byte_pieces']} are pieces"],
        ["scripts", named],
        ["Chinese", f"{told['ideographs']:,} characters are a piece of their own"],
        ["longest", "  ".join(repr(each["text"].strip()) for each in told["longest"] if len(each["text"]) < 80)],
        ["equal to", f"every tokenizer of fingerprint {told['fingerprint'][:16]}"],
    ]
    rows[4:4] = [["before" if not n else "", step] for n, step in enumerate(told["steps"])]
    output.result(output.table(rows))


_HEADER = (
    "text",
    "tokenizer",
    "tokens",
    "bytes/tok",
    "chars/tok",
    "tok/char",
    "tok/word",
    "unknown",
    "in parts",
    "Han",
)


def compare(
    paths: Sequence[str], texts: Sequence[str], options: Options, characters: int, plot: str | None, json: bool
) -> None:
    comparison = Comparison(_named(paths))
    cut = []
    for label, text in _labelled(texts):
        taken = list(_first(text, options, characters))
        if sum(map(len, taken)) >= characters:
            cut.append(label)
        comparison.add(label, taken)
    if plot is not None:
        draw(comparison, plot)
    if json:
        output.as_json({"rows": comparison.rows, "characters": characters, "cut": cut})
        return
    rows = [
        (label if not n else "", name, *_cells(measured))
        for label, row in comparison.rows.items()
        for n, (name, measured) in enumerate(row.items())
    ]
    output.result(output.table(rows, _HEADER, right=range(2, len(_HEADER))))
    if cut:
        output.note(f"\nread to {characters:,} characters: {', '.join(cut)}")
    if plot is not None:
        output.note(f"drawn: {plot}")


def _cells(m: Measured) -> tuple[str, ...]:
    return (
        f"{m.tokens:,}",
        f"{m.bytes_per_token:.2f}",
        f"{m.characters_per_token:.2f}",
        f"{m.tokens_per_character:.2f}",
        "" if m.tokens_per_word is None else f"{m.tokens_per_word:.2f}",
        f"{m.unknown:.2%}",
        f"{m.parts:.1%}",
        "" if m.coverage is None else f"{m.coverage:.1%}",
    )


def _named(paths: Sequence[str]) -> dict[str, Tokenizer]:
    """Tokenizers by the end of their paths, or by the whole where two end alike."""
    ends = [_end(path) for path in paths]
    names = [path if ends.count(end) > 1 else end for path, end in zip(paths, ends, strict=True)]
    if len(set(names)) < len(names):
        raise UsageError("a tokenizer is named twice", fix="name each once")
    return {name: find_tokenizer(path) for name, path in zip(names, paths, strict=True)}


def _end(path: str) -> str:
    """The folder's name for files that are called alike everywhere."""
    each = Path(path)
    usual = "tokenizer" in each.name or each.name.startswith(("vocab.", "spiece."))
    return each.parent.name or each.name if usual and each.is_file() else each.name


def _labelled(texts: Sequence[str]) -> list[tuple[str, str]]:
    ends = [Path(text).name for text in texts]
    return [(text if ends.count(end) > 1 else end, text) for text, end in zip(texts, ends, strict=True)]


def _first(text: str, options: Options, characters: int) -> Iterator[str]:
    """The documents of a text, up to so many characters in all."""
    for document in read_documents(text, options):
        yield document.text[:characters]
        characters -= len(document.text)
        if characters <= 0:
            return
