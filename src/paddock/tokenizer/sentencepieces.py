"""SentencePiece models (`tokenizer.model`, `spiece.model`), run by the sentencepiece library.

Control pieces never come from text, as in the library itself. User-defined pieces do, which is right for a run of
blanks and wrong for `<|im_start|>`: those spelled like control tokens, or named as such beside the model, are made
control pieces in the copy that the library gets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import sentencepiece

from paddock.errors import TokenizerError
from paddock.tokenizer import modelproto
from paddock.tokenizer.decoding import SpacedDecoding
from paddock.tokenizer.files import guarded
from paddock.tokenizer.modelproto import CONTROL, NORMAL, UNKNOWN, USER_DEFINED, ModelProto, parse_model, write_model
from paddock.tokenizer.segmented import Segmented, place
from paddock.tokenizer.sidefiles import SideFiles, resolve
from paddock.tokenizer.specials import MARKER, Added, Special, Wrapping
from paddock.tokenizer.tokenizer import Tokenizer
from paddock.tokenizer.trees import dump, scored_tree

KINDS = {
    modelproto.UNIGRAM: "SentencePiece unigram",
    modelproto.BPE: "SentencePiece BPE",
    modelproto.WORD: "SentencePiece words",
    modelproto.CHARACTER: "characters",
}


# Classes of transformers that put pieces of their own in front of the model's.
RENUMBERED = ("XLMRobertaTokenizer", "CamembertTokenizer", "MBartTokenizer", "PegasusTokenizer", "NllbTokenizer")


class LibrarySpeller:
    """Ordinary text through the library: one processor for the start of a text, one without SentencePiece's blank.

    `data`: the model; `prefix`: it puts a blank before each text.
    """

    def __init__(self, data: bytes, prefix: bool, name: str) -> None:
        self.name = name
        self._data = data
        self._first = self._processor(data)
        self._later = None if prefix else self._first

    def _processor(self, data: bytes) -> Any:
        processor = sentencepiece.SentencePieceProcessor()
        with guarded(f"{self.name} cannot be used"):
            processor.LoadFromSerializedProto(data)
        return processor

    def _after_added(self) -> Any:
        """The processor for text that follows an added token; made when first wanted, as few prompts need it."""
        if self._later is None:
            self._later = self._processor(self._data + modelproto.WITHOUT_PREFIX)
        return self._later

    def encode(self, text: str, first: bool) -> list[int]:
        processor = self._first if first else self._after_added()
        with guarded(f"{self.name} cannot encode this text"):
            return list(processor.EncodeAsIds(text))


def from_model(data: bytes, side: SideFiles, name: str, ends: Iterable[int] = ()) -> Tokenizer:
    """A tokenizer from the bytes of a SentencePiece model and the files beside it.

    `ends`: further ids that end a turn.
    """
    return from_proto(parse_model(data, name), data, side, name, ends)


def from_proto(model: ModelProto, data: bytes, side: SideFiles, name: str, ends: Iterable[int] = ()) -> Tokenizer:
    """The same from a model already parsed; `data` is the model as bytes."""
    if model.number(model.trainer, modelproto.WHITESPACE_SUFFIX, 0):
        raise TokenizerError(f"{name} writes blanks after words, which Paddock does not decode")
    if side.tokenizer_class in RENUMBERED:
        raise TokenizerError(
            f"{side.tokenizer_class} numbers its pieces otherwise than {name} does",
            fix="save the tokenizer as tokenizer.json with transformers",
        )
    pieces: list[str | None] = [piece.text for piece in model.pieces]
    added = side.declared() or _sentinels(side, len(pieces))
    for token in added:
        place(pieces, token.id, token.text, name)
    added += _reserved(model, {token.id for token in added}, side)
    ids = {piece: id for id, piece in reversed(list(enumerate(pieces))) if piece is not None}
    roles = _roles(model)
    special = resolve(ids, added, side, _wrapping(side, roles, name), roles)
    backend = Segmented(
        KINDS.get(model.number(model.trainer, modelproto.MODEL_TYPE, 1), "SentencePiece"),
        pieces,
        [replace(token, control=token.control or token.id in special.controls.values()) for token in added],
        LibrarySpeller(disarmed(model, data, {token.text for token in added}), prefixed(model), name),
        decoding_of(model),
        restart=side.flag("legacy") is not False,
    )
    special = replace(special, ends=tuple(dict.fromkeys((*special.ends, *ends))))
    return Tokenizer(backend, special, name, lambda: _files(model, data, name, backend, side, special))


def _files(
    model: ModelProto, data: bytes, name: str, backend: Segmented, side: SideFiles, special: Special
) -> Mapping[str, bytes]:
    """The model under a name that is looked for, a configuration, and a tokenizer.json where it can be exact."""
    ends = bool(special.wrapping.after) and not special.wrapping.before
    if name not in ("tokenizer.model", "spiece.model"):
        name = "spiece.model" if ends else "tokenizer.model"
    described = side.described(special, "T5Tokenizer" if ends else "PreTrainedTokenizerFast")
    if described is not side:
        flags = {"add_bos_token": bool(special.wrapping.before), "add_eos_token": bool(special.wrapping.after)}
        more = {"extra_ids": 0} if ends else {}
        described = replace(described, config={**described.config, **flags, **more})
    files = {name: data, **described.files()}
    return {"tokenizer.json": dump(_tree(model, backend, special)), **files} if _is_plain(model) else files


def _is_plain(model: ModelProto) -> bool:
    """Whether merges say all that the model does: BPE, no rewriting of the text, no pieces found in it beforehand."""
    squeezes = model.number(model.normalizer, modelproto.SQUEEZE_SPACES, 1)
    bpe = model.number(model.trainer, modelproto.MODEL_TYPE, 1) == modelproto.BPE
    ordinary = all(piece.type in (NORMAL, CONTROL, UNKNOWN, modelproto.BYTE) for piece in model.pieces)
    return bpe and ordinary and not squeezes and not model.charsmap


def _tree(model: ModelProto, backend: Segmented, special: Special) -> dict[str, Any]:
    outside = {token.text for token in backend.added}
    joinable = [piece.text for piece in model.pieces if piece.type == NORMAL and piece.text not in outside]
    return scored_tree(
        {piece: id for id, piece in enumerate(backend.pieces) if piece is not None},
        [piece.score for piece in model.pieces],
        joinable,
        backend.added,
        special.wrapping,
        prefixed(model),
        any(piece.type == modelproto.BYTE for piece in model.pieces),
        next((piece.text for piece in model.pieces if piece.type == UNKNOWN), None),
        backend.restart,
    )


def _reserved(model: ModelProto, known: set[int], side: SideFiles) -> list[Added]:
    """The model's own control tokens: control and unknown pieces, and user-defined ones that are control tokens."""
    named = {*side.role_texts().values(), *side.additional()}
    found = []
    for id, piece in enumerate(model.pieces):
        control = piece.type in (CONTROL, UNKNOWN)
        marker = piece.type == USER_DEFINED and (piece.text in named or MARKER.match(piece.text))
        if (control or marker) and id not in known:
            found.append(Added(id, piece.text, control=True))
    return found


