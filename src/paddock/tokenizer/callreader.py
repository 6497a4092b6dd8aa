"""Calls of tools in a text that arrives in pieces: where they begin and end, and what is none after all.

What looks like a call and is none is given back as text, letter by letter. A call is told once it is whole; where a
grammar vouches for it (`live`), its arguments are told as they are written.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Literal

from paddock.tokenizer.jsontext import BLANKS, Arriving, Malformed, Waiting

MOST = 16  # calls of one answer
Shape = Literal["tagged", "mistral", "bare", "glm"]


@dataclass(frozen=True)
class Piece:
    """A piece of call number `index`: its name comes with the first, `arguments` are JSON text as it was written."""

    index: int
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True)
class Said:
    """What became certain."""

    text: str = ""
    calls: tuple[Piece, ...] = ()


class CallReader:
    """Reads one answer. names: the tools there are; a call of any other is text. most: calls that are looked for.

    shape: "tagged" is `open` {call} `close`; "mistral" is `open` [{call}, ...], or `open` name[ARGS]{arguments};
    "bare" is {call}; {call} at the very beginning, behind `open` or not; "glm" is the name in a line of its own at the
    very beginning, then the arguments.
    """

    def __init__(
        self,
        shape: Shape,
        names: Collection[str],
        open: str = "",
        close: str = "",
        most: int = MOST,
        live: bool = False,
    ) -> None:
        self._shape, self._names, self._open, self._close = shape, frozenset(names), open, close
        self._most, self._live = most, live
        self._source = Arriving()
        self._text: list[str] = []
        self._calls: list[Piece] = []
        self._name: str | None = None  # of the call that is being read
        self._told = self._telling = False  # whether it was told of, and whether its arguments are being told
        self._count = 0
        self._blanks: list[str] | None = []  # held at the beginning and behind calls; None once something was said
        self._run = self._everything()
        next(self._run, None)

    def push(self, text: str) -> Said:
        self._source.add(text)
        next(self._run, None)
        return self._given()

    def finish(self) -> Said:
        self._source.ended = True
        next(self._run, None)
        if self._blanks and not self._count:
            self._text.append("".join(self._blanks))
        return self._given()

    def _given(self) -> Said:
        if self._telling:
            self._tell_arguments()
        calls: list[Piece] = []
        for piece in self._calls:  # neighbours of one call become one
            if calls and calls[-1].index == piece.index:
                calls[-1] = replace(calls[-1], arguments=calls[-1].arguments + piece.arguments)
            else:
                calls.append(piece)
        said = Said("".join(self._text), tuple(calls))
        self._text, self._calls = [], []
        return said

    # --- text ---

    def _everything(self) -> Waiting:
        found = yield from self._beginning()
        while found or (yield from self._until_open()):
            found = False
            try:
                yield from self._section()
            except Malformed:
                self._give_back()

    def _give_back(self) -> None:
        """What was read of a call that is none, or was cut off."""
        if self._telling:
            self._tell_arguments()
        else:
            self._say(self._source.read)
        if self._told:
            self._count += 1
        self._name, self._told, self._telling = None, False, False
        self._source.mark = self._source.place

    def _beginning(self) -> Waiting:
        """Whether a call without a tag stands at the very beginning; blanks before it are held."""
        source = self._source
        if self._shape not in ("bare", "glm"):
            return False
        yield from source.blank()
        self._say(source.read)
        source.mark = source.place
        if self._shape == "bare":
            return (yield from source.peek()) == "{"
        lines = [name + "\n" for name in self._names]
        while True:
            start = source.buffer[source.place :]
            if any(start.startswith(line) for line in lines):
                return True
            if source.ended or not any(line.startswith(start) for line in lines):
                return False
            yield

    def _until_open(self) -> Waiting:
        """Says the text up to the next opening tag, which is read then; False at the end of all."""
        source, tag = self._source, self._open
        while True:
            rest = source.buffer[source.place :]
            at = rest.find(tag) if tag and self._count < self._most else -1
            if at >= 0:
                self._say(rest[:at])
                source.mark = source.place + at
                source.place = source.mark + len(tag)
                return True
            kept = 0 if source.ended or not tag else begun(rest, tag)
            self._say(rest[: len(rest) - kept])
            source.place = source.mark = len(source.buffer) - kept
            if source.ended:
                return False
            yield

    def _say(self, text: str) -> None:
        if self._blanks is not None:
            if not text.strip(BLANKS):
                self._blanks.append(text)
                return
            text = "".join(self._blanks) + text
            self._blanks = None
        self._text.append(text)

    # --- calls ---

    def _section(self) -> Waiting:
        source = self._source
        if self._shape == "tagged":
            yield from self._call()
            yield from source.blank()
            if (yield from source.peek()):  # the text may end without the tag
                yield from source.expect(self._close)
            source.mark = source.place
        elif self._shape == "glm":
            yield from self._glm()
        elif self._shape == "mistral":
            yield from self._mistral()
        else:
            yield from self._call()
            while (yield from source.next_is(";")):
                yield from self._call()

    def _mistral(self) -> Waiting:
        source = self._source
        yield from source.blank()
        character = yield from source.peek()
        if character == "{":
            yield from self._call()
        elif character == "[":
            source.place += 1
            yield from self._call()
            while (yield from source.next_is(",")):
                yield from self._call()
            yield from source.blank()
            yield from source.expect("]")
            source.mark = source.place
        else:
            name = yield from source.until("[", "{")
            if (yield from source.peek()) == "[":
                source.place += 1
                if (yield from source.peek()) == "C":
                    yield from source.expect("CALL_ID]")
                    yield from source.until("[")
                    yield from source.expect("[")
                yield from source.expect("ARGS]")
            yield from self._bare_arguments(name.strip(BLANKS))

    def _glm(self) -> Waiting:
        source = self._source
        name = yield from source.until("\n")
        yield from source.blank()
        if (yield from source.peek()) != "`":
            yield from self._bare_arguments(name)
            return
        yield from source.expect("```python")  # ChatGLM3's way: tool_call(city="Oslo")
        code = yield from source.until("`")
        yield from source.expect("```")
        self._begin(name)
        self._commit(python_arguments(code))

    def _bare_arguments(self, name: str) -> Waiting:
        """The arguments of a call whose name was read."""
        self._begin(name)
        yield from self._source.blank()
        self._commit((yield from self._arguments()))

    def _call(self) -> Waiting:
        """{"name": ..., "arguments": {...}} in any order; `parameters` is another word for them."""
        source = self._source
        arguments: str | None = None
        yield from source.blank()
        yield from source.expect("{")
        yield from source.blank()
        while True:
            key = json.loads((yield from source.string()))
            yield from source.blank()
            yield from source.expect(":")
            yield from source.blank()
            if key == "name" and self._name is None:
                self._begin(json.loads((yield from source.string())))
            elif key in ("arguments", "parameters") and arguments is None:
                arguments = yield from self._arguments()
            else:
                yield from source.value()
            if not (yield from source.next_is(",")):
                break
        yield from source.expect("}")
        if self._name is None:
            raise Malformed
        self._commit("{}" if arguments is None else arguments)

    def _arguments(self) -> Waiting:
        """An object as it was written, or what a string holds: some models put the object's text into one."""
        source = self._source
        if (yield from source.peek()) == '"':
            text = json.loads((yield from source.string()))
            if not is_object(text):
                raise Malformed
            return text
        if (yield from source.peek()) != "{":
            raise Malformed
        if self._live and self._name is not None:
            self._calls.append(Piece(self._count, self._name))
            self._told = self._telling = True
            source.mark = source.place
        start = source.place - source.mark
        yield from source.value()
        if self._telling:
            self._tell_arguments()
            self._telling = False
        return source.buffer[source.mark + start : source.place]

    def _tell_arguments(self) -> None:
        self._calls.append(Piece(self._count, None, self._source.read))
        self._source.mark = self._source.place

    def _begin(self, name: Any) -> None:
        if name not in self._names or self._count >= self._most:
            raise Malformed
        self._name = name

    def _commit(self, arguments: str) -> None:
        """The call is whole."""
        if not self._told:
            self._calls.append(Piece(self._count, self._name, arguments))
        self._count += 1
        self._name, self._told = None, False
        self._blanks = []
        self._source.mark = self._source.place


def begun(text: str, tag: str) -> int:
    """Length of the longest end of `text` that begins `tag` and is not all of it."""
    return next((size for size in range(min(len(tag) - 1, len(text)), 0, -1) if text.endswith(tag[:size])), 0)


def is_object(text: str) -> bool:
    """Whether `text` is a JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def python_arguments(source: str) -> str:
    """JSON of the arguments of the one call in `source`, Python with plain values. Raises Malformed."""
    try:
        call = ast.parse(source.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise Malformed
        named = {keyword.arg or "": ast.literal_eval(keyword.value) for keyword in call.keywords}
        if "" in named:
            raise Malformed
        return json.dumps(named, ensure_ascii=False, allow_nan=False)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise Malformed from None
