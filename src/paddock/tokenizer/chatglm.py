"""ChatGLM-6B and ChatGLM2-6B: SentencePiece models whose wrapping is kept in the models' own code.

ChatGLM-6B (`ice_text.model`) writes line breaks, tabs and runs of blanks as pieces of their own, and puts its control
tokens after the text; its first release has 20,000 image tokens before the pieces of text. ChatGLM2-6B
(`tokenizer.model`) has its control tokens behind the model's pieces, and puts them before the text.
Source: THUDM's published tokenizers of both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from paddock.errors import TokenizerError
from paddock.tokenizer.decoding import Decoding
from paddock.tokenizer.files import MAX_PIECES, read_bytes
from paddock.tokenizer.modelproto import parse_model
from paddock.tokenizer.segmented import Segmented, Speller, place
from paddock.tokenizer.sentencepieces import LibrarySpeller, decoding_of, disarmed, prefixed
from paddock.tokenizer.sidefiles import SideFiles
from paddock.tokenizer.specials import Added, Special, Wrapping
from paddock.tokenizer.tokenizer import Tokenizer

FIRST_CONTROLS = {"[MASK]": 130000, "[gMASK]": 130001, "[sMASK]": 130002, "<sop>": 130004, "<eop>": 130005}
SECOND_CONTROLS = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop")
BLANKS = {"<n>": "\n", "<|tab|>": "\t"} | {f"<|blank_{length}|>": " " * length for length in range(2, 81)}
RUNS = re.compile(r"\n|\t| {2,80}")


class BlankSpeller:
    """Writes white space as the pieces in BLANKS before the model sees the text; ids are shifted by `shift`."""

    def __init__(self, model: Speller, shift: int) -> None:
        self.model = model
        self.shift = shift
        self.written = {blank: piece for piece, blank in BLANKS.items()}

    def encode(self, text: str, first: bool) -> list[int]:
        text = RUNS.sub(lambda match: self.written[match[0]], text)
        return [id + self.shift for id in self.model.encode(text, first)]


class BlankDecoding:
    """The way back: pieces of white space become what they stand for."""

    def __init__(self, inner: Decoding) -> None:
        self.inner = inner

    def push(self, piece: str) -> bytes:
        blank = BLANKS.get(piece)
        return self.inner.push(piece) if blank is None else blank.encode("ascii")

    def finish(self) -> bytes:
        return self.inner.finish()


def load_chatglm(path: Path, side: SideFiles) -> Tokenizer:
    """ChatGLM-6B's tokenizer from `ice_text.model`."""
    data = read_bytes(path)
    model = parse_model(data, path.name)
    shift = side.config.get("num_image_tokens", 20000)
    if isinstance(shift, bool) or not isinstance(shift, int) or not 0 <= shift < MAX_PIECES - len(model.pieces):
        raise TokenizerError(f"tokenizer_config.json: num_image_tokens is {str(shift)[:40]!r}", expected="0 or 20000")
    pieces: list[str | None] = [f"<image_{number}>" for number in range(shift)]
    pieces += [piece.text for piece in model.pieces]
    own = {piece.text: id + shift for id, piece in enumerate(model.pieces)}
    controls = {text: own.get(text, id + shift) for text, id in FIRST_CONTROLS.items()}
    for text, id in controls.items():
        place(pieces, id, text, path.name)
    controls |= {text: own[text] for text in ("<unk>", "<pad>", "<s>", "</s>") if text in own}
    speller = BlankSpeller(LibrarySpeller(disarmed(model, data, set(controls)), prefixed(model), path.name), shift)
    plain = decoding_of(model)
    roles = {"bos": controls["<sop>"], "eos": controls["<eop>"], "mask": controls["[MASK]"]}
    roles |= {role: controls[f"<{role}>"] for role in ("pad", "unk") if f"<{role}>" in controls}
    wrapping = Wrapping(after=(controls["[gMASK]"], controls["<sop>"]))
    special = Special(roles, controls, (controls["<eop>"],), wrapping)
    return _tokenizer(path.name, data, side, pieces, controls, special, speller, lambda: BlankDecoding(plain()))


def load_chatglm2(path: Path, side: SideFiles) -> Tokenizer:
    """ChatGLM2-6B's tokenizer from `tokenizer.model`. The spellings `sop` and `eop` are words, and never parsed."""
    data = read_bytes(path)
    model = parse_model(data, path.name)
    pieces: list[str | None] = [piece.text for piece in model.pieces]
    controls = {text: len(pieces) + number for number, text in enumerate(SECOND_CONTROLS)}
    for token in side.declared():
        if token.control and token.id >= len(model.pieces):
            controls.setdefault(token.text, token.id)
    for text, id in controls.items():
        place(pieces, id, text, path.name)
    own = {piece.text: id for id, piece in enumerate(model.pieces)}
    controls |= {text: own[text] for text in ("<unk>", "<s>", "</s>") if text in own}
    speller = LibrarySpeller(disarmed(model, data, set(controls) - {"sop", "eop"}), prefixed(model), path.name)
    named = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<unk>", "mask": "[MASK]"}
    roles = {role: controls[text] for role, text in named.items() if text in controls}
    wrapping = Wrapping(before=(controls["[gMASK]"], controls["sop"]))
    special = Special(roles, controls, (roles["eos"],) if "eos" in roles else (), wrapping)
    return _tokenizer(path.name, data, side, pieces, controls, special, speller, decoding_of(model))


def _tokenizer(
    name: str,
    data: bytes,
    side: SideFiles,
    pieces: list[str | None],
    controls: Mapping[str, int],
    special: Special,
    speller: Speller,
    decoding: Callable[[], Decoding],
) -> Tokenizer:
    added = [Added(id, text, control=True) for text, id in controls.items() if text not in ("sop", "eop")]
    backend = Segmented("SentencePiece BPE", pieces, added, speller, decoding, restart=False)
    return Tokenizer(backend, special, f"{name} (ChatGLM)", lambda: {name: data, **side.files()})
