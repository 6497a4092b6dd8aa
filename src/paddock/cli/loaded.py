"""A model of this process as a partner in a conversation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from paddock.cli.conversation import Message, Said, joined
from paddock.engine.beam import BeamSearch
from paddock.engine.generate import Generation
from paddock.engine.language_model import LanguageModel
from paddock.engine.locate import bundled
from paddock.engine.request import Completion
from paddock.tokenizer.chat import encode_chat


class Loaded:
    """`plain`: no template; the model writes on after all that was said, as after one text. An encoder-decoder without
    a template answers each message by itself."""

    def __init__(self, model: LanguageModel, plain: bool) -> None:
        self.model, self.plain = model, plain
        self.name = str(model.checkpoint.path)
        self.context = model.architecture.context

    @property
    def greeting(self) -> str:
        name, template = self.model.checkpoint.path.name, self.model.template
        if not self.plain and template is not None:
            what = f"chat template: {template.name}"
        elif self.model.architecture.encoder is not None:
            what = "answers each message by itself"
        elif self.model.checkpoint.path == bundled():
            what = "knows no turns, only stories: begin one, and it writes on"
        else:
            what = "no chat template: begin a text, and it writes on"
        return f"{name}, {what}"

    def answer(self, messages: list[Message], max_tokens: int | None, options: Mapping[str, Any]) -> Writing:
        if not self.plain:
            return Writing(self.model.stream_chat(messages, max_tokens, **options), None)
        alone = self.model.architecture.encoder is not None
        text = messages[-1]["content"] if alone else joined(messages)
        return Writing(self.model.stream(text, max_tokens, **options), self.model.tokenizer.bos_id)

    def count(self, messages: list[Message]) -> int:
        if self.plain:
            return len(self.model.tokenizer.encode(joined(messages)))
        template = self.model.template
        assert template is not None
        return len(encode_chat(self.model.tokenizer, template, messages, add_generation_prompt=False))

    def settings(self, chosen: Mapping[str, Any]) -> Mapping[str, tuple[Any, str]]:
        resolved = self.model.settings(**chosen)
        resolved.check()
        return resolved.values()


class Writing:
    """An answer as this process writes it. It is over where another text would begin: with the token `until`."""

    def __init__(self, running: Generation | BeamSearch, until: int | None) -> None:
        self._running, self._until = running, until
        self._left = False

    def __iter__(self) -> Iterator[Said]:
        for event in self._running:
            if self._until is not None and event.token == self._until:
                self._left = True
                return
            yield Said(event.text)

    def completion(self) -> Completion | None:
        return None if self._left else self._running.completion()

    def close(self) -> None:
        if isinstance(self._running, Generation):
            self._running.close()
