"""Examples: what readers of every format give, and what tasks of fine-tuning and alignment take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Message:
    """One turn. role: one of ROLES.

    learn: whether a model is to learn to write it; None where nobody said: what assistants say is, and nothing else.
    more: whatever else a template may read of it (Alpaca's `input`, `tool_calls`, `name`).
    """

    role: str
    content: str
    learn: bool | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def learned(self) -> bool:
        return self.role == "assistant" if self.learn is None else self.learn

    @property
    def says(self) -> bool:
        """Whether there is more in it than blanks: text, or a call of a tool."""
        return bool(self.content.strip() or self.more.get("tool_calls") or self.more.get("commands"))

    def plain(self) -> dict[str, Any]:
        """As chat templates take it."""
        return {"role": self.role, "content": self.content, **self.more}


@dataclass(frozen=True)
class Origin:
    """Where an example is from. place: file and line, for messages. source: the set it belongs to. meta: the fields of
    its record that have no place of their own. group: examples of one group say much the same (threads of one tree),
    and stay together where some are kept back."""

    place: str = ""
    id: str | None = None
    source: str | None = None
    language: str | None = None
    licence: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    group: str | None = None


@dataclass(frozen=True)
class Conversation:
    """What was said in turn. tools: JSON schemas of what could be called."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    origin: Origin = field(default_factory=Origin, compare=False)


@dataclass(frozen=True)
class Preference:
    """Two ways to go on from `prompt`, the better and the worse."""

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    origin: Origin = field(default_factory=Origin, compare=False)


@dataclass(frozen=True)
class Ranked:
    """Answers to `prompt`, best first."""

    prompt: tuple[Message, ...]
    responses: tuple[str, ...]
    origin: Origin = field(default_factory=Origin, compare=False)


@dataclass(frozen=True)
class Feedback:
    """A conversation whose last answer somebody found good, or not."""

    messages: tuple[Message, ...]
    good: bool
    origin: Origin = field(default_factory=Origin, compare=False)


@dataclass(frozen=True)
class Pair:
    """A text and what is to be made of it, without any template: a translation, a summary, a completion."""

    source: str
    target: str
    origin: Origin = field(default_factory=Origin, compare=False)


@dataclass(frozen=True)
class Labelled:
    """One text, or two that belong together, and the class (or number) they have; several classes, or none of them, are
    a tuple."""

    texts: tuple[str, ...]
    label: str | float | tuple[str, ...]
    origin: Origin = field(default_factory=Origin, compare=False)


@dataclass(frozen=True)
class Text:
    """A text to be learned as it is."""

    text: str
    origin: Origin = field(default_factory=Origin, compare=False)


Example = Conversation | Preference | Ranked | Feedback | Pair | Labelled | Text


def kind_of(example: Example) -> str:
    """What an example is, in a word."""
    return type(example).__name__.lower()


def parts_of(example: Example) -> Iterator[tuple[str, str | tuple[Message, ...]]]:
    """(what it is, messages or a text) of everything that an example holds, in order."""
    match example:
        case Conversation() | Feedback():
            yield "messages", example.messages
        case Preference():
            yield "messages", example.prompt
            yield "chosen", example.chosen
            yield "rejected", example.rejected
        case Ranked():
            yield "messages", example.prompt
            yield from (("response", response) for response in example.responses)
        case Pair():
            yield "source", example.source
            yield "target", example.target
        case Labelled():
            yield from (("text", said) for said in example.texts)
        case Text():
            yield "text", example.text
