"""Formats of several turns, one message after another."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from paddock.data.instruct.records import Conversation, Example, Message
from paddock.data.instruct.taking import Dropped, Format, Record, Taking, listed_records, some_text
from paddock.data.reading.options import Broken
from paddock.data.reading.records import kind, plain
from paddock.errors import nearest

SPEAKERS = {
    "human": "user",
    "user": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "system": "system",
    "function_call": "call",
    "observation": "tool",
    "tool": "tool",
}
NEXT = {
    "start": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}


def spoken(turns: Sequence[Record], name: str, who: str, what: str) -> list[Message]:
    """Messages of turns whose speaker is in the field `who`. Raises Broken naming the turn's field."""
    messages = []
    for place, turn in enumerate(turns):
        where = f"{name}[{place}]"
        speaker = turn.get(who)
        if not isinstance(speaker, str):
            raise Broken(f"{who!r} is {kind(speaker)}", f"field '{where}.{who}' is {kind(speaker)}, where text belongs")
        role = SPEAKERS.get(speaker.strip().lower())
        if role is None:
            guess = nearest(speaker, SPEAKERS)
            raise Broken(
                "unknown speaker",
                f"field '{where}.{who}' is {speaker!r}; expected {', '.join(SPEAKERS)}",
                f"did you mean {guess!r}?" if guess else None,
            )
        messages.append(_message(turn, role, where, who, what))
    return messages


def _message(turn: Record, role: str, where: str, who: str, what: str) -> Message:
    more = {str(key): plain(value) for key, value in turn.items() if key not in (who, what) and value is not None}
    learn = more.pop("loss", None) if isinstance(more.get("loss"), bool) else None
    said = turn.get(what)
    if role == "call":
        return Message(
            "assistant", "", learn, {"tool_calls": called(some_text(said, f"{where}.{what}"), where), **more}
        )
    if said is None and "tool_calls" in more:
        said = ""
    if isinstance(said, list):
        said = _parts(said, f"{where}.{what}")
    return Message(role, some_text(said, f"{where}.{what}"), learn, more)


def _parts(parts: list[Any], where: str) -> str:
    """Content in parts, of which text alone can be read."""
    for place, part in enumerate(parts):
        if not (isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)):
            raise Broken("content that is no text", f"field '{where}[{place}]' is no part of type text")
    return "\n".join(part["text"] for part in parts)


def called(spelt: str, where: str) -> list[dict[str, Any]]:
    """Calls of tools, written as one JSON object or a list of them, as chat templates take them."""
    try:
        value = json.loads(spelt)
    except (ValueError, RecursionError):
        raise Broken("a call that is not JSON", f"field '{where}' is a call that is not JSON") from None
    calls = value if isinstance(value, list) else [value]
    if not calls or not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        raise Broken("a call without a name", f"field '{where}' is a call without a name")
    return [
        {"type": "function", "function": {"name": call["name"], "arguments": plain(call.get("arguments", {}))}}
        for call in calls
    ]


def in_turn(messages: list[Message], taking: Taking) -> tuple[Message, ...]:
    """Messages from the first of a user (a system's may stand before) to the last of an assistant, in turns.

    What stands before and behind is left out and counted. Raises Dropped where nothing is left, and Broken where user
    and assistant do not take turns.
    """
    if not messages:
        raise Dropped("no messages")
    first = next((place for place, each in enumerate(messages) if each.role == "user"), None)
    if first is None:
        raise Dropped("nobody asks")
    system = [each for each in messages[:first] if each.role == "system"][:1]
    if first > len(system):
        taking.mended["a first turn that is not the user's"] += first - len(system)
    kept = system + messages[first:]
    last = max((place for place, each in enumerate(kept) if each.role == "assistant"), default=None)
    if last is None:
        raise Dropped("nobody answers")
    if behind := len(kept) - 1 - last:
        taking.mended["a last turn without an answer"] += behind
    kept = kept[: last + 1]
    if taking.options.alternate:
        alternating(kept)
    return tuple(_not_empty(kept))


def alternating(messages: Sequence[Message]) -> None:
    """Raises Broken for turns that nobody could take."""
    before = "start"
    for place, message in enumerate(messages, 1):
        if message.role not in NEXT[before]:
            raise Broken("roles do not alternate", f"turn {place} is of the {message.role}, behind {before}")
        before = message.role


def _not_empty(messages: Sequence[Message]) -> Sequence[Message]:
    for message in messages:
        if not message.content.strip() and message.role != "system" and not message.more.get("tool_calls"):
            raise Dropped("an empty turn")
    return [each for each in messages if each.content.strip() or each.role != "system"]


def tools_of(record: Record) -> tuple[Mapping[str, Any], ...]:
    """Schemas of tools, as a list or as JSON in a string."""
    tools = record.get("tools")
    if isinstance(tools, str):
        if not tools.strip():
            return ()
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError):
            raise Broken("'tools' is not JSON", "field 'tools' is text that is not JSON") from None
    if tools is None:
        return ()
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise Broken(f"'tools' is {kind(tools)}", f"field 'tools' is {kind(tools)}, where a list of schemas belongs")
    return tuple(tool if "function" in tool else {"type": "function", "function": tool} for tool in tools)


def _speakers(record: Record, name: str, who: str) -> set[str]:
    turns = record.get(name)
    if not isinstance(turns, list):
        return set()
    return {str(turn.get(who)) for turn in turns if isinstance(turn, Mapping) and who in turn}


def _sharegpt(record: Record, taking: Taking) -> Iterable[Example]:
    turns = spoken(listed_records(record, "conversations"), "conversations", "from", "value")
    system = record.get("system")
    if isinstance(system, str) and system.strip():
        turns.insert(0, Message("system", system))
    used = ("conversations", "tools", *(["system"] if isinstance(system, str) else []))
    yield Conversation(in_turn(turns, taking), tools_of(record), taking.origin(record, used))


def _messages(record: Record, taking: Taking) -> Iterable[Example]:
    turns = spoken(listed_records(record, "messages"), "messages", "role", "content")
    yield Conversation(in_turn(turns, taking), tools_of(record), taking.origin(record, ("messages", "tools")))


FORMATS = [
    Format(
        "sharegpt",
        "ShareGPT: conversations of from, value",
        lambda record: bool(_speakers(record, "conversations", "from")),
        _sharegpt,
    ),
    Format(
        "messages",
        "messages of role, content",
        lambda record: bool(_speakers(record, "messages", "role")),
        _messages,
    ),
]