def _sentinels(side: SideFiles, count: int) -> list[Added]:
    """T5's `<extra_id_0>` and on, which stand behind the pieces from the last to the first."""
    extra = side.config.get("extra_ids", 100) if side.tokenizer_class == "T5Tokenizer" else 0
    if isinstance(extra, bool) or not isinstance(extra, int) or not 0 <= extra <= 1000:
        raise TokenizerError(f"tokenizer_config.json: extra_ids is {str(extra)[:40]!r}", expected="0 to 1000")
    return [Added(count + extra - 1 - number, f"<extra_id_{number}>", control=True) for number in range(extra)]


def disarmed(model: ModelProto, data: bytes, added: set[str]) -> bytes:
    """The model with every added token that it also defines made a control piece, which text never becomes."""
    armed = {
        id for id, piece in enumerate(model.pieces) if piece.text in added and piece.type in (NORMAL, USER_DEFINED)
    }
    if not armed:
        return data
    pieces = [replace(piece, type=CONTROL) if id in armed else piece for id, piece in enumerate(model.pieces)]
    return write_model(replace(model, pieces=pieces))


def _roles(model: ModelProto) -> dict[str, int]:
    """Roles by the ids that the trainer recorded, where a control or unknown piece stands there."""
    roles = {}
    defaults = {"unk": (modelproto.UNK_ID, 0), "bos": (modelproto.BOS_ID, 1), "eos": (modelproto.EOS_ID, 2)}
    for role, (key, default) in {**defaults, "pad": (modelproto.PAD_ID, -1)}.items():
        id = model.number(model.trainer, key, default)
        wanted = UNKNOWN if role == "unk" else CONTROL
        if 0 <= id < len(model.pieces) and model.pieces[id].type == wanted:
            roles[role] = id
    return roles


def _wrapping(side: SideFiles, roles: Mapping[str, int], name: str) -> Wrapping:
    """What each tokenizer class of transformers puts around a text, when no flag says otherwise."""
    if side.tokenizer_class == "T5Tokenizer" or (not side.tokenizer_class and name == "spiece.model"):
        return Wrapping(after=(roles["eos"],) if "eos" in roles else ())
    return Wrapping(before=(roles["bos"],) if "bos" in roles else ())


def prefixed(model: ModelProto) -> bool:
    """Whether the model puts a blank before each text."""
    return model.number(model.normalizer, modelproto.DUMMY_PREFIX, 1) != 0


def decoding_of(model: ModelProto) -> Callable[[], SpacedDecoding]:
    """How the model's pieces are joined."""
    squeezes = model.number(model.normalizer, modelproto.SQUEEZE_SPACES, 1)
    leading = "all" if squeezes else "one" if prefixed(model) else "none"
    fallback = any(piece.type == modelproto.BYTE for piece in model.pieces)
    return lambda: SpacedDecoding(leading=leading, byte_pieces=fallback)
