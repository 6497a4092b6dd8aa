"""The `decoder` of a tokenizer.json as a decoding that works one piece at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paddock.tokenizer.decoding import (
    BYTE_PIECE,
    SPACE,
    ByteLevelDecoding,
    Decoding,
    JoinedDecoding,
    Step,
    StepsDecoding,
    SuffixDecoding,
    WholeDecoding,
    WordPieceDecoding,
    byte_level,
)


def decoding_of(tree: dict[str, Any] | None, join: Callable[[list[str]], str]) -> Callable[[], Decoding]:
    """What makes a fresh decoding for a file's `decoder`.

    `join` is the library's way with all pieces at once: where the file's rule needs them all, it decides, and a stream
    gives its text at the end.
    """
    if tree is None:
        return JoinedDecoding
    simple = _simple(tree)
    if simple is not None:
        return simple
    chain = tree["decoders"] if tree["type"] == "Sequence" else [tree]
    steps: list[Step] = []
    for place, item in enumerate(chain):
        if item["type"] == "Fuse":
            strip = _strip_after_fuse(chain[place + 1 :])
            if strip is None:
                break
            return lambda: StepsDecoding(steps, **strip)
        step = _step(item)
        if step is None:
            break
        steps.append(step)
    else:
        return lambda: StepsDecoding(steps)
    return lambda: WholeDecoding(join)


def _simple(tree: dict[str, Any]) -> Callable[[], Decoding] | None:
    match tree["type"]:
        case "ByteLevel":
            return ByteLevelDecoding
        case "WordPiece":
            prefix, cleanup = tree.get("prefix", "##"), tree.get("cleanup", True)
            return lambda: WordPieceDecoding(prefix, cleanup)
        case "BPEDecoder":
            suffix = tree.get("suffix", "</w>")
            return lambda: SuffixDecoding(suffix)
    return None


def _step(item: dict[str, Any]) -> Step | None:
    """One link of the chain as a function of (piece, whether it is the first); None for links that need neighbours."""
    match item["type"]:
        case "ByteLevel":
            return lambda piece, first: byte_level(piece)
        case "ByteFallback":
            return lambda piece, first: bytes([int(m[1], 16)]) if (m := BYTE_PIECE.match(piece)) else piece
        case "Replace" if "String" in item["pattern"]:
            found, instead = item["pattern"]["String"], item["content"]
            return lambda piece, first: piece.replace(found, instead)
        case "Metaspace":
            mark = item.get("replacement", SPACE)
            drops = item.get("prepend_scheme", "always") != "never" and item.get("add_prefix_space", True)
            return lambda piece, first: piece.replace(mark, "" if first and drops else " ")
        case "Strip":
            return lambda piece, first: _strip(piece, item["content"], item["start"], item["stop"])
    return None


def _strip(piece: str, content: str, start: int, stop: int) -> str:
    for _ in range(start):
        if not piece.startswith(content):
            break
        piece = piece[len(content) :]
    for _ in range(stop):
        if not piece.endswith(content):
            break
        piece = piece[: -len(content)]
    return piece


def _strip_after_fuse(rest: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The settings of a single Strip that follows Fuse and so means the whole text; None for anything else."""
    if not rest:
        return {}
    if len(rest) == 1 and rest[0]["type"] == "Strip":
        return {key: rest[0][key] for key in ("content", "start", "stop")}
    return None
