"""Chat templates: the one place where messages become a prompt's text.

Training, chat, serving and evaluation all render through `Template.render`, so a model sees in use what it saw in
training. A template that comes with a model is a program by a stranger: it is read before it runs
(`template_source`), gets a small language (`template_sandbox`) and runs in a process of its own (`template_worker`)
with a second of time and 40 MiB. Templates bundled with Paddock are ours, and run the same language in this process.

A template that fails is an error with its line and column; no other template is ever used in its place.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from paddock.errors import TemplateError, UsageError, did_you_mean
from paddock.tokenizer import template_messages as data
from paddock.tokenizer import template_sandbox as box
from paddock.tokenizer.template_source import PROVIDED, Source, fail, place_of, read_source
from paddock.tokenizer.template_worker import WORKER, Killed

SECONDS = 1.0
SPARE_OUTPUT = 64 * 1024  # characters beyond four times the messages: system texts, tool instructions


@dataclass(frozen=True)
class Template:
    """One chat template: Jinja source, and what is known of its use.

    `stop`: strings that end an answer; one that is a control token of the tokenizer means its id.
    `roles`: roles it takes, or None where only the template itself knows. `control`: control tokens spelt in its text
    mean ids, not characters. `own_blank`: a blank after a control token stands for the one that SentencePiece puts
    before a text, so there is exactly one. `plain_tags`: what looks like a control token and is ordinary text.
    `bundled`: written by us, so it runs in this process.
    `seconds`: processor time for one render.
    """

    source: str
    name: str = "template"
    stop: tuple[str, ...] = ()
    roles: frozenset[str] | None = None
    control: bool = True
    own_blank: bool = False
    plain_tags: tuple[str, ...] = ()
    title: str = ""
    credit: str = ""
    note: str = ""
    bundled: bool = False
    seconds: float = SECONDS

    def __post_init__(self) -> None:
        if not isinstance(self.source, str):
            raise TemplateError(f"chat template {self.name!r} is a {type(self.source).__name__}", expected="text")
        _ = self.read  # a template that cannot be read is refused here, not at the first message

    @functools.cached_property
    def read(self) -> Source:
        """The source as inspected, with its table of places."""
        return read_source(self.source, self.name)

    @property
    def options(self) -> frozenset[str]:
        """Names of the variables that may be given to `render` besides messages and tools."""
        return self.read.options - PROVIDED

    @property
    def takes_tools(self) -> bool:
        return "tools" in self.read.options

    def render(
        self,
        messages: Sequence[dict[str, Any]],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[dict[str, Any]] | None = None,
        bos_token: str = "",
        eos_token: str = "",
        now: datetime | None = None,
        **options: Any,
    ) -> str:
        """The prompt's text, equal to what transformers' `apply_chat_template` writes.

        messages: [{role, content, ...}]; content is text or a list of text parts. tools: JSON schemas.
        now: the time that `strftime_now` tells; without it the machine's clock, so a template with a date in it renders
        differently tomorrow. options: variables this template reads (`options`); any other name is refused.
        Raises TemplateError (with line and column where the template is at fault) and UsageError (unknown option).
        """
        plain = data.plain_messages(messages, self.roles, self.read.takes_parts)
        schemas = data.plain_tools(tools)
        if schemas and not self.takes_tools:
            raise fail(self.name, "does not know tools", None, "use a template that does, or leave the tools out")
        if not self.read.reads_all:
            data.check_read(plain, self.read.words, self.name)
        variables = {
            "documents": None,
            **self._checked_options(options),
            "messages": plain,
            "tools": schemas,
            "add_generation_prompt": bool(add_generation_prompt),
            "bos_token": bos_token,
            "eos_token": eos_token,
        }
        text = self._run(variables, now)
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise fail(self.name, "writes a lone surrogate, which is not text", None)
        return text

    def _checked_options(self, options: dict[str, Any]) -> dict[str, Any]:
        for name in options:
            if name not in self.options and name != "documents":
                known = ", ".join(sorted(self.options)) or "none"
                raise UsageError(
                    f"chat template {self.name!r} does not read the option {name!r}",
                    expected=f"one of: {known}",
                    fix=did_you_mean(name, self.options),
                )
        return {name: data.plain_data(value, f"option {name!r}") for name, value in options.items()}

    def _run(self, variables: dict[str, Any], now: datetime | None) -> str:
        limit = 4 * data.count_characters(variables) + SPARE_OUTPUT
        return self._run_here(variables, limit, now) if self.bundled else self._run_apart(variables, limit, now)

    def _run_here(self, variables: dict[str, Any], limit: int, now: datetime | None) -> str:
        try:
            return box.render(self.read.text, variables, limit, now)
        except Exception as error:  # whatever the template's own code raised
            raise fail(self.name, box.describe(error), place_of(self.read.places, box.line_of(error))) from None

    def _run_apart(self, variables: dict[str, Any], limit: int, now: datetime | None) -> str:
        request = {
            "source": self.read.text,
            "variables": variables,
            "limit": limit,
            "seconds": self.seconds,
            "now": now.isoformat() if now else None,
        }
        try:
            reply = WORKER.ask(request)
        except Killed:
            raise fail(
                self.name, f"ran longer than {self.seconds:g} s, or out of memory, and was stopped", None
            ) from None
        if "error" in reply:
            raise fail(self.name, reply["error"], place_of(self.read.places, reply["line"]))
        return str(reply["text"])
