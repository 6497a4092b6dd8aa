"""Whether a model answers better where the words of a question were frequent in its training (arXiv 2202.07206)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from scipy import stats

from paddock.data.batch import IGNORED
from paddock.errors import DataError
from paddock.model.step import Step
from paddock.model.transformer import Transformer
from paddock.tokenizer.tokenizer import Tokenizer

ROWS = 64
MAX_TERMS = 100_000


@dataclass(frozen=True)
class Question:
    """`answer` is what should follow `prompt`, blanks included; `terms` must all be in a document for it to count."""

    prompt: str
    answer: str
    terms: tuple[str, ...]


def question(record: object, place: str) -> Question:
    """A question from a record {"prompt", "answer", "terms"}. Raises DataError."""
    values = record if isinstance(record, dict) else {}
    prompt, answer, terms = (values.get(key) for key in ("prompt", "answer", "terms"))
    listed = isinstance(terms, list) and terms and all(isinstance(term, str) and term for term in terms)
    if not (isinstance(prompt, str) and prompt and isinstance(answer, str) and answer and listed):
        raise DataError(f"{place} is no question", expected='{"prompt": TEXT, "answer": TEXT, "terms": [WORD, ...]}')
    assert isinstance(terms, list)
    return Question(prompt, answer, tuple(terms))


def counts(questions: Sequence[Question], documents: Iterable[str]) -> list[int]:
    """In how many documents all terms of each question occur, as whole words, whatever their case."""
    known = {term.casefold() for question in questions for term in question.terms}
    if len(known) > MAX_TERMS:
        raise DataError(f"{len(known)} different terms", expected=f"at most {MAX_TERMS}")
    longest_first = sorted(known, key=len, reverse=True)
    found_in = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, longest_first)) + r")(?!\w)")
    wanted = [{term.casefold() for term in question.terms} for question in questions]
    result = [0] * len(questions)
    for text in documents:
        present = set(found_in.findall(text.casefold()))
        for number, terms in enumerate(wanted):
            result[number] += terms <= present
    return result


@torch.inference_mode()
def answered(model: Transformer, tokenizer: Tokenizer, questions: Sequence[Question]) -> list[bool]:
    """Whether greedy writing after each prompt begins with the answer: each of its tokens is the likeliest in turn."""
    right: list[bool] = []
    for start in range(0, len(questions), ROWS):
        rows = [_row(tokenizer, question) for question in questions[start : start + ROWS]]
        width = max(len(ids) for ids, _ in rows)
        ids, asked = torch.zeros(len(rows), width, dtype=torch.long), torch.full((len(rows), width), IGNORED)
        for row, (whole, prompt) in enumerate(rows):
            ids[row, : len(whole)] = torch.tensor(whole)
            asked[row, prompt - 1 : len(whole) - 1] = torch.tensor(whole[prompt:])
        positions = torch.arange(width).expand(len(rows), -1)  # padding comes last, and nothing before it looks there
        likeliest = model(ids, Step(positions)).argmax(-1)
        right += ((likeliest == asked) | (asked == IGNORED)).all(1).tolist()
    return right


def _row(tokenizer: Tokenizer, question: Question) -> tuple[list[int], int]:
    """The ids of prompt and answer, and how many are the prompt's."""
    prompt = tokenizer.encode(question.prompt)
    answer = tokenizer.encode(question.answer, add_special=False)
    return prompt + answer, len(prompt)


@dataclass(frozen=True)
class Bin:
    """Questions whose terms were together in `low` to `high` documents."""

    low: int
    high: int
    questions: int
    right: int


def by_count(found: Sequence[int], right: Sequence[bool]) -> tuple[list[Bin], float | None]:
    """Accuracy in bins that double (0, 1, 2-3, 4-7, ...), and Spearman's correlation of count and success; None where
    either is the same for all."""
    bins: dict[int, list[bool]] = {}
    for count, success in zip(found, right, strict=True):
        bins.setdefault(count.bit_length(), []).append(success)
    rows = [
        Bin(1 << (bits - 1) if bits else 0, (1 << bits) - 1, len(successes), sum(successes))
        for bits, successes in sorted(bins.items())
    ]
    if len(set(found)) < 2 or len(set(right)) < 2:
        return rows, None
    return rows, float(stats.spearmanr(found, [float(success) for success in right]).statistic)
