"""A conversation as ids: the template's control tokens are tokens, and what people wrote never is.

A rendered prompt is one string in which `</s>` may be the template's or a user's. To tell them apart, the messages are
rendered once as they are and once with marks around what they contain; a second text that equals the first but for its
marks shows which characters came from where. Control tokens are then looked for outside the messages only. The text
between two of them is encoded in one go, so that merges across the border of a message happen as in training.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from paddock.errors import TemplateError
from paddock.tokenizer.template import Template
from paddock.tokenizer.tokenizer import Tokenizer

NONCHARACTERS = [chr(code) for code in range(0xFDD0, 0xFDF0)]  # never part of text, by the Unicode standard
ANCHORS = ("\n", ".", "a", "0")
Span = tuple[int, int]
Message = dict[str, Any]


@dataclass(frozen=True)
class Prompt:
    """A rendered conversation. `foreign`: spans of `text` that came from messages and tools, where they are known."""

    text: str
    foreign: tuple[Span, ...]


@dataclass(frozen=True)
class Stops:
    """What ends an answer: ids of tokens, and strings to look for in the text."""

    ids: tuple[int, ...]
    strings: tuple[str, ...]


def encode_chat(
    tokenizer: Tokenizer,
    template: Template,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = True,
    tools: Sequence[Message] | None = None,
    now: datetime | None = None,
    **options: Any,
) -> list[int]:
    """Ids of the prompt for `messages`, with BOS once if the model wants it, and open at its end.

    Spellings of control tokens inside messages and tools are encoded as characters. TemplateError where the template
    changes them in a way that cannot be followed, or leaves a message out.
    """
    settings = {"add_generation_prompt": add_generation_prompt, "tools": tools, "now": now, **options}
    prompt = render_marked(tokenizer, template, messages, **settings)
    return encode_prompt(tokenizer, template, prompt)


def stops(tokenizer: Tokenizer, template: Template) -> Stops:
    """The template's stops for this vocabulary, and the ids that the tokenizer itself ends a text with."""
    known = control_texts(tokenizer)
    ids = [known[stop] for stop in template.stop if stop in known]
    strings = tuple(stop for stop in template.stop if stop not in known)
    return Stops(tuple(dict.fromkeys([*ids, *tokenizer.eos_ids])), strings)


def control_texts(tokenizer: Tokenizer) -> dict[str, int]:
    """Control tokens by their spelling."""
    return {tokenizer.piece(id): id for id in tokenizer.specials.values()}


def role_texts(tokenizer: Tokenizer) -> dict[str, str]:
    """`bos_token` and `eos_token` as templates expect them."""
    roles = {f"{role}_token": tokenizer.specials.get(role) for role in ("bos", "eos")}
    return {name: "" if id is None else tokenizer.piece(id) for name, id in roles.items()}


# --- which characters came from messages -------------------------------------------------------------------------


def render_marked(tokenizer: Tokenizer, template: Template, messages: Sequence[Message], **settings: Any) -> Prompt:
    """The prompt's text, with the spans that came from messages. Settings: as for `Template.render`."""
    settings = role_texts(tokenizer) | settings
    text = template.render(messages, **settings)
    unused = [mark for mark in NONCHARACTERS if mark not in text]
    if len(unused) < 2:
        raise TemplateError("the messages use every Unicode noncharacter, which leaves none to mark them with")
    controls = _alternatives(control_texts(tokenizer))
    for whole in (True, False):
        marker = _Marker(unused[0], unused[1], controls, whole)
        spans = _marked_spans(template, text, messages, marker, settings)
        if spans is not None:
            if whole:
                _refuse_omission(template, messages, {text[start:stop] for start, stop in spans})
            return Prompt(text, tuple(spans))
    spelt = next((match for match in map(controls.search, _texts([*messages, settings.get("tools")])) if match), None)
    if spelt:
        raise TemplateError(
            f"a message spells the control token {spelt.group()!r}, and chat template {template.name!r} rewrites"
            " messages in a way that hides whose it is",
            fix="take the token out of the message",
        )
    return Prompt(text, ())


