"""A vocabulary as the metadata of a GGUF file: the inverse of `gguf.py`.

GGUF names a way of cutting text rather than describing it. So each way that may fit is tried: the metadata is read
back, and only what gives the same ids for a fixed text in many scripts (`Tokenizer.fingerprint`) and the same ids
around a text is written. A tokenizer that no way fits is refused.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from paddock.errors import PaddockError, TokenizerError
from paddock.tokenizer import modelproto
from paddock.tokenizer.decoding import BYTE_PIECE, SPACE
from paddock.tokenizer.gguf import PREFIX, ROLE_KEYS, from_gguf
from paddock.tokenizer.llama2c import _pieces_and_scores
from paddock.tokenizer.modelproto import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, ModelProto, parse_model
from paddock.tokenizer.pretokenizers import BY_NAME, GPT2, PreTokenizer
from paddock.tokenizer.segmented import Segmented
from paddock.tokenizer.sentencepieces import prefixed
from paddock.tokenizer.tokenizer import Tokenizer

Metadata = dict[str, Any]


def to_gguf(tokenizer: Tokenizer, rows: int, architecture: str, ends: Sequence[int] = ()) -> Metadata:
    """The `tokenizer.ggml.*` keys of `tokenizer` for a model with `rows` rows of embeddings.

    Rows past the vocabulary get pieces `[PAD...]`. `ends`: ids that end a text by the model's configuration; two may
    stand beside the tokenizer's own. Raises TokenizerError for a tokenizer that GGUF cannot hold.
    """
    if len(tokenizer) > rows:
        raise TokenizerError(
            f"the tokenizer has {len(tokenizer)} pieces and the model {rows} rows",
            fix="take the tokenizer that belongs to these weights",
        )
    common = _roles(tokenizer, ends)
    for fitting in _fittings(_Source(tokenizer)):
        found = _written(tokenizer, fitting, rows) | common
        if _same(tokenizer, found, architecture):
            return found
    raise TokenizerError(
        f"GGUF has no way to say how this tokenizer ({tokenizer.kind}, {tokenizer.source}) cuts text",
        fix="write a Hugging Face folder",
    )


@dataclass(frozen=True)
class _Fitting:
    """One way to say a vocabulary: its kind, how pieces are spelled, and the keys that go with it."""

    model: str
    keys: Metadata
    scores: Sequence[float] | None = None
    spell: Callable[[str], str] = str


class _Source:
    """What a tokenizer's own files say."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        files = tokenizer.files()
        data = next((files[name] for name in ("tokenizer.model", "spiece.model") if name in files), None)
        self.tokenizer = tokenizer
        self.proto: ModelProto | None = None if data is None else parse_model(data, "tokenizer.model")
        self.tree: dict[str, Any] = json.loads(files["tokenizer.json"]) if "tokenizer.json" in files else {}


def _fittings(source: _Source) -> Iterator[_Fitting]:
    """The ways that may fit, likeliest first."""
    model = source.tree.get("model", {})
    if (
        source.proto is not None
        and source.proto.number(source.proto.trainer, modelproto.MODEL_TYPE, 1) == modelproto.UNIGRAM
    ):
        yield _unigram_of(source.proto)
    elif model.get("type") == "Unigram":
        yield from _unigram(source.tree)
    elif model.get("type") == "WordPiece":
        yield from _wordpiece(source.tree)
    elif model.get("type") == "BPE" and '"ByteLevel"' in json.dumps(source.tree.get("decoder")):
        yield from _byte_level(source.tree)
    elif source.tokenizer.kind == "SentencePiece BPE":
        scores = _scores(source)
        blank = None if source.proto is None else prefixed(source.proto)
        for prefix in (True, False) if blank is None else (blank,):
            yield _Fitting("llama", {"pre": "default", "add_space_prefix": prefix}, scores, _with_blanks)


def _with_blanks(piece: str) -> str:
    return piece.replace(" ", SPACE)


def _scores(source: _Source) -> list[float]:
    if source.proto is not None:
        own = [piece.score for piece in source.proto.pieces]
        return own + [0.0] * (len(source.tokenizer) - len(own))
    return _pieces_and_scores(source.tokenizer)[1]


def _unigram_of(proto: ModelProto) -> _Fitting:
    keys: Metadata = {
        "pre": "default",
        "add_space_prefix": prefixed(proto),
        "remove_extra_whitespaces": proto.number(proto.normalizer, modelproto.SQUEEZE_SPACES, 1) != 0,
    }
    if proto.charsmap:
        keys["precompiled_charsmap"] = numpy.frombuffer(proto.charsmap, numpy.uint8)
    return _Fitting("t5", keys, [piece.score for piece in proto.pieces])


def _unigram(tree: Mapping[str, Any]) -> Iterator[_Fitting]:
    normalizer = tree.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer])
    charsmap = next((step["precompiled_charsmap"] for step in steps if step.get("type") == "Precompiled"), None)
    keys: Metadata = {"pre": "default"}
    if charsmap:
        keys["precompiled_charsmap"] = numpy.frombuffer(base64.b64decode(charsmap), numpy.uint8)
    scores = [score for _, score in tree["model"]["vocab"]]
    for prefix in (True, False):
        for squeeze in (True, False):
            flags = {"add_space_prefix": prefix, "remove_extra_whitespaces": squeeze}
            yield _Fitting("t5", keys | flags, scores)


