"""The one type that turns text into ids and back, whatever file the vocabulary came from."""

from __future__ import annotations

import codecs
import functools
import hashlib
import operator
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from paddock.checkpoint.writing import write_bytes
from paddock.errors import TokenizerError, UsageError
from paddock.tokenizer.decoding import Decoding, is_local
from paddock.tokenizer.specials import Spans, Special

FINGERPRINT_TEXT = (
    "The quick brown fox doesn't jump over 1,234.50 lazy dogs!\n\n\tdef f(x):  return x**2  # naïve café\n"
    "开放的语言模型在自己的土地上运行。 日本語のテキスト、한국어 문장. Съешь ещё этих мягких булок. مرحبا بالعالم "
    "नमस्ते दुनिया שלום עולם Ελληνικά 🙂👩‍👩‍👧‍👦🇨🇳 e\u0301 ﬁ ½ \u00a0\u200b <s> </s> <|endoftext|>"
)

Specials = Literal["plain", "parse"]


class Backend(Protocol):
    """What a kind of vocabulary gives: pieces by id, ordinary text to ids, pieces to bytes."""

    kind: str
    pieces: list[str | None]

    def encode(self, text: str, parse: bool, foreign: Spans = ()) -> list[int]:
        """Ids of well-formed `text`, nothing put around them.

        Control tokens are found in it only if `parse`, and only outside the `foreign` spans.
        """
        ...

    def id_of(self, piece: str) -> int | None: ...

    def decoding(self) -> Decoding:
        """A fresh state for one text."""
        ...


@runtime_checkable
class AtOnce(Protocol):
    """A backend that encodes many texts faster than one after another."""

    def encode_many(self, texts: list[str]) -> list[list[int]]:
        """`Backend.encode` of each ordinary text."""
        ...


class Row(NamedTuple):
    """One token as `paddock tokens` shows it. `control`: the token stands for no text."""

    id: int
    piece: str
    bytes: bytes
    control: bool


