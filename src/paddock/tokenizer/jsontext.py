"""JSON checked while it arrives: generators wait inside of whatever they read, so borders of pieces mean nothing."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

MAX_DEPTH = 64
BLANKS = " \t\r\n"
Waiting = Generator[None, None, Any]

PLAIN_RUN = re.compile(r'[^"\\\x00-\x1f]+')
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?\Z")


class Malformed(Exception):
    """What was read is not what it seemed to be."""


class Arriving:
    """Text of which some has come. `place` is where it is read, what lies before `mark` is done with."""

    def __init__(self) -> None:
        self.buffer, self.place, self.mark, self.ended = "", 0, 0, False

    def add(self, text: str) -> None:
        self.buffer = self.buffer[self.mark :] + text
        self.place, self.mark = self.place - self.mark, 0

    @property
    def read(self) -> str:
        """From the mark to the place."""
        return self.buffer[self.mark : self.place]

    def peek(self) -> Waiting:
        """The next character, which stays; nothing at the end."""
        while self.place == len(self.buffer):
            if self.ended:
                return ""
            yield
        return self.buffer[self.place]

    def blank(self) -> Waiting:
        """Reads what there is of blanks."""
        while (character := (yield from self.peek())) and character in BLANKS:
            self.place += 1

    def next_is(self, character: str) -> Waiting:
        """Reads `character`, and the blanks around it, if it comes next."""
        yield from self.blank()
        if (yield from self.peek()) != character:
            return False
        self.place += 1
        yield from self.blank()
        return True

    def expect(self, word: str) -> Waiting:
        """Reads `word`. Raises Malformed where something else comes."""
        for character in word:
            if (yield from self.peek()) != character:
                raise Malformed
            self.place += 1

    def until(self, *stops: str) -> Waiting:
        """The text before the next of the characters `stops`, or before the end."""
        found = []
        while (character := (yield from self.peek())) and character not in stops:
            found.append(character)
            self.place += 1
        return "".join(found)

    def value(self, depth: int = 0) -> Waiting:
        """Reads any value. Raises Malformed, for what is nested too deeply too."""
        character = yield from self.peek()
        if depth > MAX_DEPTH or not character:
            raise Malformed
        if character == '"':
            yield from self.string()
        elif character in "{[":
            yield from self._members(character, depth)
        else:
            yield from self._word()

    def _members(self, open: str, depth: int) -> Waiting:
        """An object or a list, from its bracket to its bracket."""
        close = "}" if open == "{" else "]"
        self.place += 1
        yield from self.blank()
        if (yield from self.peek()) == close:
            self.place += 1
            return
        while True:
            if open == "{":
                yield from self.string()
                yield from self.blank()
                yield from self.expect(":")
                yield from self.blank()
            yield from self.value(depth + 1)
            if not (yield from self.next_is(",")):
                break
        yield from self.expect(close)

    def string(self) -> Waiting:
        """A string with its quotes, as it was written."""
        yield from self.expect('"')
        parts = ['"']
        while (character := (yield from self.peek())) != '"':
            if character == "\\":
                parts.append((yield from self._escape()))
                continue
            run = PLAIN_RUN.match(self.buffer, self.place) if character else None
            if run is None:
                raise Malformed
            self.place = run.end()
            parts.append(run.group())
        self.place += 1
        return "".join(parts) + '"'

    def _escape(self) -> Waiting:
        self.place += 1
        character = yield from self.peek()
        if not character or character not in '"\\/bfnrtu':
            raise Malformed
        self.place += 1
        digits = ""
        while character == "u" and len(digits) < 4:
            digit = yield from self.peek()
            if not digit or digit not in "0123456789abcdefABCDEF":
                raise Malformed
            self.place += 1
            digits += digit
        return "\\" + character + digits

    def _word(self) -> Waiting:
        """A number, true, false or null."""
        word = ""
        while (character := (yield from self.peek())) and (character.isalnum() or character in "+-."):
            self.place += 1
            word += character
        if word not in ("true", "false", "null") and not NUMBER.match(word):
            raise Malformed
