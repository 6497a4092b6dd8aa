"""`paddock chat`: the conversation at a terminal, or from a pipe."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddock.cli import output
from paddock.cli.conversation import FULL, Conversation, Partner
from paddock.cli.options import Loading
from paddock.cli.telling import rates, settings_table
from paddock.errors import DataError, PaddockError, TemplateError, UsageError, did_you_mean

PLAIN = ("none", "plain")
PROMPT, MORE, BLOCK = ">>> ", "... ", '"""'
HELP = """\
/help              this list
/system TEXT       set the system message; without TEXT remove it
/set KEY=VALUE     change a setting, for example temperature=0.8, max_tokens=100, seed=7; KEY= takes it back
/settings          every setting and where it comes from
/tokens            how much of the context is used
/undo              take the last turn back
/retry             answer the last message again
/reset, /clear     forget the conversation
/save FILE         write it as JSON
/load FILE         go on with one that was saved
/exit, /bye        leave (so does Ctrl-D)
Ctrl-C stops an answer. A message of several lines stands between two lines of \"\"\". // begins one with a slash."""


@dataclass(frozen=True)
class Asked:
    """What a user asked `chat` for."""

    loading: Loading
    template: str | None = None
    system: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    verbose: bool = False
    url: str | None = None
    api_key: str | None = field(default=None, repr=False)


class Leave(Exception):
    """The user wants to go."""


def chat(asked: Asked) -> None:
    partner, seconds = _served(asked) if asked.url is not None else _loaded(asked)
    talk = Conversation(partner, dict(asked.settings), asked.max_tokens, asked.stop)
    if asked.system is not None:
        talk.set_system(asked.system)
    talk.told()  # what cannot be is refused before the first message
    output.note(f"{partner.greeting}. /help lists commands")
    Chat(talk, seconds, asked.verbose).run()


def _served(asked: Asked) -> tuple[Partner, None]:
    """The model of a running server."""
    from paddock.cli.remote import Remote
    from paddock.serve.client import Client

    given = {
        "--dtype": asked.loading.dtype != "auto",
        "--device": asked.loading.device != "auto",
        "--tokenizer": asked.loading.tokenizer is not None,
        "--ignore-config": bool(asked.loading.ignore_config),
        "--template": asked.template not in (None, *PLAIN),
    }
    if chosen := [name for name, there in given.items() if there]:
        raise UsageError(f"{chosen[0]} is for models loaded here", fix="give it to paddock serve, or leave out --url")
    return Remote(Client(asked.url, asked.api_key, asked.loading.model), asked.template in PLAIN), None


def _loaded(asked: Asked) -> tuple[Partner, float]:
    """A model of this process, and the seconds it took to load."""
    from paddock.cli.generating import check_writes
    from paddock.cli.loaded import Loaded
    from paddock.cli.loading import load

    plain = _is_plain(asked)
    model, seconds = load(asked.loading, template=None if plain else asked.template)
    check_writes(model)
    return Loaded(model, plain), seconds


def _is_plain(asked: Asked) -> bool:
    """Whether to go on without a template: where that is asked, and with the bundled model, which has none.

    Any other model without one is refused, before its weights are read.
    """
    if asked.template in PLAIN:
        return True
    from paddock.checkpoint.checkpoint import open_checkpoint
    from paddock.engine.locate import bundled, locate
    from paddock.engine.opening import Beside
    from paddock.tokenizer.template_registry import no_template

    path = locate(asked.loading.model)
    template = Beside.of(open_checkpoint(path, asked.loading.ignore_config)).template(asked.template)
    if template is None and path != bundled():
        error = no_template(path.name)
        raise TemplateError(error.what, fix=f"{error.fix}; --template none goes on without turns")
    return template is None


