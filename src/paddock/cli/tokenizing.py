"""`paddock tokens`: how a text becomes ids."""

from __future__ import annotations

import sys
from pathlib import Path

from paddock import tokenizer as text_room
from paddock.checkpoint.gguf import GGUFFile
from paddock.cli import output
from paddock.cli.loading import piped_text
from paddock.engine.locate import locate
from paddock.errors import TokenizerError, UsageError
from paddock.tokenizer import Row, Tokenizer
from paddock.tokenizer.gguf import from_gguf

BACKGROUNDS = ("30;46", "30;43")  # black on cyan, black on yellow: readable on dark and light grounds


def tokens(given: str | None, model: str | None, special: bool, bare: bool, json: bool) -> None:
    text = _text(given)
    tokenizer = find_tokenizer(model)
    rows = tokenizer.explain(text, "parse" if special else "plain", False if bare else None)
    if json:
        records = [{"id": r.id, "piece": r.piece, "bytes": r.bytes.hex(), "control": r.control} for r in rows]
        output.as_json(
            {"tokenizer": tokenizer.source, "count": len(rows), "ids": [r.id for r in rows], "tokens": records}
        )
        return
    colour = output.coloured(sys.stdout)
    output.painted_result("".join(_piece(row, number, colour) for number, row in enumerate(rows)))
    lines = [[str(row.id), row.piece, row.bytes.hex(" "), "control" if row.control else ""] for row in rows]
    output.result("\n" + output.table([list(map(output.printable, line)) for line in lines], _HEADER, right=(0,)))
    characters = f"{len(text)} characters, {len(text.encode())} bytes"
    output.note(f"\n{len(rows)} tokens for {characters} ({tokenizer.kind}, {tokenizer.source})")


_HEADER = ("id", "piece", "bytes", "")


def find_tokenizer(model: str | None) -> Tokenizer:
    """The tokenizer of a model, or in a file of its own, without touching weights."""
    path = locate(model)
    if path.suffix == ".gguf":
        return from_gguf(dict(GGUFFile(path).metadata))
    try:
        return text_room.load(path)
    except TokenizerError:
        if path.is_file() and path.suffix == ".bin" and _beside(path):  # weights of llama2.c
            return text_room.load(path.parent)
        raise


def _beside(path: Path) -> bool:
    return path.name != "tokenizer.bin" and (path.parent / "tokenizer.bin").is_file()


def _text(given: str | None) -> str:
    if given is not None and given != "-":
        return given
    if given is None and sys.stdin.isatty():
        raise UsageError("there is no text", fix="write it in quotes, or pipe it in")
    return piped_text()


def _piece(row: Row, number: int, colour: bool) -> str:
    """One token's text with blanks made visible; without colours in brackets, as borders must be seen."""
    try:
        shown = row.piece if row.control else row.bytes.decode("utf-8")
    except UnicodeDecodeError:
        shown = "".join(f"<{byte:02X}>" for byte in row.bytes)
    shown = shown.replace(" ", "·").replace("\t", "→").replace("\n", "↵")
    if not colour:
        return f"[{shown}]"
    return output.painted(output.printable(shown), "7" if row.control else BACKGROUNDS[number % 2])
