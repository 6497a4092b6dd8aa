r"""LaTeX macros without arguments (\newcommand{\eg}{e.g.}, \def\R{\mathbb{R}}) written out where they are used.

Sizes are added up before anything is written out, so that a few lines that double one another make no gigabytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

MOST_MACROS = 5000  # definitions that are looked at
LONGEST = 1000  # characters of a definition's body
DEEPEST = 50  # macros within macros
GROWTH, ROOM = 4, 20_000  # the text may become so many times as long, and so many characters more

_DEFINITION = re.compile(
    r"\\(?:newcommand|renewcommand|providecommand)\*?[ \t]*(?:\{[ \t]*\\(?P<braced>[A-Za-z@]+)[ \t]*\}"
    r"|\\(?P<bare>[A-Za-z@]+))[ \t]*\{"
    r"|\\def[ \t]*\\(?P<plain>[A-Za-z@]+)[ \t]*\{"
)
_BRACE = re.compile(r"\\.|[{}#]", re.DOTALL)
_WORD = re.compile(r"\\(?:([A-Za-z@]+)(\{\})?|.)", re.DOTALL)


class Refused(Exception):
    """Macros that cannot be written out. reason: one of few; detail: for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def expanded(text: str) -> tuple[str, int]:
    """The text with every use of a macro without arguments written out, its definition gone, and how many uses.

    A macro that is defined twice in different ways stays as it is. Raises Refused for too many of them, such as call
    themselves or one another in a circle, and for text that would become too long.
    """
    body, macros = _taken(text)
    if not macros:
        return text, 0
    _Checked(macros, GROWTH * len(text) + ROOM).check(body)
    whole: dict[str, str] = {}
    for name in _inner_first(macros):
        whole[name] = _written(macros[name], whole)[0]
    return _written(body, whole)


def _taken(text: str) -> tuple[str, dict[str, str]]:
    """The text less the definitions of macros without arguments, and those: their bodies by name."""
    found: dict[str, list[tuple[str, int, int]]] = {}
    for number, match in enumerate(_DEFINITION.finditer(text)):
        if number >= MOST_MACROS:
            raise Refused("too many macros", f"more than {MOST_MACROS}")
        stop = _closing(text, match.end())
        if stop is not None:
            name = match["braced"] or match["bare"] or match["plain"]
            found.setdefault(name, []).append((text[match.end() : stop], match.start(), stop + 1))
    once = {name: each for name, each in found.items() if len({body for body, *_ in each}) == 1}
    parts, at = list[str](), 0
    for start, stop in sorted((start, stop) for each in once.values() for _, start, stop in each):
        if start >= at:  # one within another's body goes with that
            parts.append(text[at:start])
            at = stop
    return "".join(parts) + text[at:], {name: each[0][0] for name, each in once.items()}


def _closing(text: str, start: int) -> int | None:
    """Where the brace that is open at `start` closes; None where it does not within a body, or that has arguments."""
    depth = 1
    for match in _BRACE.finditer(text, start, min(len(text), start + LONGEST)):
        if match[0] == "#":
            return None
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if not depth:
            return match.start()
    return None


def _used(body: str, macros: Mapping[str, str]) -> Iterator[str]:
    for match in _WORD.finditer(body):
        if match[1] in macros:
            yield match[1]


def _inner_first(macros: Mapping[str, str]) -> list[str]:
    """Names so that each comes behind those that its body uses. Raises Refused for a circle, and one too deep."""
    order: list[str] = []
    open_: dict[str, int] = {}  # how deep each that is being looked at lies; those that are done are in `done`
    done: set[str] = set()
    for first in macros:
        waiting = [first]
        while waiting:
            name = waiting[-1]
            if name in done or name in open_:
                waiting.pop()
                if open_.pop(name, None) is not None:
                    done.add(name)
                    order.append(name)
                continue
            if len(open_) >= DEEPEST:
                raise Refused("macros nest too deeply", f"more than {DEEPEST}")
            open_[name] = len(open_)
            inner = [each for each in dict.fromkeys(_used(macros[name], macros)) if each not in done]
            if circle := next((each for each in inner if each in open_), None):
                raise Refused("macros that call themselves", f"\\{circle[:60]}")
            waiting += inner
    return order


class _Checked:
    """How long texts become, in numbers."""

    def __init__(self, macros: Mapping[str, str], most: int) -> None:
        self.most, self.sizes = most, dict[str, int]()
        for name in _inner_first(macros):
            self.sizes[name] = self.length(macros[name])

    def length(self, text: str) -> int:
        size = len(text)
        for match in _WORD.finditer(text):
            size += self.sizes.get(match[1], -1) + 1  # and a blank, if need be
        return size

    def check(self, text: str) -> None:
        size = max(self.length(text), sum(self.sizes.values()))
        if size > self.most:
            raise Refused("macros grow too large", f"{size:.3g} characters, most {self.most}")


def _written(text: str, whole: Mapping[str, str]) -> tuple[str, int]:
    """A text with macros written out, and how many. `\\cal\\F` becomes `\\cal F`, not `\\calF`."""
    parts, at, count, word_ends = list[str](), 0, 0, -1
    for match in _WORD.finditer(text):
        name = match[1]
        if name is None or name not in whole:
            word_ends = match.end() if name is not None and match[2] is None else -1
            continue
        body = whole[name]
        parts += (text[at : match.start()], " " if word_ends == match.start() and body[:1].isalpha() else "", body)
        at, count, word_ends = match.end(), count + 1, -1
    return "".join(parts) + text[at:], count
