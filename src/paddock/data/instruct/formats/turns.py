"""Formats of several turns, one message after another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    "developer": "system",
    "function_call": "call",
    "observation": "tool",
    "tool": "tool",
    "function": "tool",
}
CALLING = {"function_call", "observation"}
Read = Callable[[Record, Taking], Iterable[Example]]

NEXT = {
    "start": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}


def turns_of(record: Record, name: str, allowed: Mapping[str, str] = SPEAKERS) -> list[Message]:
    """The messages in a field. Raises Broken naming the turn's field."""
    return spoken(listed_records(record, name), name, allowed)


def spoken(turns: Sequence[Record], name: str, allowed: Mapping[str, str] = SPEAKERS) -> list[Message]:
    """Messages of turns of role and content, or of from and value, or of from and content."""
    messages = []
    for place, turn in enumerate(turns):
        where = f"{name}[{place}]"
        who = "role" if "role" in turn else "from"
        what = "value" if "value" in turn else "content"
        speaker = turn.get(who)
        if not isinstance(speaker, str):
            raise Broken(f"{who!r} is {kind(speaker)}", f"field '{where}.{who}' is {kind(speaker)}, where text belongs")
        role = allowed.get(speaker.strip().lower())
        if role is None:
            guess = nearest(speaker[:60], allowed)
            raise Broken(
                "unknown speaker",
                f"field '{where}.{who}' is {speaker[:60]!r}; expected {', '.join(allowed)}",
                f"did you mean {guess!r}?" if guess else None,
            )
        messages.append(_message(turn, role, where, who, what))
    return messages


def _message(turn: Record, role: str, where: str, who: str, what: str) -> Message:
    more = {str(key): plain(value) for key, value in turn.items() if key not in (who, what) and value is not None}
    learn = _learned(more, where)
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


def _learned(more: dict[str, Any], where: str) -> bool | None:
    """Whether a message is learned, where it says so itself: our `loss`, or OpenAI's `weight`."""
    if more.get("weight") in (0, 1):
        return bool(more.pop("weight"))
    loss = more.pop("loss", None)
    if not isinstance(loss, bool | None):
        raise Broken(f"'loss' is {kind(loss)}", f"field '{where}.loss' is {kind(loss)}, where true or false belongs")
    return loss


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
    if any(not message.says and message.role in ("user", "assistant") for message in messages):
        raise Dropped("an empty turn")
    return [each for each in messages if each.says or each.role != "system"]


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


def speakers_of(record: Record, name: str, who: str = "") -> set[str]:
    """Who speaks in a field that is a list of turns, told by `who` (or by either field)."""
    turns = record.get(name)
    if not isinstance(turns, list):
        return set()
    return {
        str(turn[field]).strip().lower()
        for turn in turns
        if isinstance(turn, Mapping)
        for field in ((who,) if who else ("role", "from"))
        if field in turn
    }


def conversation(name: str, *, allowed: Mapping[str, str] = SPEAKERS) -> Read:
    """A reader of conversations in the field `name`."""

    def read(record: Record, taking: Taking) -> Iterable[Example]:
        turns = turns_of(record, name, allowed)
        system = record.get("system")
        used = {name, "tools", "conversation_id"}
        if isinstance(system, str):
            used.add("system")
            if system.strip() and not any(turn.role == "system" for turn in turns[:1]):
                turns.insert(0, Message("system", system))
        origin = taking.origin(record, used, record.get("conversation_id"))
        yield Conversation(in_turn(turns, taking), tools_of(record), origin)

    return read


def _prompt_and_completion(record: Record, taking: Taking) -> Iterable[Example]:
    turns = [*turns_of(record, "prompt"), *turns_of(record, "completion")]
    yield Conversation(
        in_turn(turns, taking), tools_of(record), taking.origin(record, ("prompt", "completion", "tools"))
    )


def _asked_only(record: Record, taking: Taking) -> Iterable[Example]:
    """Messages that wait for an answer: what models are asked while they learn from rewards."""
    turns = turns_of(record, "messages")
    if not turns or turns[-1].role != "user":
        raise Broken("answered already", "field 'messages' does not end with a user's turn")
    if taking.options.alternate:
        alternating(turns)
    yield Conversation(tuple(_not_empty(turns)), tools_of(record), taking.origin(record, ("messages", "tools")))


def _talks(record: Record, who: str = "from") -> set[str]:
    return speakers_of(record, "conversations", who)


def _answered(record: Record, who: str) -> bool:
    return "assistant" in {SPEAKERS.get(each) for each in speakers_of(record, "messages", who)}


FORMATS = [
    Format(
        "glaive",
        "conversations that call tools: human, gpt, function_call, observation, and tools",
        lambda record: (
            bool(_talks(record)) and ("tools" in record or bool(_talks(record) & {"function_call", "observation"}))
        ),
        conversation("conversations"),
    ),
    Format(
        "llava",
        "LLaVA: conversations about an image",
        lambda record: bool(_talks(record)) and isinstance(record.get("image"), str | list),
        conversation("conversations"),
    ),
    Format(
        "phoenix",
        "Phoenix and Chimera: type, and conversations of human, gpt",
        lambda record: bool(_talks(record)) and "type" in record and _talks(record) <= {"human", "gpt"},
        conversation("conversations"),
    ),
    Format(
        "belle-conversations",
        "BELLE: conversations of human, assistant",
        lambda record: bool(_talks(record)) and {"assistant"} <= _talks(record) <= {"human", "assistant", "system"},
        conversation("conversations", allowed={"human": "user", "assistant": "assistant", "system": "system"}),
    ),
    Format(
        "sharegpt",
        "ShareGPT: conversations of from (human, gpt ...), value",
        lambda record: bool(speakers_of(record, "conversations")),
        conversation("conversations"),
    ),
    Format(
        "messages",
        "messages of role, content",
        lambda record: _answered(record, "role"),
        conversation("messages"),
    ),
    Format(
        "colossal",
        "ColossalChat: messages of from, content",
        lambda record: _answered(record, "from"),
        conversation("messages"),
    ),
    Format(
        "asked-messages",
        "messages that end with a question",
        lambda record: bool(speakers_of(record, "messages")),
        _asked_only,
    ),
    Format(
        "prompt-completion-messages",
        "messages, in two fields: prompt, completion",
        lambda record: isinstance(record.get("prompt"), list) and isinstance(record.get("completion"), list),
        _prompt_and_completion,
    ),
]
