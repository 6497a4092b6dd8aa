"""What examples are like: who speaks in them, how often and how long, in which languages, under which licences."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from paddock.data.instruct.records import Conversation, Example, Feedback, Labelled, Message, kind_of, parts_of

NAMES = 1000  # languages, licences, sources and classes that are counted by name; the rest together
REST = "(others)"
COUNTED = ("languages", "licences", "sources", "labels")


@dataclass
class Lengths:
    """Of texts, in characters."""

    count: int = 0
    total: int = 0
    longest: int = 0

    def add(self, size: int) -> None:
        self.count, self.total, self.longest = self.count + 1, self.total + size, max(self.longest, size)

    @property
    def plain(self) -> dict[str, Any]:
        return {"count": self.count, "mean": round(self.total / max(1, self.count), 1), "longest": self.longest}


@dataclass
class Summary:
    """Counted one by one. texts: lengths by role, or by what a text is. turns: messages of conversations by number."""

    kinds: Counter[str] = field(default_factory=Counter)
    texts: dict[str, Lengths] = field(default_factory=dict)
    turns: Lengths = field(default_factory=Lengths)
    languages: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    tools: int = 0
    ids: int = 0

    def add(self, example: Example) -> None:
        self.kinds[kind_of(example)] += 1
        messages = 0
        for name, said in texts_of(example):
            self.texts.setdefault(name, Lengths()).add(len(said))
            messages += name in ("system", "user", "assistant", "tool", "call")
        if messages:
            self.turns.add(messages)
        origin = example.origin
        self.ids += origin.id is not None
        self.tools += isinstance(example, Conversation) and bool(example.tools)
        _count(self.languages, origin.language)
        _count(self.licences, origin.licence)
        _count(self.sources, origin.source)
        if isinstance(example, Labelled):
            told = example.label if isinstance(example.label, tuple) else (example.label,)
            for label in told or ("(none)",):
                _count(self.labels, label if isinstance(label, str) else "(a number)")
        elif isinstance(example, Feedback):
            _count(self.labels, "good" if example.good else "bad")

    @property
    def plain(self) -> dict[str, Any]:
        """In JSON's types."""
        counted = {
            name: dict(getattr(self, name).most_common()) for name in ("languages", "licences", "sources", "labels")
        }
        return {
            "kinds": dict(self.kinds),
            "texts": {name: lengths.plain for name, lengths in self.texts.items()},
            "turns": self.turns.plain,
            **counted,
            "with_tools": self.tools,
            "with_ids": self.ids,
        }


def texts_of(example: Example) -> Iterator[tuple[str, str]]:
    """(role or what it is, text) of everything that an example says; a call of a tool is its JSON."""
    for name, part in parts_of(example):
        if isinstance(part, str):
            yield name, part
        elif name == "messages":
            yield from _said(part)
        else:
            yield name, "\n".join(message.content for message in part)


def _said(messages: tuple[Message, ...]) -> Iterator[tuple[str, str]]:
    for message in messages:
        if message.content or not message.says:
            yield message.role, message.content
        for name, key in (("input", "input"), ("call", "tool_calls"), ("call", "commands")):
            if said := message.more.get(key):
                yield name, said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)


def _count(counter: Counter[str], name: str | None) -> None:
    if name is not None:
        counter[name if name in counter or len(counter) < NAMES else REST] += 1