@dataclass(frozen=True)
class _Marker:
    """Puts `begin` and `end` around whole contents (`whole`), and around each control token spelt anywhere else.

    Blanks at either end of a content stay outside, as many templates trim them.
    """

    begin: str
    end: str
    controls: re.Pattern[str]
    whole: bool

    def mark(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {self._spelt(name): self.mark(item, name) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.mark(item, key) for item in value]
        if not isinstance(value, str) or key == "role":
            return value
        core = value.strip()
        if self.whole and key in ("content", "text", "reasoning_content") and core:
            return value.replace(core, self.begin + core + self.end, 1)
        return self._spelt(value)

    def _spelt(self, text: str) -> str:
        return self.controls.sub(lambda match: self.begin + match.group() + self.end, text)

    def remove(self, text: str) -> tuple[str, list[Span]] | None:
        """The text without marks, and the spans that they enclosed; None if the marks are not in pairs."""
        plain: list[str] = []
        spans: list[Span] = []
        size, opened = 0, -1
        for part in re.split(f"([{self.begin}{self.end}])", text):
            if part == self.begin:
                if opened >= 0:
                    return None
                opened = size
            elif part == self.end:
                if opened < 0:
                    return None
                spans.append((opened, size))
                opened = -1
            else:
                plain.append(part)
                size += len(part)
        return None if opened >= 0 else ("".join(plain), spans)


def _marked_spans(
    template: Template, text: str, messages: Sequence[Message], marker: _Marker, settings: dict[str, Any]
) -> list[Span] | None:
    """Spans of `text` inside marks, or None where marks change what the template does, or end up elsewhere."""
    tools = settings.get("tools")
    try:
        rendered = template.render(
            marker.mark(list(messages)), **{**settings, "tools": None if tools is None else marker.mark(tools)}
        )
    except TemplateError:
        return None
    found = marker.remove(rendered)
    if found is None or found[0] != text:
        return None
    sources = list(_texts([*messages, tools]))
    whole, joined = {source.strip() for source in sources}, "\0".join(sources)
    inside = (text[start:stop] for start, stop in found[1])
    return found[1] if all(part in whole or part in joined for part in inside) else None


def _refuse_omission(template: Template, messages: Sequence[Message], written: set[str]) -> None:
    """A system, user or tool message that is nowhere in the prompt would be lost without a word."""
    for place, message in enumerate(messages, 1):
        content = message.get("content")
        lost = isinstance(content, str) and content.strip() and content.strip() not in written
        if lost and message.get("role") != "assistant":
            raise TemplateError(
                f"chat template {template.name!r} leaves out message {place} ({message.get('role')})",
                fix="put its text into a user message, or use a template that takes this role here",
            )


def _texts(value: Any) -> Iterator[str]:
    """Every string in plain data, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _alternatives(texts: dict[str, int]) -> re.Pattern[str]:
    longest_first = sorted((text for text in texts if text), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


# --- ids ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stretch:
    """Text between two control tokens. `control`: the token before it, None at the start of the prompt.

    `spelt`: it spells a control token that is none. `own`: its first character is the template's.
    """

    control: str | None
    text: str
    spelt: bool
    own: bool


Memo = dict[tuple[Stretch, str | None], list[int]]  # ids of stretches, by what follows them


def encode_prompt(tokenizer: Tokenizer, template: Template, prompt: Prompt, memo: Memo | None = None) -> list[int]:
    """Ids of a rendered prompt: control tokens outside its foreign spans are tokens, everything else is text.

    memo: for who encodes prompts that begin alike; what it holds already is not encoded again.
    """
    before = list(tokenizer.before)
    if not template.control:
        return before + tokenizer.encode(prompt.text, "plain", add_special=False)
    ids = [id for part in encode_stretches(tokenizer, stretches(tokenizer, template, prompt), memo) for id in part]
    return ids if ids[: len(before)] == before else before + ids


def stretches(tokenizer: Tokenizer, template: Template, prompt: Prompt) -> list[Stretch]:
    """The prompt cut at the control tokens that the template wrote."""
    controls = _alternatives(control_texts(tokenizer))
    found = [match.span() for match in _outside(prompt, controls)]
    foreign = [False] * (len(prompt.text) + 1)
    for start, stop in prompt.foreign:
        foreign[start:stop] = [True] * (stop - start)
    edges = [(0, 0), *found]
    cut = []
    for (start, stop), (end, _) in zip(edges, [*found, (len(prompt.text), 0)], strict=True):
        text = prompt.text[stop:end]
        control = prompt.text[start:stop] or None
        cut.append(Stretch(control, text, controls.search(text) is not None, not foreign[stop]))
    return [_one_blank(tokenizer, stretch) for stretch in cut] if template.own_blank else cut


def encode_stretches(tokenizer: Tokenizer, cut: Sequence[Stretch], memo: Memo | None = None) -> Iterator[list[int]]:
    """Ids of each stretch, its control token first. The token that follows decides what blanks before it become."""
    memo = {} if memo is None else memo
    for stretch, after in zip(cut, [*cut[1:], None], strict=True):
        key = stretch, after.control if after else None
        if key not in memo:
            memo[key] = _encode_stretch(tokenizer, *key)
        yield memo[key]


def _encode_stretch(tokenizer: Tokenizer, stretch: Stretch, following: str | None) -> list[int]:
    if stretch.spelt:
        control = tokenizer.encode(stretch.control or "", "parse", add_special=False)
        return [*control, *_encode_spelt(tokenizer, stretch, following)]
    text = (stretch.control or "") + stretch.text + (following or "")
    ids = tokenizer.encode(text, "parse", add_special=False)
    return ids[:-1] if following else ids


def _outside(prompt: Prompt, controls: re.Pattern[str]) -> Iterator[re.Match[str]]:
    """Control tokens that lie wholly outside the foreign spans."""
    start = 0
    for begin, end in [*sorted(prompt.foreign), (len(prompt.text), len(prompt.text))]:
        yield from controls.finditer(prompt.text, start, begin)
        start = max(start, end)


def _one_blank(tokenizer: Tokenizer, stretch: Stretch) -> Stretch:
    """The stretch with exactly one blank between its control token and its text, the tokenizer's or the template's.

    Formats of SentencePiece models were trained with each turn encoded as a text of its own, which begins with the
    library's blank. Tokenizers differ in whether they put one after a control token (transformers' "legacy"); a
    vocabulary that puts none before a text either is left alone.
    """
    if not stretch.own or not stretch.text or not _starts_with_blank(tokenizer, tokenizer.encode("a", "plain", False)):
        return stretch
    after = tokenizer.encode((stretch.control or "") + "a", "parse", add_special=False)
    blank = "" if _starts_with_blank(tokenizer, after[1 if stretch.control else 0 :]) else " "
    return Stretch(stretch.control, blank + stretch.text.removeprefix(" "), stretch.spelt, stretch.own)


def _starts_with_blank(tokenizer: Tokenizer, ids: list[int]) -> bool:
    return bool(ids) and tokenizer.bytes_of(ids[0]).startswith(b" ")


def _encode_spelt(tokenizer: Tokenizer, stretch: Stretch, following: str | None) -> list[int]:
    """Ids of a stretch that must not be parsed, as parsing it would give them if it spelt no control token.

    What parsing does to the text beside a control token (swallow blanks, put one) is asked of the tokenizer itself.
    """

    def parsed(text: str) -> list[int]:
        return tokenizer.encode(text, "parse", add_special=False)

    def plain(text: str) -> list[int]:
        return tokenizer.encode(text, "plain", add_special=False)

    text, control = stretch.text, stretch.control
    if following and parsed("a " + following) == parsed("a" + following):
        text = text.rstrip()
    if control is None:
        return plain(text)
    if parsed(control + " a") == parsed(control + "a"):
        text = text.lstrip()
    if parsed(control + "a")[1:] == plain("a"):
        return plain(text)
    return encode_inside(plain, text)


def encode_inside(plain: Callable[[str], list[int]], text: str) -> list[int]:
    """Ids of `text` as in the middle of a text: behind something that does not merge with it, whose ids are dropped."""
    for anchor in ANCHORS:
        alone, together = plain(anchor), plain(anchor + text)
        if together[: len(alone)] == alone:
            return together[len(alone) :]
    raise TemplateError("a message spells a control token at a place where this tokenizer cannot keep it as text")
