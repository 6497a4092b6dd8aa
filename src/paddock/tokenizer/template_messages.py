"""Messages, tools and options as plain data: what a template may see, and nothing that is more than data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from paddock.errors import TemplateError, did_you_mean

MAX_MESSAGES = 2048
MAX_TOOLS = 128
MAX_DEPTH = 64
MAX_DIGITS = 300
ROLE = re.compile(r"[A-Za-z][A-Za-z0-9_ .-]{0,31}\Z")  # a role is written into the prompt beside the control tokens
UNREAD = frozenset({"name", "id", "tool_call_id", "refusal", "annotations", "audio", "function_call"})
"""Keys that OpenAI-shaped clients send along and that most templates have no place for."""

Messages = list[dict[str, Any]]


def plain_messages(messages: object, roles: Iterable[str] | None, takes_parts: bool) -> Messages:
    """A copy of `messages` as plain data; TemplateError says which message is wrong and why.

    Keys whose value is None are left out, as upstream does. Text parts (`[{"type": "text", "text": ...}]`) are joined
    with newlines unless the template goes through the parts itself (`takes_parts`).
    """
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence):
        raise TemplateError(f"messages are a {type(messages).__name__}", expected="a list of {role, content}")
    if not messages:
        raise TemplateError("there are no messages to render", expected="at least one {role, content}")
    if len(messages) > MAX_MESSAGES:
        raise TemplateError(f"there are {len(messages)} messages", expected=f"at most {MAX_MESSAGES}")
    known = None if roles is None else sorted(roles)
    return [_message(message, place, known, takes_parts) for place, message in enumerate(messages, 1)]


def _message(message: object, place: int, roles: list[str] | None, takes_parts: bool) -> dict[str, Any]:
    where = f"message {place}"
    if not isinstance(message, Mapping):
        raise TemplateError(f"{where} is a {type(message).__name__}", expected="a dictionary with role and content")
    plain = {key: value for key, value in plain_data(message, where).items() if value is not None}
    role = plain.get("role")
    if not isinstance(role, str) or not ROLE.match(role):
        raise TemplateError(f"{where} has the role {role!r}", expected="a short word such as user or assistant")
    if roles is not None and role not in roles:
        fix = did_you_mean(role, roles)
        raise TemplateError(f"{where} has the role {role!r}", expected=f"one of {', '.join(roles)}", fix=fix)
    if "content" not in plain and not (role == "assistant" and len(plain) > 1):  # a tool call may stand alone
        raise TemplateError(f"{where} ({role}) has no content", expected="a string")
    if "content" in plain:
        plain["content"] = _content(plain["content"], f"{where} ({role})", takes_parts)
    return plain


def _content(content: object, where: str, takes_parts: bool) -> Any:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise TemplateError(f"{where} has content of type {type(content).__name__}", expected="a string")
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type", "nothing") if isinstance(part, dict) else type(part).__name__
            raise TemplateError(f"{where} has a part of type {kind!r}", expected='{"type": "text", "text": ...}')
    return content if takes_parts else "\n".join(part["text"] for part in content)


def plain_tools(tools: object) -> list[dict[str, Any]] | None:
    """JSON schemas of tools as plain data, or None."""
    if tools is None or tools == []:
        return None
    if not isinstance(tools, list | tuple) or not all(isinstance(tool, Mapping) for tool in tools):
        raise TemplateError(f"tools are a {type(tools).__name__}", expected="a list of JSON schemas (dictionaries)")
    if len(tools) > MAX_TOOLS:
        raise TemplateError(f"there are {len(tools)} tools", expected=f"at most {MAX_TOOLS}")
    return [plain_data(tool, f"tool {place}") for place, tool in enumerate(tools, 1)]


def plain_data(value: Any, where: str, depth: int = 0) -> Any:
    """`value` rebuilt from str, int, float, bool, None, list and dict only: subclasses have methods of their own."""
    if depth > MAX_DEPTH:
        raise TemplateError(f"{where} is nested too deeply", expected=f"at most {MAX_DEPTH} levels")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, int):
        if value.bit_length() > MAX_DIGITS * 4:
            raise TemplateError(f"{where} holds an integer of {value.bit_length()} bits")
        return int.__int__(value)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TemplateError(f"{where} has a key that is not a string")
        return {_text(key, where): plain_data(item, where, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(item, where, depth + 1) for item in value]
    raise TemplateError(f"{where} holds a {type(value).__name__}", expected="text, numbers, lists and dictionaries")


def _text(value: str, where: str) -> str:
    text = str.__str__(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TemplateError(
            f"{where} holds a lone surrogate (U+{ord(text[error.start]):04X}), which is not text"
        ) from None
    return text


def check_read(messages: Messages, words: frozenset[str], template: str) -> None:
    """Refuses keys that the template never mentions: they would be left out of the prompt without a word."""
    for place, message in enumerate(messages, 1):
        for key, value in message.items():
            if key not in words and key not in ("role", "content") and key not in UNREAD and value not in ("", [], {}):
                raise TemplateError(
                    f"message {place} has {key!r}, which the chat template {template!r} does not read",
                    fix=f"leave {key!r} out, or use a template that reads it",
                )


def count_characters(value: Any) -> int:
    """Characters of all text in plain data, keys included."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(key) + count_characters(item) for key, item in value.items())
    if isinstance(value, list):
        return sum(map(count_characters, value))
    return 8
