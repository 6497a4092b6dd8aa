"""All stages over all examples: what is left, and for each stage why the others went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from paddock.data.instruct.cleaning.recipe import ExampleRecipe
from paddock.data.instruct.cleaning.stages import Tokenizers, said, work_of
from paddock.data.instruct.options import Report
from paddock.data.instruct.records import Example

SAMPLES = 20  # of each stage and reason
EXCERPT = 300  # characters of a sample


@dataclass
class Book:
    """What a stage did. Where nothing was cut, examples_in is examples_out and those of all reasons. samples: (reason,
    place, what was found, the beginning of the text)."""

    stage: str
    examples_in: int = 0
    examples_out: int = 0
    examples_changed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    samples: list[tuple[str, str, str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Cleaned:
    examples: list[Example]
    books: list[Book]


def clean(
    examples: Iterable[Example],
    recipe: ExampleRecipe,
    tokenizers: Tokenizers,
    told: Callable[[str, int], None] = lambda stage, count: None,
) -> Cleaned:
    """Examples after every stage, in order. Raises UsageError and DataError where a stage's files cannot be read."""
    here = list(examples)
    books: list[Book] = []
    for asked in recipe.stages:
        book = Book(asked.stage, len(here))
        work = work_of(asked, here, tokenizers)
        left: list[Example] = []
        for number, example in enumerate(here):
            told(book.stage, number)
            outcome = work(number, example)
            left += outcome.examples
            book.changes.update(outcome.changes)
            book.examples_changed += bool(outcome.changes)
            if not outcome.examples:
                book.reasons[outcome.reason] += 1
                if book.reasons[outcome.reason] <= SAMPLES:
                    excerpt = said(example)[:EXCERPT]
                    book.samples.append((outcome.reason, example.origin.place, outcome.detail, excerpt))
        book.examples_out = len(left)
        books.append(book)
        here = left
    return Cleaned(here, books)


def manifest_of(cleaned: Cleaned, recipe: ExampleRecipe, report: Report) -> dict[str, Any]:
    """What was asked, of what, and what came of it at every stage."""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "inputs": [
            {"path": str(file.path), "kept": dict(file.kept), "dropped": dict(file.dropped)} for file in report.files
        ],
        "examples_in": cleaned.books[0].examples_in,
        "examples_out": len(cleaned.examples),
        "stages": [
            {
                "number": number,
                "stage": book.stage,
                "examples_in": book.examples_in,
                "examples_out": book.examples_out,
                "examples_changed": book.examples_changed,
                "reasons": dict(book.reasons),
                "changes": dict(book.changes),
            }
            for number, book in enumerate(cleaned.books, 1)
        ],
    }


def samples_of(cleaned: Cleaned) -> list[dict[str, Any]]:
    """Examples of what was removed."""
    return [
        {"stage": number, "name": book.stage, "reason": reason, "place": place, "detail": detail, "text": text}
        for number, book in enumerate(cleaned.books, 1)
        for reason, place, detail, text in book.samples
    ]
