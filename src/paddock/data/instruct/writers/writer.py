"""What writers of all formats share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paddock.data.instruct.records import Conversation, Message, Origin, Pair
from paddock.data.reading.records import plain

Row = dict[str, Any]


class Unwritable(Exception):
    """What a format has no place for. reason: short, to be counted under."""


@dataclass(frozen=True)
class Writer:
    """Examples as records of one format, which its reader takes back.

    kinds: of examples that it takes; others are made such first, where nothing is lost by it. write: the records of an
    example, and in the counter what could not be kept of it. Raises Unwritable. unique: ids tell examples apart.
    """

    name: str
    kinds: tuple[type, ...]
    write: Callable[[Any, Counter[str]], list[Row]]
    unique: bool = False


def about(origin: Origin, taken: Iterable[str], lifted: Iterable[str] = ()) -> Row:
    """Where an example is from, as fields that readers know. `lifted`: meta that the format has fields for."""
    taken = set(taken)
    row: Row = {}
    if origin.id is not None:
        row["id"] = origin.id
    if origin.source is not None:
        row["dataset" if "source" in taken else "source"] = origin.source
    row |= {"lang": origin.language, "license": origin.licence, "group": origin.group}
    meta = dict(plain(origin.meta))
    row |= {name: meta.pop(name) for name in lifted if name in meta}
    row["meta"] = meta
    return {name: value for name, value in row.items() if value not in (None, {}) and name not in taken}


def one_turn(example: Conversation | Pair) -> tuple[str, str, str]:
    """(instruction, input, answer) of an example of one turn each. Raises Unwritable."""
    if isinstance(example, Pair):
        return example.source, "", example.target
    if len(example.messages) != 2:
        raise Unwritable("more than one turn" if len(example.messages) > 2 else "no answer")
    asked, answer = example.messages
    plain_roles(example, ("user", "assistant"))
    if (asked.role, answer.role) != ("user", "assistant"):
        raise Unwritable("no answer")
    return asked.content, str(asked.more.get("input") or ""), answer.content


def plain_roles(example: Conversation, roles: Sequence[str], inputs: bool = True) -> None:
    """Raises Unwritable for tools, calls, masks, and messages of other roles. inputs: whether one has a place."""
    if example.tools:
        raise Unwritable("tools")
    for message in example.messages:
        if message.role not in roles:
            raise Unwritable(f"a {message.role} message")
        if message.learn is not None:
            raise Unwritable("a message that says itself whether it is learned")
        if more := sorted(set(message.more) - ({"input"} if inputs else set())):
            raise Unwritable(f"a message's {more[0]}")


def joined(message: Message) -> str:
    """An instruction with its input on the next line, as the chat task joins them too."""
    given = str(message.more.get("input") or "")
    return f"{message.content}\n{given}" if given else message.content


def without_input(messages: Sequence[Message], lost: Counter[str]) -> list[Message]:
    """Messages whose input, a field of its own in Alpaca, is part of what they say; counted."""
    found = []
    for message in messages:
        if message.more.get("input"):
            lost["input joined to its instruction"] += 1
            more: Mapping[str, Any] = {key: value for key, value in message.more.items() if key != "input"}
            message = Message(message.role, joined(message), message.learn, more)
        found.append(message)
    return found


def answered(example: Conversation) -> None:
    if not example.messages or example.messages[-1].role != "assistant":
        raise Unwritable("no answer")
