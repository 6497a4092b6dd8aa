"""How well vocabularies fit a text: what a token carries, what a word costs, what is unknown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from paddock.errors import DataError
from paddock.tokenizer.describing import is_byte, piece_texts, single_characters
from paddock.tokenizer.tokenizer import Tokenizer

# A word is a run of letters and digits; each ideograph or kana is one, as nothing sets them apart.
_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+")
_IDEOGRAPH = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


@dataclass(frozen=True)
class Measured:
    """One tokenizer on one text.

    bytes_per_token, characters_per_token: the higher, the shorter a text becomes. tokens_per_word: fertility, None for
    a text without words. unknown, parts: the shares of tokens that stand for something unknown, and for a part of a
    character (a byte of byte fallback, or a piece of byte-level BPE that is no whole character). ideographs: how many
    Chinese characters the text holds; coverage: the share of them that are pieces of their own, None where it has none.
    """

    tokens: int
    bytes: int
    characters: int
    words: int
    bytes_per_token: float
    characters_per_token: float
    tokens_per_character: float
    tokens_per_word: float | None
    unknown: float
    parts: float
    ideographs: int
    coverage: float | None


class Comparison:
    """Tokenizers side by side; `add` measures all of them on one text."""

    def __init__(self, tokenizers: Mapping[str, Tokenizer]) -> None:
        self.tokenizers = dict(tokenizers)
        self.rows: dict[str, dict[str, Measured]] = {}
        self._single = {name: single_characters(dict(piece_texts(t)).values()) for name, t in self.tokenizers.items()}
        self._parts = {name: _part_ids(t) for name, t in self.tokenizers.items()}

    def add(self, label: str, texts: Iterable[str]) -> None:
        """Measures a text, given in one or more documents. Raises DataError for none."""
        documents = [text for text in texts if text]
        if not documents:
            raise DataError(f"{label} holds no text to compare on")
        self.rows[label] = {name: self._measure(name, documents) for name in self.tokenizers}

    def _measure(self, name: str, documents: list[str]) -> Measured:
        tokenizer, single, parts = self.tokenizers[name], self._single[name], self._parts[name]
        tokens = unknown = partial = size = characters = words = ideographs = covered = 0
        for text in documents:
            ids = tokenizer.encode(text, add_special=False)
            tokens += len(ids)
            unknown += sum(id == tokenizer.unk_id for id in ids)
            partial += sum(id in parts for id in ids)
            size += len(text.encode("utf-8"))
            characters += len(text)
            words += sum(1 for _ in _WORD.finditer(text))
            found = _IDEOGRAPH.findall(text)
            ideographs += len(found)
            covered += sum(each in single for each in found)
        return Measured(
            tokens,
            size,
            characters,
            words,
            size / max(tokens, 1),
            characters / max(tokens, 1),
            tokens / characters,
            tokens / words if words else None,
            unknown / max(tokens, 1),
            partial / max(tokens, 1),
            ideographs,
            covered / ideographs if ideographs else None,
        )


def _part_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Ids that spell a part of a character: byte fallback, and pieces of byte-level BPE that are not whole."""
    spelled = tokenizer.all_bytes() if tokenizer.spells_bytes else []
    found = set()
    for id in range(len(tokenizer)):
        if is_byte(tokenizer, id) or (id < len(spelled) and not _is_text(spelled[id])):
            found.add(id)
    return frozenset(found)


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
