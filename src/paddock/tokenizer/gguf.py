"""Vocabularies inside GGUF files: SentencePiece BPE, byte-level BPE, WordPiece and SentencePiece unigram.

Keys and their meaning: ggml-org/ggml, `docs/gguf.md`; defaults where a key is absent: llama.cpp. Each vocabulary is
turned into the form its own library reads, so that the ids are those of the original tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from paddock.errors import TokenizerError, did_you_mean
from paddock.tokenizer import modelproto
from paddock.tokenizer.decoding import SPACE
from paddock.tokenizer.files import MAX_PIECE, MAX_PIECES
from paddock.tokenizer.library import from_tree
from paddock.tokenizer.modelproto import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, ModelProto, Piece
from paddock.tokenizer.pretokenizers import BY_ARCHITECTURE, BY_NAME, PreTokenizer
from paddock.tokenizer.scored import from_scored
from paddock.tokenizer.sentencepieces import from_proto
from paddock.tokenizer.sidefiles import SideFiles
from paddock.tokenizer.specials import MARKER, Added, Wrapping
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.tokenizer.trees import byte_level_tree, wordpiece_tree

PREFIX = "tokenizer.ggml."
PADDING = re.compile(r"\[PAD\d+\]\Z")  # rows that converters add to fill the embedding matrix
ROLE_KEYS = {
    "bos": "bos_token_id",
    "eos": "eos_token_id",
    "unk": "unknown_token_id",
    "pad": "padding_token_id",
    "sep": "seperator_token_id",  # so spelled in the format
    "cls": "cls_token_id",
    "mask": "mask_token_id",
}
DEFAULT_ROLES = {
    "llama": {"bos": 1, "eos": 2, "unk": 0},
    "gpt2": {},
    "bert": {"unk": 100, "cls": 101, "sep": 102, "pad": 0, "mask": 103},
    "t5": {"eos": 1, "unk": 2, "pad": 0},
}
# Tokens that end a turn though the file may not say so; llama.cpp stops at them too.
TURN_ENDS = ("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|eom_id|>")


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says of its vocabulary, checked."""

    model: str
    pieces: list[str]
    types: list[int]
    roles: dict[str, int]
    metadata: Mapping[str, Any]

    def get(self, key: str, default: Any) -> Any:
        value = self.metadata.get(PREFIX + key)
        return default if value is None else value

    def flag(self, key: str, default: bool) -> bool:
        value = self.get(key, default)
        if not isinstance(value, (bool, numpy.bool_)):
            raise TokenizerError(f"{PREFIX}{key} is {value!r}", expected="true or false")
        return bool(value)

    def wrapping(self, bos: bool, eos: bool) -> Wrapping:
        """BOS and EOS as the file's flags say; `bos` and `eos` are the defaults of the kind of vocabulary."""
        before = self.flag("add_bos_token", bos) and "bos" in self.roles
        after = self.flag("add_eos_token", eos) and "eos" in self.roles
        return Wrapping((self.roles["bos"],) if before else (), (self.roles["eos"],) if after else ())

    def added(self) -> list[Added]:
        """Pieces found in the text by their spelling: control tokens, and user-defined pieces that are no padding."""
        tokens = []
        for id, (piece, type) in enumerate(zip(self.pieces, self.types, strict=True)):
            control = type in (CONTROL, UNKNOWN) or id in self.roles.values()
            if control or (type == USER_DEFINED and not PADDING.match(piece)):
                tokens.append(Added(id, piece, control or bool(MARKER.match(piece))))
        return tokens

    def side(self) -> SideFiles:
        """The roles as the tokenizer_config.json that saving writes."""
        config: dict[str, Any] = {f"{role}_token": self.pieces[id] for role, id in self.roles.items()}
        return SideFiles(config={"tokenizer_class": "PreTrainedTokenizerFast", **config})

    def ends(self) -> list[int]:
        """Ids that end a turn: those the file names, then usual spellings among its control tokens."""
        named = [self.get(key, None) for key in ("eot_token_id", "eom_token_id")]
        found = [int(id) for id in named if isinstance(id, int) and 0 <= id < len(self.pieces)]
        for id, (piece, type) in enumerate(zip(self.pieces, self.types, strict=True)):
            if piece in TURN_ENDS and type in (CONTROL, USER_DEFINED):
                found.append(id)
        return found


