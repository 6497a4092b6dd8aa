"""A model of a running server as a partner in a conversation. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from paddock.cli.conversation import Message, Said, joined
from paddock.engine.sampling import BOUNDS
from paddock.errors import TemplateError, UnsupportedError, UsageError, did_you_mean
from paddock.serve.client import SETTINGS, Client, Stream
from paddock.serve.results import Answer

Values = Mapping[str, tuple[Any, str]]


class Remote:
    """`client` asks one model; `plain`: without turns. What the server says of the model is asked for once."""

    def __init__(self, client: Client, plain: bool) -> None:
        told = client.describe()
        self.client = client
        client.model = self.model = str(told.get("id") or client.model)
        context, known = told.get("max_model_len"), told.get("paddock")
        self.context = context if isinstance(context, int) else None
        self._known: dict[str, Any] = known if isinstance(known, dict) else {}
        self._check(plain)
        self.plain = plain or not self._known.get("chat", True)
        self.name = f"{self.model} at {client.url}"

    def _check(self, plain: bool) -> None:
        """Refuses a model that does not write, or that has no turns, unless that was asked for."""
        if not self._known.get("generates", True):
            raise UnsupportedError(f"{self.model} does not write text", fix="name another model with -m")
        if not plain and not self._known.get("chat", True) and not self._known.get("bundled"):
            raise TemplateError(
                f"{self.model} has no chat template at the server",
                fix="start the server with --chat-template NAME; --template none goes on without turns",
            )

    @property
    def greeting(self) -> str:
        if not self.plain:
            template = self._known.get("template")
            what = f"chat template: {template}" if template else "the server knows its chat template"
        elif self._known.get("encoder_decoder"):
            what = "answers each message by itself"
        else:
            what = "no chat template: begin a text, and it writes on"
        return f"{self.name}, {what}"

    def answer(self, messages: list[Message], max_tokens: int | None, options: Mapping[str, Any]) -> Reading:
        if not self.plain:
            return Reading(self.client.stream_chat(messages, max_tokens, **options))
        alone = self._known.get("encoder_decoder", False)
        text = messages[-1]["content"] if alone else joined(messages)
        return Reading(self.client.stream(text, max_tokens, **options))

    def count(self, messages: list[Message]) -> int:
        if self.plain:
            return len(self.client.tokenize(joined(messages)))
        return len(self.client.tokenize(messages, add_generation_prompt=False))

    def settings(self, chosen: Mapping[str, Any]) -> Values:
        for name, value in chosen.items():
            if name not in SETTINGS:
                raise UsageError(
                    f"unknown setting {name!r}", expected=", ".join(SETTINGS), fix=did_you_mean(name, SETTINGS)
                )
            if value is not None and name in BOUNDS and not BOUNDS[name].holds(value):
                raise UsageError(f"{name} is {value!r}", expected=str(BOUNDS[name]))
        told = self._known.get("settings")
        found = {
            str(name): (entry.get("value"), str(entry.get("from")))
            for name, entry in (told if isinstance(told, dict) else {}).items()
            if isinstance(entry, dict)
        }
        return found | {name: (value, "request") for name, value in chosen.items() if value is not None}


class Reading:
    """An answer as the server sends it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[Said]:
        thinking = False
        for piece in self._stream:
            if piece.text or piece.reasoning:
                border = "\n\n" if thinking and piece.text else ""
                thinking = not piece.text
                yield Said(piece.text, piece.reasoning + border)

    def completion(self) -> Answer:
        return self._stream.completion()

    def close(self) -> None:
        self._stream.close()
