"""A conversation with a model: its messages, its settings, and the next answer. Knows nothing of terminals, nor of
where the model runs: in this process (`loaded.py`) or at a server (`remote.py`)."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from paddock.checkpoint.writing import write_text
from paddock.cli.messages import read_messages
from paddock.cli.telling import Done
from paddock.errors import ContextLengthError, DataError, UsageError

ROLES = ("system", "user", "assistant")
FULL = "/reset begins afresh, /undo takes the last turn back"
Message = dict[str, str]


@dataclass(frozen=True)
class Said:
    """A piece of an answer. `aside`: a thought on the way there, which is shown but not kept."""

    text: str
    aside: str = ""


class Answer(Protocol):
    """An answer on its way. Closing it breaks it off."""

    def __iter__(self) -> Iterator[Said]: ...

    def completion(self) -> Done | None:
        """Its figures, once it has been iterated; None where it was left before its end."""
        ...

    def close(self) -> None: ...


class Partner(Protocol):
    """Who answers. `name`: as a saved conversation tells it. `plain`: without turns; all that was said is one text to
    be continued. `context`: tokens that a conversation may have."""

    name: str
    plain: bool
    context: int | None

    @property
    def greeting(self) -> str:
        """What it is, in a line."""
        ...

    def answer(self, messages: list[Message], max_tokens: int | None, options: Mapping[str, Any]) -> Answer:
        """The answer to the last message. Raises what `LanguageModel.chat` does."""
        ...

    def count(self, messages: list[Message]) -> int:
        """How many tokens these take."""
        ...

    def settings(self, chosen: Mapping[str, Any]) -> Mapping[str, tuple[Any, str]]:
        """Every setting's value and origin where these were chosen. Raises UsageError for one that cannot be."""
        ...


@dataclass
class Conversation:
    """Messages with a partner."""

    partner: Partner
    settings: dict[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    messages: list[Message] = field(default_factory=list)
    last: Done | None = None

    @property
    def system(self) -> str | None:
        return self.messages[0]["content"] if self.messages and self.messages[0]["role"] == "system" else None

    def set_system(self, text: str) -> None:
        """Replaces the system message; an empty text removes it."""
        if text and self.partner.plain:
            raise UsageError("without a chat template there is no system message", fix="write it as ordinary text")
        rest = self.messages[1:] if self.system is not None else self.messages
        self.messages = [*([{"role": "system", "content": text}] if text else []), *rest]

    def answer(self, text: str) -> Generator[Said, None, None]:
        """Says `text` and yields the answer as it comes; what came until then stays where the iteration is cut short.

        Where the conversation does not fit the model, the template refuses it, or the answer ends (by an error or by
        Ctrl-C) before its first piece, nothing is kept.
        """
        self.last = None
        self.messages.append({"role": "user", "content": text})
        try:
            running = self._start()
        except ContextLengthError as error:
            self.messages.pop()
            raise ContextLengthError(error.what, expected=error.expected, fix=FULL) from None
        except BaseException:
            self.messages.pop()
            raise
        written = ""
        try:
            for said in running:
                written += said.text
                yield said
            self.last = running.completion()
        except BaseException:
            if written:
                self._answered(written)
            else:
                self.messages.pop()  # an empty answer would be read as one by the template
            raise
        finally:
            running.close()
        self._answered(written)

    def _answered(self, text: str) -> None:
        self.messages.append({"role": "assistant", "content": text})

    def _start(self) -> Answer:
        options: dict[str, Any] = {**self.settings, "stop": list(self.stop) or None}
        return self.partner.answer(self.messages, self.max_tokens, options)

    def tokens(self) -> int:
        """How many tokens the conversation takes so far."""
        return self.partner.count(self.messages) if self.messages else 0

    def told(self) -> Mapping[str, tuple[Any, str]]:
        """Every setting with its value and origin. Raises UsageError and what else `Partner.settings` does."""
        return self.partner.settings(self.settings)

    def set(self, key: str, value: str) -> None:
        """One setting by its name; an empty value gives it back to the model. Raises UsageError for what cannot be."""
        if key in ("max_tokens", "n"):
            self.max_tokens = None if value == "" else _number(key, value)
            return
        if key == "stop":
            self.stop = (value,) if value else ()
            return
        changed = {name: old for name, old in self.settings.items() if name != key}
        if value != "":
            changed[key] = _parsed(value)
        self.partner.settings({**changed, **({} if key in changed else {key: None})})
        self.settings = changed

    def reset(self) -> None:
        """Forgets what was said; the system message stays."""
        self.messages = self.messages[:1] if self.system is not None else []
        self.last = None

    def undo(self) -> str | None:
        """Takes the last turn back: what the user said, or None where nothing was."""
        start = 1 if self.system is not None else 0
        if len(self.messages) == start:
            return None
        while len(self.messages) > start:
            message = self.messages.pop()
            if message["role"] == "user":
                return message["content"]
        return None

    def save(self, path: Path) -> None:
        record = {"model": self.partner.name, "messages": self.messages}
        write_text(path, json.dumps(record, ensure_ascii=False, indent=2) + "\n")

    def load(self, path: Path) -> None:
        """Messages from a file that `save` wrote, or a bare JSON list of them."""
        messages = _messages(path)
        if self.partner.plain and any(message["role"] == "system" for message in messages):
            raise UsageError(f"{path} has a system message, and there is no chat template to take it")
        self.messages, self.last = messages, None


def joined(messages: list[Message]) -> str:
    """All that was said, as one text; what a user adds is set apart by a blank."""
    text = ""
    for message in messages:
        apart = message["role"] == "user" and text and not text[-1].isspace()
        text += f" {message['content']}" if apart else message["content"]
    return text


def _number(key: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise UsageError(f"{key} is {value!r}", expected="a whole number") from None


def _parsed(value: str) -> Any:
    """A number, true or false, or JSON where it reads as such; else the word itself."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _messages(path: Path) -> list[dict[str, str]]:
    messages = read_messages(path)
    if not all(_is_message(message) for message in messages):
        raise DataError(f"{path} holds no conversation", expected='[{"role": "user", "content": "..."}, ...]')
    if any(message["role"] == "system" for message in messages[1:]):
        raise DataError(f"{path} has a system message that is not the first")
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and value.get("role") in ROLES and isinstance(value.get("content"), str)