def _wordpiece(tree: Mapping[str, Any]) -> Iterator[_Fitting]:
    """llama.cpp folds case whatever the vocabulary, so one that keeps it is not offered."""
    if (tree.get("normalizer") or {}).get("lowercase") is not False:
        yield _Fitting("bert", {}, spell=_bert_piece)


def _bert_piece(piece: str) -> str:
    """Word starts get U+2581, continuations lose their ##."""
    if piece.startswith("##"):
        return piece[2:]
    return piece if piece.startswith("[") and piece.endswith("]") else SPACE + piece


def _byte_level(tree: Mapping[str, Any]) -> Iterator[_Fitting]:
    """The way whose patterns the file has, if one has them; else all of them, for the fingerprint to judge."""
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in tree["model"]["merges"]]
    nodes = list(_steps(tree.get("pre_tokenizer")))
    own = PreTokenizer(
        tuple(pattern for node in nodes if (pattern := _pattern(node))),
        "NFC" in json.dumps(tree.get("normalizer")),
        tree["model"].get("ignore_merges") is True,
    )
    ways = list(dict.fromkeys(BY_NAME.values()))
    ways.sort(key=lambda way: (way != own, way.patterns != own.patterns))
    prefix = any(node.get("type") == "ByteLevel" and node.get("add_prefix_space") for node in nodes)
    for way in [GPT2] if prefix else ways:
        name = next(name for name, each in BY_NAME.items() if each == way)
        yield _Fitting("gpt2", {"pre": name, "merges": merges, **({"add_space_prefix": True} if prefix else {})})


def _steps(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for inner in node.get("pretokenizers", ()):
            yield from _steps(inner)


def _pattern(node: Mapping[str, Any]) -> str | None:
    """The pattern by which a pre-tokenizer cuts, in the spelling of `pretokenizers.py`."""
    match node.get("type"):
        case "Split":
            return (node.get("pattern") or {}).get("Regex")
        case "ByteLevel" if node.get("use_regex", True):
            return GPT2.patterns[0]
        case "Digits" if node.get("individual_digits"):
            return r"\p{N}"
    return None


def _written(tokenizer: Tokenizer, fitting: _Fitting, rows: int) -> Metadata:
    """Pieces, types and scores of every row, and the keys of this way."""
    backend, added = tokenizer._backend, _added(tokenizer)
    pieces, types = [], []
    for id in range(rows):
        piece = backend.pieces[id] if id < len(backend.pieces) else None
        if piece is None:
            pieces.append(f"[PAD{id}]")
            types.append(UNUSED)
            continue
        kind = _type(tokenizer, fitting.model, id, piece, id in added)
        pieces.append(fitting.spell(piece) if kind == NORMAL else piece)
        types.append(kind)
    found: Metadata = {"model": fitting.model, **fitting.keys, "tokens": pieces}
    found["token_type"] = numpy.array(types, numpy.int32)
    if fitting.scores is not None:
        padded = [*fitting.scores, *[0.0] * (rows - len(fitting.scores))]
        found["scores"] = numpy.array(padded, numpy.float32)
    return {PREFIX + key: value for key, value in found.items()}


def _added(tokenizer: Tokenizer) -> set[int]:
    """Ids of the pieces that are found in a text by their spelling."""
    if isinstance(tokenizer._backend, Segmented):
        return {token.id for token in tokenizer._backend.added}
    return {entry["id"] for entry in json.loads(tokenizer.files()["tokenizer.json"]).get("added_tokens") or ()}


def _type(tokenizer: Tokenizer, model: str, id: int, piece: str, added: bool) -> int:
    if id == tokenizer.unk_id and model in ("llama", "t5"):
        return UNKNOWN
    if tokenizer.is_control(id):
        return CONTROL
    if model in ("llama", "t5") and BYTE_PIECE.fullmatch(piece):
        return BYTE
    return USER_DEFINED if added else NORMAL


def _roles(tokenizer: Tokenizer, ends: Sequence[int]) -> Metadata:
    found: Metadata = {}
    specials = tokenizer.specials
    for role, key in ROLE_KEYS.items():
        if role in specials:
            found[PREFIX + key] = specials[role]
    own = tokenizer.specials.get("eos")
    others = [id for id in dict.fromkeys((*tokenizer.eos_ids, *ends)) if id != own]
    found |= dict(zip((PREFIX + "eot_token_id", PREFIX + "eom_token_id"), others, strict=False))
    return found | {PREFIX + "add_bos_token": tokenizer.adds_bos, PREFIX + "add_eos_token": tokenizer.adds_eos}


def _same(tokenizer: Tokenizer, metadata: Metadata, architecture: str) -> bool:
    try:
        back = from_gguf({"general.architecture": architecture, **metadata})
        if (back.before, back.after) != (tokenizer.before, tokenizer.after):
            return False
        return back.fingerprint() == tokenizer.fingerprint()
    except PaddockError:
        return False
