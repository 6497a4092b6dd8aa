"""Control tokens: which they are, where their spellings may count, and which of them wrap a text."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

ROLES = ("bos", "eos", "unk", "pad", "cls", "sep", "mask")

# What a role is called when no configuration names it; the first spelling the vocabulary has is taken.
USUAL_SPELLINGS = {
    "bos": ("<s>", "<|begin_of_text|>", "<bos>", "<|startoftext|>", "<|endoftext|>"),
    "eos": ("</s>", "<|end_of_text|>", "<eos>", "<|endoftext|>"),
    "unk": ("<unk>", "[UNK]"),
    "pad": ("<pad>", "[PAD]", "<blank>", "<|padding|>"),
    "cls": ("[CLS]",),
    "sep": ("[SEP]",),
    "mask": ("[MASK]", "<mask>"),
}

# Spelled like a control token: never made from ordinary text, even where a file marks it as an ordinary added token
# (R1's <｜User｜>, for one), because a user who types it would otherwise speak in another role's name.
MARKER = re.compile(r"<[|｜][^<>]*[|｜]>\Z")


Spans = Sequence[tuple[int, int]]


def touches(span: tuple[int, int], foreign: Spans) -> bool:
    """Whether any character of `span` lies in one of the `foreign` spans, which are in order and do not overlap."""
    place = bisect.bisect_right(foreign, span[0], key=lambda one: one[1])
    return place < len(foreign) and foreign[place][0] < span[1]


@dataclass(frozen=True)
class Added:
    """A piece that is found in the text by its spelling, before the model of the tokenizer sees the text.

    A `control` token is found only where the text is trusted (a rendered template). `lstrip` and `rstrip` let it
    swallow the white space on that side; `single_word` wants no letter or digit beside it.
    """

    id: int
    text: str
    control: bool
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False


@dataclass(frozen=True)
class Wrapping:
    """The ids put before and after one text."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    def around(self, ids: list[int]) -> list[int]:
        """`ids` wrapped; an end that is already there (a rendered template that starts with BOS) is not put twice."""
        before = () if self.before and tuple(ids[: len(self.before)]) == self.before else self.before
        after = () if self.after and tuple(ids[-len(self.after) :]) == self.after else self.after
        return [*before, *ids, *after]


@dataclass(frozen=True)
class Special:
    """What a tokenizer knows of its control tokens: `roles` ("bos" -> id), all by spelling, those that end a turn."""

    roles: Mapping[str, int] = field(default_factory=dict)
    controls: Mapping[str, int] = field(default_factory=dict)
    ends: tuple[int, ...] = ()
    wrapping: Wrapping = Wrapping()


class Splitter:
    """Cuts text at the spellings of added tokens: at control tokens only where the caller trusts the text.

    The leftmost match wins, then the longest.
    """

    def __init__(self, added: Iterable[Added]) -> None:
        added = [token for token in added if token.text]
        self.by_text = {token.text: token for token in added}
        self.ordinary = _pattern(token for token in added if not token.control)
        self.every = _pattern(added)

    def split(self, text: str, parse: bool, foreign: Spans = ()) -> Iterator[str | int]:
        """Stretches of text and ids, in order; stretches are never empty. No control token touches `foreign`."""
        pattern = self.every if parse else self.ordinary
        start = 0
        for match in pattern.finditer(text) if pattern else ():
            token = self.by_text[match[match.lastindex or 0]]
            if token.control and touches(match.span(match.lastindex or 0), foreign):
                continue
            if match.start() > start:
                yield text[start : match.start()]
            yield token.id
            start = match.end()
        if start < len(text):
            yield text[start:]


def _pattern(added: Iterable[Added]) -> re.Pattern[str] | None:
    """One alternation, longest spelling first; the group that matched is the spelling itself."""
    parts = []
    for token in sorted(added, key=lambda token: (-len(token.text), token.text)):
        part = f"({re.escape(token.text)})"
        if token.single_word:
            part = rf"(?<!\w){part}(?!\w)"
        parts.append((r"\s*" if token.lstrip else "") + part + (r"\s*" if token.rstrip else ""))
    return re.compile("|".join(parts)) if parts else None


def usual_roles(spellings: Mapping[str, int]) -> dict[str, int]:
    """Roles guessed from usual spellings, for vocabularies that come without a configuration."""
    found = {}
    for role, names in USUAL_SPELLINGS.items():
        name = next((name for name in names if name in spellings), None)
        if name is not None:
            found[role] = spellings[name]
    return found