class Chat:
    """Reads messages and commands, prints answers."""

    def __init__(self, talk: Conversation, load_seconds: float | None, verbose: bool) -> None:
        self.talk, self.load_seconds, self.verbose = talk, load_seconds, verbose
        self.interactive = sys.stdin.isatty()
        self.commands: dict[str, Callable[[str], None]] = {
            "help": lambda _: output.note(HELP),
            "system": self._system,
            "set": self._set,
            "settings": lambda _: output.note(settings_table(talk.told())),
            "tokens": self._tokens,
            "undo": self._undo,
            "retry": self._retry,
            "reset": self._reset,
            "clear": self._reset,
            "save": lambda path: talk.save(_path(path)),
            "load": self._load,
            "exit": self._leave,
            "quit": self._leave,
            "bye": self._leave,
        }

    def run(self) -> None:
        """Until the input ends or the user leaves. From a pipe, the first error ends it; at a terminal, it goes on."""
        reader = Reader(self.interactive)
        with contextlib.suppress(Leave):
            while True:
                message = reader.message()
                try:
                    self._take(message)
                except PaddockError as error:
                    if not self.interactive:
                        raise
                    output.note(f"error: {error}")

    def _take(self, message: str) -> None:
        if not message.strip():
            return
        if message.startswith("/") and not message.startswith("//"):
            name, _, rest = message[1:].partition(" ")
            if name not in self.commands:
                fix = did_you_mean(f"/{name}", [f"/{known}" for known in self.commands])
                fix = fix or "/help lists them; // begins a message with a slash"
                raise UsageError(f"there is no command /{name}", fix=fix)
            self.commands[name](rest.strip())
            return
        self._answer(message.removeprefix("/") if message.startswith("//") else message)

    def _answer(self, message: str) -> None:
        begun = stopped = False
        try:
            with contextlib.closing(self.talk.answer(message)) as answer:  # also where Ctrl-C comes while printing
                for said in answer:
                    begun = True
                    output.piece(said.aside + said.text if self.interactive else said.text)
        except KeyboardInterrupt:
            if not self.interactive:
                raise
            stopped = True
        finally:
            if begun:
                output.piece("\n")
        if stopped:
            kept = "what was written stays in the conversation" if begun else "the message is taken back"
            output.note(f"(stopped; {kept})")
        self._remark()

    def _remark(self) -> None:
        done = self.talk.last
        if done is None:
            return
        if done.finish_reason == "length":
            context = self.talk.partner.context
            full = context is not None and done.prompt_tokens + done.completion_tokens >= context
            why = (
                f"the context of {context} tokens is full; {FULL}"
                if full
                else "the limit; /set max_tokens=N allows more"
            )
            output.note(f"(stopped after {done.completion_tokens} tokens: {why})")
        if self.verbose:
            output.note(rates(done, self.load_seconds))

    def _system(self, text: str) -> None:
        self.talk.set_system(text)
        output.note("(the system message is set)" if text else "(no system message)")

    def _set(self, text: str) -> None:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"/set {text}".rstrip(), expected="/set KEY=VALUE, for example /set temperature=0.8")
        self.talk.set(key.strip().replace("-", "_"), value.strip())

    def _tokens(self, _: str) -> None:
        context = self.talk.partner.context
        output.note(f"{self.talk.tokens()} tokens" + (f" of {context}" if context is not None else ""))

    def _undo(self, _: str) -> None:
        text = self.talk.undo()
        output.note("(nothing to take back)" if text is None else f"(taken back: {text.strip()[:60]})")

    def _retry(self, _: str) -> None:
        text = self.talk.undo()
        if text is None:
            raise UsageError("there is nothing to answer again", fix="say something first")
        self._answer(text)

    def _reset(self, _: str) -> None:
        self.talk.reset()
        output.note("(the conversation is forgotten)")

    def _load(self, path: str) -> None:
        self.talk.load(_path(path))
        output.note(f"({len(self.talk.messages)} messages)")

    def _leave(self, _: str) -> None:
        raise Leave


class Reader:
    """Messages from standard input: a line each, or a block between lines of three quotes."""

    def __init__(self, interactive: bool) -> None:
        self.interactive = interactive
        self.ready_to_leave = False
        if interactive:
            with contextlib.suppress(ImportError):  # line editing, where Python was built with it
                import readline  # noqa: F401

    def message(self) -> str:
        """The next message. Leave at the end; at a terminal, KeyboardInterrupt for the second Ctrl-C in a row."""
        while True:
            try:
                message = self._message()
                self.ready_to_leave = False
                return message
            except KeyboardInterrupt:
                if not self.interactive or self.ready_to_leave:
                    raise
                self.ready_to_leave = True
                output.note("\n(Ctrl-C again, or Ctrl-D, leaves)")

    def _message(self) -> str:
        line = self._line(PROMPT)
        if line.strip() != BLOCK:
            return line
        lines: list[str] = []
        while (line := self._line(MORE)).strip() != BLOCK:
            lines.append(line)
        return "\n".join(lines)

    def _line(self, prompt: str) -> str:
        if not self.interactive:
            return self._piped()
        if sys.stdout.isatty():
            try:
                return input(prompt)
            except EOFError:
                output.piece("\n")
                raise Leave from None
        sys.stderr.write(prompt)  # standard output carries answers only
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise Leave
        return line.rstrip("\n")

    def _piped(self) -> str:
        data = sys.stdin.buffer.readline()
        if not data:
            raise Leave
        try:
            return data.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(
                f"standard input is not UTF-8: byte {error.start} of a line", fix="convert it first"
            ) from None


def _path(text: str) -> Path:
    if not text:
        raise UsageError("there is no file named", expected="/save FILE or /load FILE")
    return Path(text).expanduser()
