"""tiktoken's rank files (`*.tiktoken`, Llama 3's `tokenizer.model`): per line a piece in base64 and its rank.

The file holds neither the control tokens nor how text is cut into words; both come with the vocabulary's name, which is
known here by its number of pieces, or from `tokenizer_config.json`.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, replace
from pathlib import Path

from paddock.errors import TokenizerError
from paddock.tokenizer.decoding import BYTES_TO_CHARACTERS
from paddock.tokenizer.files import read_bytes, read_lines
from paddock.tokenizer.library import from_tree
from paddock.tokenizer.pretokenizers import GPT2, GPT4, GPT4O, QWEN2, PreTokenizer
from paddock.tokenizer.sidefiles import SideFiles
from paddock.tokenizer.specials import Added, Wrapping
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.tokenizer.trees import BARE, byte_level_tree

LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} [0-9]+\r?\n")


@dataclass(frozen=True)
class Known:
    """What goes with a rank file: how words are cut, control tokens from `first` on, roles, whether BOS is put."""

    way: PreTokenizer
    first: int
    controls: tuple[str, ...]
    bos: str | None
    eos: str
    adds_bos: bool = False


def _reserved(names: dict[int, str], count: int) -> tuple[str, ...]:
    """Llama 3's control tokens: some named, the others numbered in order."""
    others = iter(range(count))
    return tuple(names.get(place) or f"<|reserved_special_token_{next(others)}|>" for place in range(count))


_LLAMA3 = {
    0: "<|begin_of_text|>",
    1: "<|end_of_text|>",
    6: "<|start_header_id|>",
    7: "<|end_header_id|>",
    9: "<|eot_id|>",
}
_QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{number}|>" for number in range(205)))
_CL100K = {100257: "<|endoftext|>", 100258: "<|fim_prefix|>", 100259: "<|fim_middle|>", 100260: "<|fim_suffix|>"}

BY_SIZE = {
    50256: Known(GPT2, 50256, ("<|endoftext|>",), None, "<|endoftext|>"),
    100256: Known(GPT4, 100257, tuple(_CL100K.values()), None, "<|endoftext|>"),
    128000: Known(GPT4, 128000, _reserved(_LLAMA3, 256), "<|begin_of_text|>", "<|end_of_text|>", adds_bos=True),
    151643: Known(PreTokenizer(QWEN2.patterns, nfc=True), 151643, _QWEN, None, "<|endoftext|>"),
    199998: Known(GPT4O, 199999, ("<|endoftext|>",), None, "<|endoftext|>"),
}
BY_CLASS = {"QWenTokenizer": BY_SIZE[151643], "Llama3Tokenizer": BY_SIZE[128000]}


def is_rank_file(data: bytes) -> bool:
    """Whether a file starts as a rank file does; a SentencePiece model starts with a byte that is no base64."""
    return LINE.match(data) is not None


def load_ranks(path: Path) -> Tokenizer:
    """Reads a rank file; TokenizerError when nothing says which vocabulary it is."""
    data = read_bytes(path)
    ranks = _ranks(data, path.name)
    side = SideFiles.beside(path.parent)
    known = _known(ranks, side, path.name)
    vocab = {_spell(piece): rank for piece, rank in ranks.items()}
    added = [Added(known.first + place, text, control=True) for place, text in enumerate(known.controls)]
    wrapping = Wrapping((known.first,), ()) if known.adds_bos else BARE
    roles = {"bos_token": known.bos, "eos_token": known.eos}
    config = {**{key: text for key, text in roles.items() if text and text in known.controls}, **side.config}
    way = PreTokenizer(known.way.patterns, known.way.nfc, whole_words=True)
    tree = byte_level_tree(vocab, _merges(ranks), way, added, wrapping)
    config.setdefault("tokenizer_class", "PreTrainedTokenizerFast")
    return from_tree(tree, replace(side, config=config), f"{path.name} (tiktoken ranks)")


def _known(ranks: dict[bytes, int], side: SideFiles, name: str) -> Known:
    known = BY_CLASS.get(side.tokenizer_class) or BY_SIZE.get(len(ranks))
    if known is None:
        raise TokenizerError(
            f"{name} holds {len(ranks)} ranks, and nothing says how its text is cut into words",
            expected="a vocabulary of GPT-2, GPT-4, GPT-4o, Llama 3 or Qwen",
            fix="save the tokenizer as tokenizer.json with transformers",
        )
    return known


def _ranks(data: bytes, name: str) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(read_lines(data, name), 1):
        if not line:
            continue
        parts = line.split(" ")
        try:
            piece = base64.b64decode(parts[0], validate=True)
        except (binascii.Error, ValueError):
            piece = b""
        if len(parts) != 2 or not piece or not parts[1].isascii() or not parts[1].isdigit() or len(parts[1]) > 7:
            raise TokenizerError(f"{name}, line {number}: {line[:60]!r}", expected="a piece in base64 and its rank")
        if piece in ranks:
            raise TokenizerError(f"{name}, line {number}: the piece has a rank already, {ranks[piece]}")
        ranks[piece] = int(parts[1])
    missing = next((byte for byte in range(256) if bytes([byte]) not in ranks), None)
    if missing is not None:
        raise TokenizerError(f"{name} has no rank for byte {missing}", expected="all 256 bytes")
    return ranks


def _spell(piece: bytes) -> str:
    return "".join([BYTES_TO_CHARACTERS[byte] for byte in piece])


def _merges(ranks: dict[bytes, int]) -> list[list[str]]:
    """Every pair whose join has a rank, the lowest rank first: tiktoken joins by the rank of the result."""
    merges = []
    for piece in sorted((piece for piece in ranks if len(piece) > 1), key=ranks.__getitem__):
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in ranks and right in ranks:
                merges.append([_spell(left), _spell(right)])
    return merges
