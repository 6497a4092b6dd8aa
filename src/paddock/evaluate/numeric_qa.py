"""Altered numeric questions: a fact's number is changed throughout the document, so that knowing it by heart is wrong.

After the altered WikiQA of Giraffe (arXiv 2308.10882): an answer counts if the changed number is in it (presence
accuracy); what a model knows from pre-training gives itself away by the number before. Documents are made of facts and
sentences of our own, or of a file's records.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddock.data.document import Document
from paddock.data.reading import documents
from paddock.errors import DataError, UsageError
from paddock.evaluate.lengths import NUMBER, Place, Question
from paddock.evaluate.lines import target
from paddock.evaluate.numeric_facts import FACTS, FILLER

HEAD = "Read the text and answer the question with a number.\n\n"
ASK = "\n\nQuestion: {question}\nAnswer:"
ENDS = re.compile(r"(?<=[.!?。！？])\s+|\n+")
MOST_RECORDS = 100_000
TRIES = 1000


@dataclass(frozen=True)
class Record:
    """Sentences of a document, in order, those with the answer among them; the question, and its number."""

    sentences: tuple[str, ...]
    question: str
    answer: str

    @property
    def telling(self) -> list[str]:
        """The sentences in which the number stands."""
        return [sentence for sentence in self.sentences if self.answer in NUMBER.findall(sentence)]


@dataclass(frozen=True)
class NumericQA:
    """records: of a file; None: made of our own facts."""

    records: Sequence[Record] | None = None
    written: int = 24

    def question(self, units: int, place: Place, random: np.random.Generator) -> Question:
        record = self._record(random)
        around = self._around(record, units - 1, random)
        taken = {number for sentence in (*around, record.question) for number in NUMBER.findall(sentence)}
        new = altered(record.answer, random, taken)
        telling = [_changed(sentence, record.answer, new) for sentence in record.telling]
        at = target(units, place, random)
        text = " ".join([*around[:at], *telling, *around[at:]])
        return Question(HEAD + text + ASK.format(question=record.question), new, record.answer, at / max(units - 1, 1))

    def right(self, question: Question, text: str) -> bool:
        return question.answer in NUMBER.findall(text)

    def _record(self, random: np.random.Generator) -> Record:
        if self.records is not None:
            return self.records[int(random.integers(len(self.records)))]
        fact, *others = (FACTS[i] for i in random.permutation(len(FACTS)))
        told = [other.sentence.format(n=other.known) for other in others if other.known != fact.known][:4]
        rest = [*told, *FILLER]
        around = [rest[i] for i in random.permutation(len(rest))]
        return Record((fact.sentence.format(n=fact.known), *around), fact.question, str(fact.known))

    def _around(self, record: Record, count: int, random: np.random.Generator) -> list[str]:
        """Sentences that do not tell the answer: the document's, then other documents', or our own again."""
        found = [sentence for sentence in record.sentences if record.answer not in NUMBER.findall(sentence)]
        if self.records is None:
            return [found[i % len(found)] for i in range(count)]
        for index in random.permutation(len(self.records)) if len(found) < count else ():
            other = self.records[int(index)]
            if other != record:
                found += [part for part in other.sentences if record.answer not in NUMBER.findall(part)]
            if len(found) >= count:
                break
        if len(found) < count:
            raise UsageError(f"the file's documents have {len(found)} sentences besides", fix="add longer documents")
        return found[:count]


def altered(number: str, random: np.random.Generator, taken: Collection[str] = ()) -> str:
    """Another number of as many digits, its marks kept, and none of `taken`: 8,849 may become 3,120."""
    for _ in range(TRIES):
        digits = [str(random.integers(1 if place == 0 else 0, 10)) for place in range(sum(map(str.isdigit, number)))]
        new = "".join(digits.pop(0) if letter.isdigit() else letter for letter in number)
        if new != number and new not in taken:
            return new
    raise DataError(f"there is no other number like {number[:40]} that the document does not hold")


def _changed(sentence: str, old: str, new: str) -> str:
    return NUMBER.sub(lambda match: new if match.group() == old else match.group(), sentence)


def read(path: Path) -> list[Record]:
    """Records {"document", "question", "answer"} of a file (JSON lines, JSON, Parquet); the answer is a number that
    stands in the document.

    Raises DataError, with file and line, for anything else.
    """
    found = []
    for document in documents(path, text_field="document"):
        found.append(_record(document))
        if len(found) > MOST_RECORDS:
            raise DataError(f"{path.name} has more than {MOST_RECORDS:,} records", fix="split it")
    if not found:
        raise DataError(f"{path.name} holds no questions", expected='lines of {"document", "question", "answer"}')
    return found


def _record(document: Document) -> Record:
    where = document.place
    question, answer = (_text(document, name) for name in ("question", "answer"))
    if NUMBER.fullmatch(answer) is None:
        raise DataError(f"{where}: the answer is {answer[:60]!r}", expected="a number")
    sentences = tuple(part for part in ENDS.split(document.text.strip()) if part.strip())
    record = Record(sentences, question, answer)
    if not record.telling:
        raise DataError(f"{where}: the document does not hold the number {answer[:60]}")
    if len(record.telling) == len(sentences):
        raise DataError(f"{where}: every sentence of the document holds the answer", expected="some that do not")
    return record


def _text(document: Document, name: str) -> str:
    text = document.meta.get(name)
    if isinstance(text, int) and not isinstance(text, bool):
        text = str(text)
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{document.place}: {name} is {str(text)[:60]!r}", expected="a text")
    return text.strip()