def from_gguf(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a GGUF file, from its metadata (strings, numbers, lists of strings, NumPy arrays of numbers).

    Raises TokenizerError for metadata that is incomplete or contradicts itself, and for a `tokenizer.ggml.model` or
    `tokenizer.ggml.pre` that Paddock does not know.
    """
    model = metadata.get(PREFIX + "model")
    builder = BUILDERS.get(model) if isinstance(model, str) else None
    if builder is None:
        expected = ", ".join(BUILDERS)
        raise TokenizerError(f"the GGUF file names {PREFIX}model = {str(model)[:60]!r}", expected=expected)
    pieces = _pieces(metadata.get(PREFIX + "tokens"))
    types = [int(type) for type in _numbers(metadata, "token_type", len(pieces), NORMAL)]
    return builder(Vocabulary(str(model), pieces, types, _roles(metadata, str(model), len(pieces)), metadata))


def _pieces(tokens: Any) -> list[str]:
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise TokenizerError(f"the GGUF file has no {PREFIX}tokens", expected="a list of strings")
    if not 0 < len(tokens) <= MAX_PIECES or max(map(len, tokens)) > MAX_PIECE:
        raise TokenizerError(f"{PREFIX}tokens has {len(tokens)} pieces", expected=f"1 to {MAX_PIECES}, none too long")
    for id, token in enumerate(tokens):
        if not token.isascii() and any("\ud800" <= character <= "\udfff" for character in token):
            raise TokenizerError(f"{PREFIX}tokens: piece {id} is not UTF-8 text")
    return tokens


def _numbers(metadata: Mapping[str, Any], key: str, count: int, default: float) -> Sequence[float]:
    values = metadata.get(PREFIX + key)
    if values is None:
        return [default] * count
    try:
        array = numpy.asarray(values)
    except (ValueError, OverflowError):
        array = numpy.empty(0)
    if array.ndim != 1 or len(array) != count or array.dtype.kind not in "iuf" or not numpy.isfinite(array).all():
        raise TokenizerError(f"{PREFIX}{key} does not go with the {count} tokens", expected=f"{count} finite numbers")
    return array.tolist()


def _roles(metadata: Mapping[str, Any], model: str, count: int) -> dict[str, int]:
    roles = {role: id for role, id in DEFAULT_ROLES[model].items() if id < count}
    for role, key in ROLE_KEYS.items():
        id = metadata.get(PREFIX + key)
        if id is None:
            continue
        if isinstance(id, bool) or not isinstance(id, (int, numpy.integer)):
            raise TokenizerError(f"{PREFIX}{key} is {id!r}", expected="a token id")
        if 0 <= id < count:
            roles[role] = int(id)
        elif 0 <= id < 2**31:  # 2^32 - 1 is how files say "none"
            raise TokenizerError(f"{PREFIX}{key} is {id}", expected=f"0 to {count - 1}")
    return roles


def _vocab(pieces: Sequence[str]) -> dict[str, int]:
    vocab = {piece: id for id, piece in enumerate(pieces)}
    if len(vocab) < len(pieces):
        twice = next(piece for id, piece in enumerate(pieces) if vocab[piece] != id)
        raise TokenizerError(f"{PREFIX}tokens lists {twice!r} twice")
    return vocab


def _byte_level(vocabulary: Vocabulary) -> Tokenizer:
    way, name = _way(vocabulary)
    merges = vocabulary.get("merges", None)
    if not isinstance(merges, list) or not all(isinstance(pair, str) and " " in pair[1:] for pair in merges):
        raise TokenizerError(f"the GGUF file has no {PREFIX}merges", expected="a list of pairs")
    pairs = [[pair[:cut], pair[cut + 1 :]] for pair in merges for cut in (pair.index(" ", 1),)]
    prefix = vocabulary.flag("add_space_prefix", False)
    if prefix and way is not BY_NAME["gpt-2"]:
        raise TokenizerError(f"{PREFIX}add_space_prefix does not go with pre-tokenizer {name!r}")
    wrapping = vocabulary.wrapping(bos=name in ("llama-bpe", "llama3", "llama-v3", "tekken"), eos=False)
    vocab = _vocab(vocabulary.pieces)
    tree = byte_level_tree(vocab, pairs, way, vocabulary.added(), wrapping, prefix)
    return from_tree(tree, vocabulary.side(), f"GGUF (gpt2, {name})", ends=vocabulary.ends())


def _way(vocabulary: Vocabulary) -> tuple[PreTokenizer, str]:
    """How the file says words are cut, and the name for it."""
    name = vocabulary.get("pre", None)
    if name is None:
        architecture = str(vocabulary.metadata.get("general.architecture"))
        if architecture in BY_ARCHITECTURE:
            return BY_ARCHITECTURE[architecture], architecture
        raise TokenizerError(
            f"the GGUF file does not say how words are cut ({PREFIX}pre), and its architecture ({architecture[:40]}) "
            "does not tell",
            fix="convert the model again with a current converter",
        )
    if not isinstance(name, str) or name not in BY_NAME:
        raise TokenizerError(
            f"the GGUF file names pre-tokenizer {str(name)[:60]!r}, which Paddock does not know",
            fix=did_you_mean(str(name), BY_NAME) or "use the tokenizer.json of the original model",
        )
    return BY_NAME[name], name


def _wordpiece(vocabulary: Vocabulary) -> Tokenizer:
    """BERT: the file writes word starts with U+2581 and continuations bare; bracketed pieces are as they were."""
    pieces = [_bert_piece(piece) for piece in vocabulary.pieces]
    spelled = Vocabulary(vocabulary.model, pieces, vocabulary.types, vocabulary.roles, vocabulary.metadata)
    roles = spelled.roles
    if not {"unk", "cls", "sep"} <= roles.keys():
        raise TokenizerError("the GGUF file's BERT vocabulary lacks an unknown, CLS or SEP token")
    # The format does not say whether case counts; a vocabulary made from lower-cased text has no capitals.
    ordinary = (piece for piece, type in zip(pieces, spelled.types, strict=True) if type == NORMAL)
    lowercase = not any(piece != piece.lower() for piece in ordinary if not piece.startswith("["))
    tree = wordpiece_tree(
        _vocab(pieces),
        spelled.added(),
        Wrapping((roles["cls"],), (roles["sep"],)),
        pieces[roles["unk"]],
        lowercase,
    )
    return from_tree(tree, spelled.side(), "GGUF (bert)")


def _bert_piece(piece: str) -> str:
    if piece.startswith(SPACE):
        return piece[len(SPACE) :]
    return piece if piece.startswith("[") and piece.endswith("]") else "##" + piece


def _scored(vocabulary: Vocabulary) -> Tokenizer:
    scores = _numbers(vocabulary.metadata, "scores", len(vocabulary.pieces), 0.0)
    return from_scored(
        vocabulary.pieces,
        scores,
        vocabulary.types,
        vocabulary.added(),
        vocabulary.side(),
        vocabulary.wrapping(bos=True, eos=False),
        vocabulary.flag("add_space_prefix", True),
        "GGUF (llama)",
        vocabulary.ends(),
    )


def _unigram(vocabulary: Vocabulary) -> Tokenizer:
    """Rebuilds the SentencePiece model that the metadata was taken from."""
    scores = _numbers(vocabulary.metadata, "scores", len(vocabulary.pieces), 0.0)
    types = [type if type in (UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE) else NORMAL for type in vocabulary.types]
    types = [CONTROL if PADDING.match(p) else type for p, type in zip(vocabulary.pieces, types, strict=True)]
    if types.count(UNKNOWN) != 1:
        raise TokenizerError(f"the GGUF file has {types.count(UNKNOWN)} unknown tokens", expected="1")
    pieces = [Piece(*entry) for entry in zip(vocabulary.pieces, scores, types, strict=True)]
    ids = {modelproto.UNK_ID: types.index(UNKNOWN)}
    for key, role in ((modelproto.BOS_ID, "bos"), (modelproto.EOS_ID, "eos"), (modelproto.PAD_ID, "pad")):
        ids[key] = vocabulary.roles.get(role, -1)
    trainer: list[tuple[int, int, modelproto.Value]] = [(modelproto.MODEL_TYPE, 0, modelproto.UNIGRAM)]
    trainer += [(modelproto.BYTE_FALLBACK, 0, int(BYTE in types))]
    trainer += [(key, 0, id) for key, id in sorted(ids.items())]
    normalizer: list[tuple[int, int, modelproto.Value]] = [
        (modelproto.DUMMY_PREFIX, 0, int(vocabulary.flag("add_space_prefix", True))),
        (modelproto.SQUEEZE_SPACES, 0, int(vocabulary.flag("remove_extra_whitespaces", False))),
    ]
    charsmap = vocabulary.get("precompiled_charsmap", None)
    if charsmap is not None:
        if not isinstance(charsmap, numpy.ndarray) or charsmap.dtype not in (numpy.uint8, numpy.int8):
            raise TokenizerError(f"{PREFIX}precompiled_charsmap is not a row of bytes")
        normalizer.insert(0, (modelproto.CHARSMAP, 2, charsmap.tobytes()))
    model = ModelProto(pieces, trainer, normalizer)
    modelproto.check_model(model, "GGUF (t5)")
    wrapping = vocabulary.wrapping(bos=False, eos=True)
    side = vocabulary.side()
    flags = {"add_bos_token": bool(wrapping.before), "add_eos_token": bool(wrapping.after)}
    config = {**side.config, "tokenizer_class": "T5Tokenizer", "extra_ids": 0, **flags}
    return from_proto(model, modelproto.write_model(model), SideFiles(config=config), "GGUF (t5)", vocabulary.ends())


BUILDERS = {"llama": _scored, "gpt2": _byte_level, "bert": _wordpiece, "t5": _unigram}
