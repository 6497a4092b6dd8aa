"""Writers of conversations, one message after another."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from paddock.data.instruct.records import Conversation, Message
from paddock.data.instruct.writers.writer import Row, Unwritable, Writer, about, answered, plain_roles, without_input
from paddock.data.reading.records import plain

SHAREGPT = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}


def message_row(
    message: Message, who: str = "role", what: str = "content", names: Mapping[str, str] | None = None
) -> Row:
    """One message with all that it says of itself."""
    row = {who: (names or {}).get(message.role, message.role), what: message.content, **plain(dict(message.more))}
    return row if message.learn is None else {**row, "loss": message.learn}


def _messages(example: Conversation, lost: Counter[str]) -> list[Row]:
    answered(example)
    return [_conversation("messages", [message_row(each) for each in example.messages], example)]


def _conversation(name: str, turns: Sequence[Row], example: Conversation, lifted: Sequence[str] = ()) -> Row:
    tools = {"tools": plain(list(example.tools))} if example.tools else {}
    return {**about(example.origin, (name, "tools"), lifted), name: list(turns), **tools}


def _asked(example: Conversation, lost: Counter[str]) -> list[Row]:
    if example.messages[-1].role != "user":
        raise Unwritable("an answer already")
    return [_conversation("messages", [message_row(each) for each in example.messages], example)]


def _colossal(example: Conversation, lost: Counter[str]) -> list[Row]:
    answered(example)
    plain_roles(example, ("system", "user", "assistant"))
    turns = [message_row(each, "from") for each in without_input(example.messages, lost)]
    return [_conversation("messages", turns, example)]


def _sharegpt(example: Conversation, lost: Counter[str]) -> list[Row]:
    """With calls of tools as glaive has them: turns of function_call, whose value is JSON, and observation."""
    answered(example)
    turns = [_spoken(each) for each in without_input(example.messages, lost)]
    row = _conversation("conversations", turns, example)
    if "tools" in row:
        row["tools"] = json.dumps([_bare(tool) for tool in row["tools"]], ensure_ascii=False)
    return [row]


def _glaive(example: Conversation, lost: Counter[str]) -> list[Row]:
    return [{"tools": "[]", **row} for row in _sharegpt(example, lost)]


def _bare(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    return tool["function"] if set(tool) == {"type", "function"} else tool


def _spoken(message: Message) -> Row:
    calls = message.more.get("tool_calls")
    if not calls:
        return message_row(message, "from", "value", SHAREGPT)
    if message.content.strip() or set(message.more) != {"tool_calls"} or message.learn is not None:
        raise Unwritable("a call of a tool beside text")
    functions = [call["function"] for call in plain(calls)]
    value = functions[0] if len(functions) == 1 else functions
    return {"from": "function_call", "value": json.dumps(value, ensure_ascii=False)}


def _speakers(names: Mapping[str, str], lifted: Sequence[str] = (), default: Mapping[str, str] | None = None) -> Any:
    """A writer of conversations of from and value, with these speakers and no others."""

    def write(example: Conversation, lost: Counter[str]) -> list[Row]:
        answered(example)
        plain_roles(example, tuple(names))
        turns = [message_row(each, "from", "value", names) for each in without_input(example.messages, lost)]
        row = _conversation("conversations", turns, example, lifted)
        return [{**(default or {}), **row}]

    return write


def _llava(example: Conversation, lost: Counter[str]) -> list[Row]:
    if not isinstance(example.origin.meta.get("image"), str | list):
        raise Unwritable("no image")
    answered(example)
    plain_roles(example, ("user", "assistant"))
    turns = [message_row(each, "from", "value", SHAREGPT) for each in without_input(example.messages, lost)]
    return [_conversation("conversations", turns, example, ("image",))]


def _prompt_and_completion(example: Conversation, lost: Counter[str]) -> list[Row]:
    answered(example)
    rows = [message_row(each) for each in example.messages]
    tools = {"tools": plain(list(example.tools))} if example.tools else {}
    return [{**about(example.origin, ("prompt", "completion")), "prompt": rows[:-1], "completion": rows[-1:], **tools}]


WRITERS = [
    Writer("messages", (Conversation,), _messages),
    Writer("asked-messages", (Conversation,), _asked),
    Writer("colossal", (Conversation,), _colossal),
    Writer("sharegpt", (Conversation,), _sharegpt),
    Writer("glaive", (Conversation,), _glaive),
    Writer("llava", (Conversation,), _llava),
    Writer(
        "phoenix",
        (Conversation,),
        _speakers({"user": "human", "assistant": "gpt"}, ("type",), {"type": "conversation"}),
    ),
    Writer(
        "belle-conversations",
        (Conversation,),
        _speakers({"user": "human", "assistant": "assistant", "system": "system"}),
    ),
    Writer("prompt-completion-messages", (Conversation,), _prompt_and_completion),
]
