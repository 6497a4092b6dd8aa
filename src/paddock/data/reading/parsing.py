"""JSON as records: a line at a time, or the values of one long text without holding it whole."""

from __future__ import annotations

import ast
import codecs
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from paddock.data.reading.options import Broken, Options
from paddock.data.reading.pieces import ENCODING_FIX
from paddock.errors import DataError

BLANKS = re.compile(r"[ \t\n\r]*")
MAX_LITERAL = 2**16  # characters of a Python literal; its parser takes a hundred times their memory


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


DECODER = json.JSONDecoder(parse_constant=_no_number)


def parse(text: str) -> Any:
    """One JSON value. Raises Broken."""
    try:
        return DECODER.decode(text)
    except ValueError as error:
        raise Broken("not JSON", f"not JSON: {error}") from None
    except RecursionError:
        raise Broken("not JSON", "nested too deeply") from None


def parse_meta(text: str) -> Any:
    """A description written as a string, JSON or a Python literal, as a value; where it is neither, the string."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        return DECODER.decode(text)
    except (ValueError, RecursionError):
        if len(text) > MAX_LITERAL:
            return text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a backslash that escapes nothing
            value = ast.literal_eval(text)  # literals only: nothing is called
        return value if isinstance(value, dict) and all(isinstance(key, str) for key in value) else text
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


class Values:
    """The values of a JSON array, or of JSON texts one after another, from a stream of UTF-8 bytes.

    `for value in values`: `values.line` is the line it began at. Holds one value and a chunk at a time.
    """

    def __init__(self, chunks: Iterator[bytes], path: Path, options: Options) -> None:
        self._chunks, self._path, self._limit = chunks, path, options.limit
        self._decoder = codecs.getincrementaldecoder("utf-8")(options.errors)
        self._text, self._at, self._seen = "", 0, 0
        self._ended = False
        self.line = self._line = 1

    def __iter__(self) -> Iterator[Any]:
        array = self._next() == "["
        if array:
            self._take(1)
            if self._next() == "]":
                self._take(1)
                return self._finish()
        while self._next():
            self.line = self._line
            yield self._value()
            if array:
                mark = self._next()
                if mark not in (",", "]"):
                    raise self._bad(f"{mark!r} behind a value" if mark else "the array has no end", "a comma or ]")
                self._take(1)
                if mark == "]":
                    return self._finish()
                if self._next() in ("]", ""):
                    raise self._bad("a comma without a value behind it", None)
        return None

    def _finish(self) -> None:
        if mark := self._next():
            raise self._bad(f"{mark!r} behind the array", "the end of the file")

    def _more(self) -> None:
        """Reads on; `_ended` at the end of the file."""
        data = next(self._chunks, b"")
        unfinished = len(self._decoder.getstate()[0])
        try:
            text = self._decoder.decode(data, not data)
        except UnicodeDecodeError as error:
            at = self._seen - unfinished + error.start
            raise DataError(f"{self._path}: byte {at} is not UTF-8", fix=ENCODING_FIX) from None
        self._seen += len(data)
        self._ended = not data
        self._text = self._text[self._at :] + text
        self._at = 0

    def _take(self, count: int) -> None:
        self._line += self._text.count("\n", self._at, self._at + count)
        self._at += count

    def _next(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            blank = BLANKS.match(self._text, self._at)
            self._take(blank.end() - self._at if blank else 0)
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._more()

    def _value(self) -> Any:
        wanted = 0  # characters in hand before the next try: doubled, so that long values are not tried at every chunk
        while True:
            held = len(self._text) - self._at
            if held >= wanted or self._ended:
                try:
                    value, end = DECODER.raw_decode(self._text, self._at)
                    if end < len(self._text) or self._ended:  # a number may go on
                        if end - self._at > self._limit:
                            raise self._too_long()
                        self._take(end - self._at)
                        return value
                except RecursionError:
                    raise self._bad("nested too deeply", None) from None
                except ValueError as error:
                    if self._ended:
                        raise self._bad(str(error).partition(": line")[0], None) from None
                if held > self._limit:
                    raise self._too_long()
                wanted = 2 * held
            self._more()

    def _too_long(self) -> DataError:
        return DataError(
            f"{self._path}, line {self._line}: a value of over {self._limit} characters", fix="allow more with --limit"
        )

    def _bad(self, what: str, expected: str | None) -> DataError:
        return DataError(f"{self._path}, line {self._line}: not JSON: {what}", expected=expected)