class Tokenizer:
    """Text to ids and back; immutable, and safe to use from several threads.

    Spelling a control token in ordinary text never makes that token: `encode("</s>")` gives the ids of four
    characters. Only `encode_rendered` (and `specials="parse"`) finds control tokens, for prompts that a template made.
    """

    def __init__(
        self, backend: Backend, special: Special, source: str, files: Callable[[], Mapping[str, bytes]]
    ) -> None:
        self._backend = backend
        self._special = special
        self._files = files
        self._controls = frozenset(special.controls.values())
        self.source = source
        self.kind = backend.kind

    def __repr__(self) -> str:
        return f"Tokenizer({self.kind}, {len(self)} pieces, from {self.source})"

    def __len__(self) -> int:
        """One more than the highest id."""
        return len(self._backend.pieces)

    @property
    def specials(self) -> dict[str, int]:
        """Control tokens: by role (bos, eos, pad, unk, cls, sep, mask), the others by their spelling."""
        roles = dict(self._special.roles)
        return roles | {text: id for text, id in self._special.controls.items() if id not in roles.values()}

    @property
    def bos_id(self) -> int | None:
        return self._special.roles.get("bos")

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Every id that ends a text or a turn, the tokenizer's own `eos` first."""
        return self._special.ends

    @property
    def pad_id(self) -> int | None:
        return self._special.roles.get("pad")

    @property
    def unk_id(self) -> int | None:
        return self._special.roles.get("unk")

    @property
    def before(self) -> tuple[int, ...]:
        """The ids that `encode` puts before a text."""
        return self._special.wrapping.before

    @property
    def after(self) -> tuple[int, ...]:
        """The ids that `encode` puts after a text."""
        return self._special.wrapping.after

    @property
    def adds_bos(self) -> bool:
        return self.bos_id is not None and self.bos_id in self.before

    @property
    def adds_eos(self) -> bool:
        return any(id in self.eos_ids for id in self.after)

    def encode(self, text: str, specials: Specials = "plain", add_special: bool | None = None) -> list[int]:
        """Ids of `text`.

        `specials="plain"` keeps every spelling of a control token ordinary text; "parse" makes it the token.
        `add_special`: put the model's own ids around the text (BOS, [CLS] ... [SEP]); None does as the model was
        trained, which is the same as True. Parsed text that already starts with BOS gets no second one.

        Raises TokenizerError for text that is not well-formed Unicode or that the vocabulary cannot spell.
        """
        if specials not in ("plain", "parse"):
            raise UsageError(f"specials={specials!r}", expected='"plain" or "parse"')
        ids = self._backend.encode(_well_formed(text), specials == "parse")
        if add_special is False:
            return ids
        wrapping = self._special.wrapping
        return wrapping.around(ids) if specials == "parse" else [*wrapping.before, *ids, *wrapping.after]

    def encode_many(self, texts: Iterable[str]) -> list[list[int]]:
        """`encode` of each text as ordinary text with nothing around it, on all cores where the library can."""
        whole = [_well_formed(text) for text in texts]
        if isinstance(self._backend, AtOnce):
            return self._backend.encode_many(whole)
        return [self._backend.encode(text, False) for text in whole]

    def encode_rendered(self, text: str, foreign: Spans = ()) -> list[int]:
        """Ids of a prompt that a chat template made: control tokens are parsed, and the prompt is left open.

        `foreign`: spans (start, stop) of `text`, in order, that hold what people wrote; a control token spelled
        there, wholly or in part, stays text, and the words around are cut as if it were any other text.

        What the model wants before every text (BOS) is put in front unless the prompt starts with it; nothing is put
        after the prompt, as the model goes on from there.
        """
        ids = self._backend.encode(_well_formed(text), True, foreign)
        before = list(self.before)
        return ids if ids[: len(before)] == before else before + ids

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """Text of `ids`; bytes that are not UTF-8 become U+FFFD. Raises TokenizerError for an id that is no token."""
        stream = self.stream(skip_special)
        return "".join([stream.push(id) for id in ids]) + stream.finish()

    def stream(self, skip_special: bool = True) -> StreamDecoder:
        """A decoder fed one id at a time; what it gives, joined, is `decode` of the same ids."""
        return StreamDecoder(self, skip_special)

    def piece(self, id: int) -> str:
        """The vocabulary's own spelling of `id`."""
        pieces = self._backend.pieces
        try:
            piece = pieces[id] if 0 <= operator.index(id) < len(pieces) else None
        except TypeError:
            raise UsageError(f"an id is {type(id).__name__}", expected="int") from None
        if piece is None:
            raise TokenizerError(f"id {id} is not in the vocabulary", expected=f"0 to {len(pieces) - 1}")
        return piece

    def id_of(self, piece: str) -> int | None:
        """The id of a piece by the vocabulary's own spelling."""
        return self._backend.id_of(piece)

    def is_control(self, id: int) -> bool:
        """Whether `id` stands for no text of its own."""
        return id in self._controls

    @property
    def spells_bytes(self) -> bool:
        """Whether `bytes_of` holds for a piece behind any other text; not so where neighbours change a piece's text."""
        return is_local(self._backend.decoding())

    def bytes_of(self, id: int) -> bytes:
        """The bytes `id` adds in the middle of a text; none for a control token."""
        piece = self.piece(id)
        if id in self._controls:
            return b""
        anchor = self._anchor
        decoding = self._backend.decoding()
        before = decoding.push(anchor)
        whole = before + decoding.push(piece) + decoding.finish()
        alone = self._backend.decoding()
        return whole.removeprefix(alone.push(anchor) + alone.finish())

    def all_bytes(self) -> list[bytes]:
        """`bytes_of` every id at once, where `spells_bytes` holds; none for a control token, and for an id without a
        piece."""
        decoding = self._backend.decoding()
        decoding.push(self._anchor)
        return [
            b"" if piece is None or id in self._controls else decoding.push(piece)
            for id, piece in enumerate(self._backend.pieces)
        ]

    @functools.cached_property
    def _anchor(self) -> str:
        """Some piece that spells text, to stand before another: the first piece of a text may decode differently."""
        pieces = self._backend.pieces
        return next((p for p in reversed(pieces) if p and p.isalnum()), "a")

    def explain(self, text: str, specials: Specials = "plain", add_special: bool | None = None) -> list[Row]:
        """The tokens of `text`, a row each."""
        ids = self.encode(text, specials, add_special)
        return [Row(id, self.piece(id), self.bytes_of(id), id in self._controls) for id in ids]

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the ids of a fixed text in many scripts: equal for tokenizers that encode it alike."""
        ids = self.encode(FINGERPRINT_TEXT, add_special=False)
        return hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()

    def files(self) -> dict[str, bytes]:
        """The files, by name, that make a folder this tokenizer can be loaded from again."""
        return dict(self._files())

    def save(self, folder: str | Path) -> list[Path]:
        """Writes `files()` into `folder`, each whole or not at all; gives the paths written."""
        folder = Path(folder)
        paths = []
        for name, data in self.files().items():
            write_bytes(folder / name, data)
            paths.append(folder / name)
        return paths


class StreamDecoder:
    """One text being decoded: text comes out as soon as it is certain, and a character is never split."""

    def __init__(self, tokenizer: Tokenizer, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._decoding = tokenizer._backend.decoding()
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, id: int) -> str:
        """The text that `id` makes certain, often its own, sometimes none."""
        piece = self._tokenizer.piece(id)
        if self._skip_special and self._tokenizer.is_control(id):
            return ""
        return self._utf8.decode(self._decoding.push(piece))

    def finish(self) -> str:
        """The text still held back, once no more ids come."""
        return self._utf8.decode(self._decoding.finish(), final=True)


def _well_formed(text: str) -> str:
    if not isinstance(text, str):
        raise UsageError(f"text to encode is {type(text).__name__}", expected="str")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"the text has a lone surrogate (U+{ord(text[error.start]):04X}) at character {error.start}",
            expected="well-formed Unicode",
            fix="decode the input with errors='replace'",
        ) from None
    return text
