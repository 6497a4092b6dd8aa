"""Questions and answers of StackExchange: scores are numbers, whatever a file spells them as."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from paddock.data.cleaning.stage import Item, Outcome, Stage, removed

_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,1000}+>")
_BREAK = re.compile(r"<(?:/p|br ?/?|/li|/pre|/h[1-6]|/blockquote)>", re.IGNORECASE)


def score(value: Any) -> float | None:
    """A score as a number. XML dumps spell it as a string, and as strings "9" is more than "10"."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < 1e15 else None  # and no NaN


def plain(text: str) -> str:
    """Text without HTML tags, entities resolved."""
    if "<" not in text and "&" not in text:
        return text
    return html.unescape(_TAG.sub("", _BREAK.sub("\n", text))).strip()


class Questions(Stage):
    """Keeps questions whose `score_field` in meta is at least `least`.

    Where meta has `answers`, a list of {text, score}, they are joined to the question, best first, those of the same
    score as they came, those below `least_answer` left out: "Q: ...", "A: ...".
    """

    def __init__(self, score_field: str, least: float, least_answer: float, answers: int, strip_html: bool) -> None:
        self.score_field, self.least, self.least_answer = score_field, least, least_answer
        self.answers, self.strip_html = answers, strip_html

    def apply(self, item: Item) -> Outcome:
        document = item.document
        found = document.meta.get(self.score_field)
        if found is None:
            return removed("no score", f"meta has no {self.score_field}")
        number = score(found)
        if number is None:
            return removed("score is no number", repr(found)[:80])
        if number < self.least:
            return removed("score too low", f"{number:g}, least {self.least:g}")
        text = plain(document.text) if self.strip_html else document.text
        answers = document.meta.get("answers")
        changes = {"html": 1} if text != document.text else {}
        meta = dict(document.meta)
        if isinstance(answers, list | tuple):
            chosen = self._best(answers)
            text = "\n\n".join([f"Q: {text}", *(f"A: {answer}" for answer in chosen)])
            meta["answers"] = len(chosen)
            changes = {**changes, "answers": len(chosen)}
        return Outcome(replace(document, text=text, meta=meta) if changes else document, changes=changes)

    def _best(self, answers: Any) -> list[str]:
        scored = []
        for answer in answers:
            if isinstance(answer, Mapping) and isinstance(text := answer.get("text"), str):
                number = score(answer.get("score"))
                if number is not None and number >= self.least_answer:
                    scored.append((number, plain(text) if self.strip_html else text))
        scored.sort(key=lambda each: -each[0])  # stable: equals stay in order
        return [text for _, text in scored[: self.answers]]
