"""Decoders of tokenizer.json, piece by piece, beside the library's own on whole lists."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import tokenizers
from tokenizers import Regex, decoders

from paddock.tokenizer.decoding import BYTES_TO_CHARACTERS, WholeDecoding
from paddock.tokenizer.joining import decoding_of

LLAMA = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
CASES = {
    "byte level": decoders.ByteLevel(),
    "metaspace": decoders.Metaspace(),
    "metaspace, never": decoders.Metaspace(prepend_scheme="never"),
    "word piece": decoders.WordPiece(),
    "word piece, no cleanup": decoders.WordPiece("##", False),
    "suffix": decoders.BPEDecoder("</w>"),
    "llama": decoders.Sequence(LLAMA),
    "gemma": decoders.Sequence(LLAMA[:3]),
    "strip both": decoders.Sequence([decoders.Fuse(), decoders.Strip("a", 2, 2)]),
    "strip each": decoders.Sequence([decoders.Strip("a", 1, 1)]),
    "replace": decoders.Sequence([decoders.Replace("a", "bb")]),
    # Rules that need all pieces at once: the library decides, at the end.
    "ctc": decoders.CTC(),
    "pattern": decoders.Sequence([decoders.Replace(Regex("a+"), "b")]),
    "fuse, then replace": decoders.Sequence([decoders.Fuse(), decoders.Replace("ab", "x")]),
}
PIECES = [
    "▁",
    "▁the",
    "a",
    "aa",
    "ab",
    "▁a▁",
    "##ing",
    "##",
    "n't",
    "'",
    "s",
    ".",
    ",",
    "do",
    "not",
    "</w>",
    "cat</w>",
    "a</w>",
]
PIECES += ["", " ", "é", "中", "<pad>", "<0x41>", "Ġ", "Ġa", "don", "</", "▁▁"]
HELD_BACK = {"ctc", "pattern", "fuse, then replace"}


def tree(decoder: Any) -> dict[str, Any]:
    whole = tokenizers.Tokenizer(tokenizers.models.BPE())
    whole.decoder = decoder
    return json.loads(whole.to_str())["decoder"]


@pytest.mark.parametrize("name", CASES)
def test_pieces_joined_as_the_library_joins_them(name: str) -> None:
    make = decoding_of(tree(CASES[name]), CASES[name].decode)
    assert isinstance(make(), WholeDecoding) == (name in HELD_BACK)
    rng = random.Random(name)
    pieces = PIECES + list(BYTES_TO_CHARACTERS.values())[:40]
    compared = 0
    for _ in range(400):
        chosen = [rng.choice(pieces) for _ in range(rng.randint(1, 7))]
        try:
            expected = CASES[name].decode(chosen)
        except BaseException as error:
            assert type(error).__name__ == "PanicException"  # its Strip, on pieces that are stripped to nothing
            continue
        decoding = make()
        data = b"".join(decoding.push(piece) for piece in chosen) + decoding.finish()
        assert data.decode("utf-8", "replace") == expected, chosen
        compared += 1
    assert compared > 100


def test_no_decoder_puts_blanks_between() -> None:
    decoding = decoding_of(None, "".join)()
    assert b"".join(map(decoding.push, ["a", "b", "c"])) + decoding.finish() == b"a b c"


def test_bytes_that_are_text_so_far_are_kept() -> None:
    """The library gives up a whole run of byte pieces for one bad byte; we keep what can be read."""
    decoding = decoding_of(tree(CASES["llama"]), "".join)()
    data = b"".join(map(decoding.push, ["<0xC3>", "<0xA9>", "<0xE4>"])) + decoding.finish()
    assert data == "é".encode() + b"\xe4"
