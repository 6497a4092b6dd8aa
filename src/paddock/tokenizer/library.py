"""`tokenizer.json`, run by the tokenizers library.

The library finds every added token in every text. To keep control tokens out of ordinary text, the copy of the file
that the library gets spells them with a random mark that no text can contain; where the caller trusts the text, their
real spellings are replaced by these marks first. So one instance serves both ways, and a control token that the
vocabulary lists among its pieces (T5's `</s>`) is out of the model's reach too.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import tokenizers

from paddock.errors import TokenizerError
from paddock.tokenizer.decoding import Decoding
from paddock.tokenizer.files import as_json, guarded
from paddock.tokenizer.joining import decoding_of
from paddock.tokenizer.schema import added_tokens, check_tree, kind_of, vocabulary, wrapping_of
from paddock.tokenizer.sidefiles import SideFiles, resolve, spelling
from paddock.tokenizer.specials import Added, Spans, touches
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.tokenizer.trees import added_entry, dump

LONG = 2**13  # characters from which on a text is encoded as a batch of one: that leaves other threads running


class Library:
    """A tokenizer.json tree; `controls` are the spellings that only trusted text may use."""

    def __init__(self, tree: dict[str, Any], pieces: list[str | None], controls: Iterable[str], name: str) -> None:
        self.kind = kind_of(tree)
        self.pieces = pieces
        self.name = name
        mark = f"\ufdd0{secrets.token_hex(16)}"
        self._marks = {text: f"{mark}{number}\ufdd1" for number, text in enumerate(sorted(controls))}
        longest_first = sorted(self._marks, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        with guarded(f"{name} cannot be used"):
            self._library = tokenizers.Tokenizer.from_str(json.dumps(marked(tree, self._marks), ensure_ascii=False))
            self._decoding = decoding_of(tree.get("decoder"), self._join)
        self._ids = {piece: id for id, piece in enumerate(pieces) if piece is not None}

    def encode(self, text: str, parse: bool, foreign: Spans = ()) -> list[int]:
        def mark(match: re.Match[str]) -> str:
            return match[0] if touches(match.span(), foreign) else self._marks[match[0]]

        if parse and self._pattern:
            text = self._pattern.sub(mark, text)
        with guarded(f"{self.name} cannot encode this text"):
            if len(text) < LONG:
                return self._library.encode(text, add_special_tokens=False).ids
            return self._library.encode_batch([text], add_special_tokens=False)[0].ids

    def encode_many(self, texts: list[str]) -> list[list[int]]:
        with guarded(f"{self.name} cannot encode these texts"):
            return [each.ids for each in self._library.encode_batch(texts, add_special_tokens=False)]

    def _join(self, pieces: list[str]) -> str:
        with guarded(f"{self.name} cannot decode these ids"):
            return self._library.decoder.decode(pieces)

    def id_of(self, piece: str) -> int | None:
        return self._ids.get(piece)

    def decoding(self) -> Decoding:
        return self._decoding()

    def check_added(self, added: Iterable[Added]) -> None:
        """The library numbers added tokens by their order; refuses a file where that gives other ids than it lists."""
        for token in added:
            given = self._library.token_to_id(self._marks.get(token.text, token.text))
            if given != token.id:
                raise TokenizerError(
                    f"{self.name}: added token {token.text!r} is listed with id {token.id}, but comes to id {given}"
                )


def marked(tree: Mapping[str, Any], marks: Mapping[str, str]) -> dict[str, Any]:
    """The tree with every spelling in `marks` replaced, and without what only shapes whole texts or batches."""
    model = dict(tree["model"])
    if isinstance(model["vocab"], dict):
        if any(text in model["vocab"] for text in marks):
            model["vocab"] = {marks.get(piece, piece): id for piece, id in model["vocab"].items()}
            model["merges"] = [pair for pair in model.get("merges", ()) if not _touches(pair, marks)]
        if model.get("merges") is None or model.get("type") != "BPE":
            model.pop("merges", None)
        if model.get("unk_token") in marks:
            model["unk_token"] = marks[model["unk_token"]]
    else:
        model["vocab"] = [[marks.get(piece, piece), score] for piece, score in model["vocab"]]
    added = [
        entry | {"content": marks[entry["content"]], "special": True, "normalized": False}
        if entry["content"] in marks
        else entry
        for entry in tree.get("added_tokens") or ()
    ]
    whole = {"truncation": None, "padding": None, "post_processor": None}
    return {**tree, "model": model, "added_tokens": added, **whole}


def _touches(pair: str | list[str], marks: Mapping[str, str]) -> bool:
    left, right = pair.split(" ", 1) if isinstance(pair, str) else pair
    return left in marks or right in marks or left + right in marks


def from_tree(
    tree: dict[str, Any],
    side: SideFiles,
    source: str,
    ends: Iterable[int] = (),
    data: bytes = b"",
) -> Tokenizer:
    """A tokenizer from a parsed tokenizer.json and the files beside it.

    `ends`: further ids that end a turn. `data`: the bytes the tree was parsed from, which saving writes again.
    """
    check_tree(tree, source)
    declare(tree, side.declared())
    added = added_tokens(tree, source)
    pieces = vocabulary(tree, added, source)
    ids = {piece: id for id, piece in enumerate(pieces) if piece is not None}
    wrapping = wrapping_of(tree)
    if any(not 0 <= id < len(pieces) for id in (*wrapping.before, *wrapping.after)):
        raise TokenizerError(f"{source} puts ids around a text that its vocabulary does not have")
    special = resolve(ids, added, side, wrapping, {})
    special = replace(special, ends=tuple(dict.fromkeys((*special.ends, *ends))))
    declare(tree, [Added(id, text, control=True) for text, id in special.controls.items()])
    backend = Library(tree, pieces, special.controls, source)
    backend.check_added(added)
    described = side.described(special)
    whole = (lambda: data) if data else (lambda: dump(tree))  # a tree takes many times the memory of its file
    return Tokenizer(backend, special, source, lambda: {"tokenizer.json": whole(), **described.files()})


def declare(tree: dict[str, Any], tokens: Iterable[Added]) -> None:
    """Adds tokens that the tree does not list, in the order of their ids, as the library numbers them by order."""
    listed = {spelling(entry) for entry in tree.get("added_tokens") or ()}
    fresh = sorted((token for token in tokens if token.text not in listed), key=lambda token: token.id)
    if fresh:
        tree["added_tokens"] = [*(tree.get("added_tokens") or ()), *map(added_entry, fresh)]


def from_json(data: bytes, side: SideFiles, name: str = "tokenizer.json") -> Tokenizer:
    """A tokenizer from the bytes of tokenizer.json and the files beside it."""
    return from_tree(as_json(data, name), side, name, data=data)
