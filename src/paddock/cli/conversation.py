"""A conversation with a model: its messages, its settings, and the next answer. Knows nothing of terminals."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddock.checkpoint.writing import write_text
from paddock.cli.messages import read_messages
from paddock.engine.language_model import LanguageModel
from paddock.engine.request import Completion, Event
from paddock.errors import ContextLengthError, DataError, UsageError
from paddock.tokenizer.chat import encode_chat

ROLES = ("system", "user", "assistant")
FULL = "/reset begins afresh, /undo takes the last turn back"


@dataclass
class Conversation:
    """Messages with a model. `plain`: no template; the model writes on after all that was said, as after one text.

    An encoder-decoder without a template answers each message by itself.
    """

    model: LanguageModel
    plain: bool
    settings: dict[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    messages: list[dict[str, str]] = field(default_factory=list)
    last: Completion | None = None

    @property
    def system(self) -> str | None:
        return self.messages[0]["content"] if self.messages and self.messages[0]["role"] == "system" else None

    def set_system(self, text: str) -> None:
        """Replaces the system message; an empty text removes it."""
        if text and self.plain:
            raise UsageError("without a chat template there is no system message", fix="write it as ordinary text")
        rest = self.messages[1:] if self.system is not None else self.messages
        self.messages = [*([{"role": "system", "content": text}] if text else []), *rest]

    def answer(self, text: str) -> Generator[Event, None, None]:
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
            for event in running:
                if self.plain and event.token == self.model.tokenizer.bos_id:
                    break  # another text would begin
                written += event.text
                yield event
            else:
                self.last = running.completion()
        except BaseException:
            if written:
                self._answered(written)
            else:
                self.messages.pop()  # an empty answer would be read as one by the template
            raise
        self._answered(written)

    def _answered(self, text: str) -> None:
        self.messages.append({"role": "assistant", "content": text})

    def _start(self) -> Any:
        options: dict[str, Any] = {**self.settings, "stop": list(self.stop) or None}
        if not self.plain:
            return self.model.stream_chat(self.messages, self.max_tokens, **options)
        alone = self.model.architecture.encoder is not None
        return self.model.stream(self.messages[-1]["content"] if alone else self.text, self.max_tokens, **options)

    @property
    def text(self) -> str:
        """All that was said, as one text; what a user adds is set apart by a blank."""
        text = ""
        for message in self.messages:
            apart = message["role"] == "user" and text and not text[-1].isspace()
            text += f" {message['content']}" if apart else message["content"]
        return text

    def tokens(self) -> int:
        """How many tokens the conversation takes so far."""
        if not self.messages:
            return 0
        if self.plain:
            return len(self.model.tokenizer.encode(self.text))
        template = self.model.template
        assert template is not None
        return len(encode_chat(self.model.tokenizer, template, self.messages, add_generation_prompt=False))

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
        self.model.settings(**changed, **({} if key in changed else {key: None}))
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
        record = {"model": str(self.model.checkpoint.path), "messages": self.messages}
        write_text(path, json.dumps(record, ensure_ascii=False, indent=2) + "\n")

    def load(self, path: Path) -> None:
        """Messages from a file that `save` wrote, or a bare JSON list of them."""
        messages = _messages(path)
        if self.plain and any(message["role"] == "system" for message in messages):
            raise UsageError(f"{path} has a system message, and there is no chat template to take it")
        self.messages, self.last = messages, None


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
