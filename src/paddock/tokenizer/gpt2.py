"""GPT-2's pair of files, `vocab.json` and `merges.txt`: byte-level BPE."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paddock.errors import TokenizerError
from paddock.tokenizer.files import MAX_PIECES, as_json, read_bytes, read_lines
from paddock.tokenizer.library import from_tree
from paddock.tokenizer.pretokenizers import GPT2, QWEN2, PreTokenizer
from paddock.tokenizer.sidefiles import SideFiles
from paddock.tokenizer.specials import Wrapping
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.tokenizer.trees import BARE, byte_level_tree

# How each tokenizer class of transformers that has this pair of files cuts text into words.
WAYS = {
    "": GPT2,
    "PreTrainedTokenizer": GPT2,
    "GPT2Tokenizer": GPT2,
    "CodeGenTokenizer": GPT2,
    "MossTokenizer": GPT2,
    "GPTNeoXTokenizer": GPT2,
    "RobertaTokenizer": GPT2,
    "BartTokenizer": GPT2,
    "Qwen2Tokenizer": QWEN2,
}
WRAPPED = ("RobertaTokenizer", "BartTokenizer")  # <s> text </s>


def load_gpt2(path: Path) -> Tokenizer:
    """Reads `vocab.json` and the `merges.txt` beside it."""
    beside = path.with_name("merges.txt")
    if not beside.exists():
        raise TokenizerError(f"{path.name} needs merges.txt beside it, which {path.parent} does not hold")
    side = SideFiles.beside(path.parent)
    data, merges = read_bytes(path), read_bytes(beside)
    vocab = as_json(data, path.name)
    for piece, id in vocab.items():
        if isinstance(id, bool) or not isinstance(id, int) or not 0 <= id < MAX_PIECES:
            raise TokenizerError(f"{path.name}: {piece[:40]!r} has id {str(id)[:40]!r}", expected="a token id")
    way = _way(side)
    prefix = bool(side.flag("add_prefix_space"))
    if prefix and way is not GPT2:
        raise TokenizerError(f"add_prefix_space does not go with {side.tokenizer_class}")
    tree = byte_level_tree(vocab, _merges(merges), way, wrapping=_wrapping(vocab, side), prefix=prefix)
    return from_tree(tree, side, "vocab.json and merges.txt")


def _way(side: SideFiles) -> PreTokenizer:
    name = side.tokenizer_class
    if name not in WAYS:
        raise TokenizerError(
            f"tokenizer_config.json names {name[:60]!r}, and Paddock does not know how that cuts text into words",
            fix="save the tokenizer as tokenizer.json with transformers",
        )
    return WAYS[name]


def _wrapping(vocab: Mapping[str, Any], side: SideFiles) -> Wrapping:
    if side.tokenizer_class in WRAPPED and {"<s>", "</s>"} <= vocab.keys():
        return Wrapping((vocab["<s>"],), (vocab["</s>"],))
    return BARE


def _merges(data: bytes) -> list[list[str]]:
    """Pairs in order of rank; a first line that names the format's version, and empty lines, hold none."""
    pairs = []
    for number, line in enumerate(read_lines(data, "merges.txt"), 1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = line.split(" ")
        if len(pair) != 2 or not all(pair):
            raise TokenizerError(f"merges.txt, line {number}: {line[:60]!r}", expected="two pieces and a blank between")
        pairs.append(pair)
    return pairs
