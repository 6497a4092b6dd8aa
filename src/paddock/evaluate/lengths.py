"""What a model finds again, by the length of the text and by where in it the answer stands.

A test (`lines`, `numeric_qa`) makes questions of an exact number of tokens; here they are asked and counted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

import numpy as np

from paddock.engine.defaults import GREEDY
from paddock.engine.language_model import LanguageModel
from paddock.errors import ContextLengthError, DataError, TokenizerError, UnsupportedError, UsageError
from paddock.model.spec import Learned
from paddock.model.twin import twin_of

Place = Literal["first", "middle", "last"]
PLACES: tuple[Place, ...] = get_args(Place)
MOST_LENGTHS, LONGEST, MOST_QUESTIONS = 64, 2**20, 10_000
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Question:
    """text: the document with its question. answer: the number that is right. known: what it was before the document
    was altered, where it was. depth: where the answer stands, from 0 (the document's beginning) to 1."""

    text: str
    answer: str
    known: str | None = None
    depth: float = 0.0


class Test(Protocol):
    """Makes questions of as many units (lines, sentences) as are asked for, or of as many as there is room for."""

    @property
    def written(self) -> int:
        """Tokens of an answer at most."""
        ...

    def question(self, units: int, place: Place, random: np.random.Generator) -> Question:
        """Raises UsageError for more units than can be made."""
        ...

    def right(self, question: Question, text: str) -> bool:
        """Whether what was written answers the question."""
        ...


@dataclass(frozen=True)
class Cell:
    """Questions of one length and place. tokens: of a prompt on average. recalled: how often what is known from
    elsewhere was said instead, None where nothing is."""

    length: int
    place: Place
    asked: int
    right: int
    tokens: float
    recalled: int | None

    @property
    def accuracy(self) -> float:
        return self.right / self.asked

    @property
    def stderr(self) -> float:
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.asked)


def ask(
    model: LanguageModel,
    test: Test,
    lengths: Sequence[int],
    questions: int,
    seed: int,
    *,
    chat: bool = False,
    progress: Progress | None = None,
) -> list[Cell]:
    """Asks `questions` at each of the lengths and places, greedily answered; one row for each, in order.

    lengths: tokens of the prompt and its answer together; a prompt has as many units as fit. chat: as a user's message
    in the model's chat template. The same seed asks the same questions. progress: questions done, of how many, and what
    is being asked.

    Raises UsageError for lengths and numbers that cannot be meant, ContextLengthError for lengths beyond the model's
    context (see `beyond`), UnsupportedError for a model that does not write, TokenizerError for one without tokenizer.
    """
    _check(model, lengths, questions)
    cells: list[Cell] = []
    total = len(lengths) * len(PLACES) * questions
    for length in lengths:
        for place in PLACES:
            made = [_made(model, test, length, place, (seed, number), chat) for number in range(questions)]
            right, recalled = 0, 0
            for number, (question, ids) in enumerate(made):
                text = model.generate(ids, test.written, **GREEDY).text
                right += test.right(question, text)
                recalled += question.known is not None and question.known in NUMBER.findall(text)
                if progress is not None:
                    progress(len(cells) * questions + number + 1, total, f"{length} tokens, {place}")
            tokens = sum(len(ids) for _, ids in made) / questions
            known = recalled if made[0][0].known is not None else None
            cells.append(Cell(length, place, questions, right, tokens, known))
    return cells


def beyond(model: LanguageModel, longest: int) -> LanguageModel:
    """The same model with a context of at least `longest` tokens and nothing done to its positions: to see what becomes
    of one that reads more than it was made for. Raises UnsupportedError for a table of learned positions."""
    part = model.architecture
    if isinstance(part.embedding.positions, Learned):
        raise UnsupportedError(f"this {part.family} has no positions beyond {part.embedding.positions.count}")
    if part.context is None or part.context >= longest:
        return model
    twin = twin_of(model.model)
    twin.architecture = replace(part, context=longest)
    return LanguageModel(model.checkpoint, twin, model.tokenizer, model.template)


def _check(model: LanguageModel, lengths: Sequence[int], questions: int) -> None:
    part = model.architecture
    if not part.generates or part.encoder is not None or not part.can_cut_prompt:
        raise UnsupportedError(f"a {part.family} does not go on writing a text, so it answers no questions about one")
    model.tokenizer  # noqa: B018 - only to hear whether there is one
    if not lengths or len(lengths) > MOST_LENGTHS or len(set(lengths)) < len(lengths):
        raise UsageError(f"{len(lengths)} lengths", expected=f"from 1 to {MOST_LENGTHS}, all different")
    if not 1 <= questions <= MOST_QUESTIONS:
        raise UsageError(f"{questions} questions", expected=f"from 1 to {MOST_QUESTIONS:,}")
    for length in lengths:
        if not 16 <= length <= LONGEST:
            raise UsageError(f"a length of {length} tokens", expected=f"from 16 to {LONGEST:,}")
        if part.context is not None and length > part.context:
            raise ContextLengthError(
                f"{length} tokens, and this model reads {part.context}",
                fix="`paddock extend` makes it read more; --beyond reads them all the same",
            )


def _made(
    model: LanguageModel, test: Test, length: int, place: Place, seed: tuple[int, int], chat: bool
) -> tuple[Question, list[int]]:
    """A question of as many units as fit into `length` tokens with an answer, and its ids."""
    room = length - test.written

    def made(units: int) -> tuple[Question, list[int]]:
        random = np.random.default_rng([*seed, length, PLACES.index(place)])
        question = test.question(units, place, random)
        return question, _ids(model, question.text, chat)

    least, most = 2, max(3, room)  # a unit has more than one token
    best = made(least)
    if len(best[1]) > room:
        raise UsageError(f"a question with its answer does not fit into {length} tokens", fix="ask at greater lengths")
    refusal: UsageError | None = None
    while most - least > 1:  # `least` fits, `most` does not, or (`refusal`) there are not so many
        middle = (least + most) // 2
        try:
            found = made(middle)
        except UsageError as error:
            most, refusal = middle, error
            continue
        if len(found[1]) > room:
            most, refusal = middle, None
        else:
            best, least = found, middle
    if refusal is not None:
        raise UsageError(
            f"{length} tokens cannot be filled: {refusal.what}", fix=refusal.fix or "ask at lesser lengths"
        )
    return best


def _ids(model: LanguageModel, text: str, chat: bool) -> list[int]:
    if chat:
        return list(model.chat_prompt([{"role": "user", "content": text}]).ids)
    try:
        ids = model.tokenizer.encode(text)
    except TokenizerError as error:
        raise DataError(f"the model's vocabulary does not spell the questions ({error.what})") from None
    return ids[: len(ids) - len(model.tokenizer.after)]


def by_length(cells: Sequence[Cell]) -> Iterator[tuple[int, list[Cell]]]:
    """The cells of each length, in order."""
    for length in dict.fromkeys(cell.length for cell in cells):
        yield length, [cell for cell in cells if cell.length == length]
