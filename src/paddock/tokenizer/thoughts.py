"""The thought that a model writes before its answer, in a text that arrives in pieces."""

from __future__ import annotations

from dataclasses import dataclass

from paddock.tokenizer.callreader import begun
from paddock.tokenizer.jsontext import BLANKS
from paddock.tokenizer.template import Template
from paddock.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Tags:
    """What stands before and behind a thought."""

    open: str
    close: str


KNOWN = (Tags("<think>", "</think>"), Tags("[THINK]", "[/THINK]"))


def tags_of(template: Template) -> Tags | None:
    """Those that the template's text shows, if any."""
    return next((tags for tags in KNOWN if tags.open in template.source or tags.close in template.source), None)


def end_of(tokenizer: Tokenizer, prompt: tuple[int, ...]) -> str:
    """The last words of a rendered prompt: some templates write the first tag of a thought themselves, or both."""
    return tokenizer.decode(prompt[-32:], skip_special=False).rstrip()


class ThoughtReader:
    """Tells the thought from the answer: pairs (thought, answer) of what became certain.

    A thought stands at the very beginning, or the prompt has opened it. Blanks at its ends are left out, and those
    between it and the answer.
    """

    def __init__(self, tags: Tags, opened: bool = False) -> None:
        self._tags = tags
        self._held, self._said = "", False
        self._state = "thought" if opened else "beginning"

    def push(self, text: str) -> tuple[str, str]:
        self._held += text
        thought = answer = ""
        if self._state == "beginning":
            self._begin()
        if self._state == "thought":
            thought = self._think()
        if self._state == "behind":
            self._held = self._held.lstrip(BLANKS)
            if self._held:
                self._state = "answer"
        if self._state == "answer":
            answer, self._held = self._held, ""
        return thought, answer

    def finish(self) -> tuple[str, str]:
        """What was held, now that no more comes."""
        held, self._held = self._held, ""
        if self._state == "thought":
            return held, ""
        return "", "" if self._state == "behind" else held

    def _begin(self) -> None:
        start = self._held.lstrip(BLANKS)
        if start.startswith(self._tags.open):
            self._held = start[len(self._tags.open) :]
            self._state = "thought"
        elif not self._tags.open.startswith(start):
            self._state = "answer"

    def _think(self) -> str:
        """The part of what is held that is certainly thought."""
        if not self._said:
            self._held = self._held.lstrip(BLANKS)
        before, tag, after = self._held.partition(self._tags.close)
        if tag:
            self._state, self._held = "behind", after
            return before.rstrip(BLANKS)
        certain = self._held[: len(self._held) - begun(self._held, self._tags.close)].rstrip(BLANKS)
        self._held = self._held[len(certain) :]
        self._said = self._said or bool(certain)
        return certain
