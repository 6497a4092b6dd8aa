"""Choosing what to read a tokenizer from.

In a folder, the first of these that is there:

1. `tokenizer.json`
2. `ice_text.model` (ChatGLM-6B), `tokenizer.model`, `spiece.model` (SentencePiece; `tokenizer.model` may also hold
   tiktoken ranks, which its content shows)
3. `vocab.json` with `merges.txt` (byte-level BPE)
4. `*.tiktoken` (ranks)
5. `vocab.txt` (WordPiece)
6. `tokenizer.bin` (llama2.c)
7. `rwkv_vocab*.txt`, `*.vocab` (characters), each only if it is the one such file

A single file is told by its content and name. The side files of the same folder (`tokenizer_config.json`,
`special_tokens_map.json`, `added_tokens.json`) are read in either case.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from paddock.errors import TokenizerError
from paddock.tokenizer.characters import load_characters
from paddock.tokenizer.chatglm import load_chatglm, load_chatglm2
from paddock.tokenizer.files import as_json, read_bytes
from paddock.tokenizer.gpt2 import load_gpt2
from paddock.tokenizer.library import from_json
from paddock.tokenizer.llama2c import load_llama2c
from paddock.tokenizer.ranks import is_rank_file, load_ranks
from paddock.tokenizer.rwkv import LINE as RWKV_LINE
from paddock.tokenizer.rwkv import load_rwkv
from paddock.tokenizer.sentencepieces import from_model
from paddock.tokenizer.sidefiles import SideFiles
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.tokenizer.wordpiece import load_wordpiece

IN_ORDER = (
    "tokenizer.json",
    "ice_text.model",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "*.tiktoken",
    "vocab.txt",
    "tokenizer.bin",
    "rwkv_vocab*.txt",
    "*.vocab",
)


def load(path: str | Path) -> Tokenizer:
    """The tokenizer of a model folder or of a single vocabulary file; `.source` says what was used.

    Raises TokenizerError for a file that is missing, corrupt, hostile or of no known kind.
    """
    path = Path(path)
    if path.is_dir():
        path = _choose(path)
    return _reader(path)(path)


def _choose(folder: Path) -> Path:
    for pattern in IN_ORDER:
        found = sorted(folder.glob(pattern))
        if len(found) > 1:
            names = ", ".join(path.name for path in found[:4])
            raise TokenizerError(f"{folder} holds several vocabularies: {names}", fix="name one of them")
        if found:
            return found[0]
    raise TokenizerError(f"{folder} holds no tokenizer", expected="one of " + ", ".join(IN_ORDER))


def _reader(path: Path) -> Callable[[Path], Tokenizer]:
    """Which reader a file's name, then its content, calls for."""
    match path.suffix.lower():
        case ".json":
            return _read_json
        case ".bin":
            return load_llama2c
        case ".tiktoken":
            return load_ranks
        case ".txt" | ".vocab":
            return _text_reader(path)
    return load_ranks if is_rank_file(read_bytes(path)) else _read_model


def _read_json(path: Path) -> Tokenizer:
    """tokenizer.json has a model; vocab.json is a mapping of pieces to ids."""
    data = read_bytes(path)
    if isinstance(as_json(data, path.name).get("model"), dict) or path.name == "tokenizer.json":
        return from_json(data, SideFiles.beside(path.parent), path.name)
    return load_gpt2(path)


def _read_model(path: Path) -> Tokenizer:
    side = SideFiles.beside(path.parent)
    if path.name == "ice_text.model":
        return load_chatglm(path, side)
    if side.tokenizer_class == "ChatGLMTokenizer":
        return load_chatglm2(path, side)
    return from_model(read_bytes(path), side, path.name)


def _text_reader(path: Path) -> Callable[[Path], Tokenizer]:
    start = read_bytes(path)[:65536].decode("utf-8", "replace")
    if RWKV_LINE.match(start.split("\n", 1)[0].removesuffix("\r")):
        return load_rwkv
    return load_wordpiece if path.name == "vocab.txt" or "\n[CLS]" in "\n" + start else load_characters
