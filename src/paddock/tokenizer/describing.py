"""What a tokenizer is, in figures and words: scripts, longest pieces, what is done to a text before it is split."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from paddock.errors import TokenizerError
from paddock.tokenizer.decoding import BYTE_PIECE
from paddock.tokenizer.tokenizer import Tokenizer

LONGEST = 12  # pieces named, of those with a letter
MAX_DEPTH = 16
# Chinese characters of the Unicode blocks that texts use: the unified ideographs, and those of extension A.
IDEOGRAPHS = (*range(0x4E00, 0xA000), *range(0x3400, 0x4DC0))
_BLANKS = " \u2581\u0120"


def describe(tokenizer: Tokenizer) -> dict[str, Any]:
    """Kind, size, special tokens, steps before splitting, longest pieces, pieces by script, Chinese characters."""
    texts = dict(piece_texts(tokenizer))
    characters = single_characters(texts.values())
    worded = [(id, text) for id, text in texts.items() if any(map(str.isalpha, text))]
    longest = sorted(worded, key=lambda item: (-len(item[1].strip()), item[0]))[:LONGEST]
    return {
        "kind": tokenizer.kind,
        "source": tokenizer.source,
        "size": len(tokenizer),
        "specials": tokenizer.specials,
        "before": [tokenizer.piece(id) for id in tokenizer.before],
        "after": [tokenizer.piece(id) for id in tokenizer.after],
        "byte_pieces": byte_pieces(tokenizer),
        "steps": steps(tokenizer),
        "longest": [{"id": id, "text": text} for id, text in longest],
        "scripts": dict(Counter(script(text) for text in texts.values()).most_common()),
        "ideographs": sum(chr(point) in characters for point in IDEOGRAPHS),
        "fingerprint": tokenizer.fingerprint(),
    }


def piece_texts(tokenizer: Tokenizer) -> Iterator[tuple[int, str]]:
    """(id, text) of every piece that spells whole characters; control tokens and parts of characters have none."""
    spelled = tokenizer.all_bytes() if tokenizer.spells_bytes else None
    for id in range(len(tokenizer)):
        if tokenizer.is_control(id):
            continue
        if spelled is None:
            piece = spelling(tokenizer, id)
            if piece:
                yield id, piece.removeprefix("##") if tokenizer.kind == "WordPiece" else piece.replace("</w>", "")
            continue
        try:
            text = spelled[id].decode("utf-8")
        except UnicodeDecodeError:
            continue
        if text and not is_byte(tokenizer, id):
            yield id, text


def spelling(tokenizer: Tokenizer, id: int) -> str | None:
    """The vocabulary's own spelling of `id`; None for a number that no piece has."""
    try:
        return tokenizer.piece(id)
    except TokenizerError:
        return None


def is_byte(tokenizer: Tokenizer, id: int) -> bool:
    """Whether `id` is a byte of byte fallback."""
    piece = spelling(tokenizer, id)
    return piece is not None and len(piece) == 6 and bool(BYTE_PIECE.match(piece))


def byte_pieces(tokenizer: Tokenizer) -> int:
    """How many of the 256 bytes are pieces of their own, as byte-level BPE and byte fallback have them."""
    if tokenizer.kind == "byte-level BPE":
        return 256
    return sum(is_byte(tokenizer, id) for id in range(len(tokenizer)))


def single_characters(texts: Iterable[str]) -> set[str]:
    """The characters that are a piece of their own, with a blank before or without."""
    return {bare for text in texts if len(bare := text.strip(_BLANKS)) == 1}


def script(text: str) -> str:
    """Of the first letter: "Latin", "Han", ...; else digits, blanks or signs."""
    for character in text:
        if character.isalpha():
            first = unicodedata.name(character, "unnamed").split(" ")[0].split("-")[0]
            return {"CJK": "Han"}.get(first, first.capitalize())
    if any(character.isdigit() for character in text):
        return "digits"
    return "blanks" if not text.strip(_BLANKS + "\n\t\r") else "signs"


def steps(tokenizer: Tokenizer) -> list[str]:
    """What is done to a text before pieces are found in it, in order."""
    data = tokenizer.files().get("tokenizer.json")
    if data is None:
        return []
    tree = json.loads(data)
    return [
        *(_step(node) for node in _nodes(tree.get("normalizer"))),
        *(_step(node) for node in _nodes(tree.get("pre_tokenizer"))),
    ]


def _nodes(part: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    if not isinstance(part, dict) or depth > MAX_DEPTH:
        return
    inner = part.get("normalizers") or part.get("pretokenizers")
    if part.get("type") == "Sequence" and isinstance(inner, list):
        for each in inner:
            yield from _nodes(each, depth + 1)
    else:
        yield part


def _step(node: dict[str, Any]) -> str:
    match node.get("type"):
        case "Prepend":
            return f"put {node.get('prepend')!r} before"
        case "Replace":
            return f"replace {_pattern(node)} by {node.get('content')!r}"
        case "Split":
            return f"split at {_pattern(node)}"
        case "ByteLevel":
            return "split as GPT-2 does, spell bytes" if node.get("use_regex", True) else "spell bytes"
        case "Metaspace":
            return f"blanks as {node.get('replacement')!r}"
        case "Precompiled":
            return "rewrite characters (SentencePiece's table)"
        case "BertNormalizer":
            fold = "fold case, " if node.get("lowercase") else ""
            return f"clean, {fold}" + (
                "ideographs apart" if node.get("handle_chinese_chars") else "ideographs together"
            )
        case "BertPreTokenizer":
            return "split at blanks and punctuation"
        case other:
            return str(other)


def _pattern(node: dict[str, Any]) -> str:
    pattern = node.get("pattern")
    if isinstance(pattern, dict):
        return next((f"{value!r}"[:120] for value in pattern.values()), "''")
    return repr(pattern)[:120]
